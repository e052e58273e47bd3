"""A kubelet on the same CRI socket stops every pod that it does not know, whatever its label: such a guest is refused.

Asked once by cri-bridge at its start and by `vkcri doctor`. Only processes are looked at; nothing is changed.
"""

import os
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from bridge.containerd import processes
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError

DEFAULT_ENDPOINT = "unix:///run/containerd/containerd.sock"  # the kubelet's own default
_FLAG, _CONFIG = "container-runtime-endpoint", "config"
_FIELD = re.compile(r"""^containerRuntimeEndpoint:\s*["']?([^"'\s#]+)""", re.MULTILINE)


def refuse_rival(settings: RuntimeSettings) -> None:
    """Raises ConfigError, with its cures, where a kubelet uses our CRI endpoint."""
    for pid, words in processes():
        endpoint = kubelet_endpoint([os.fsdecode(word) for word in words], Path(f"/proc/{pid}/root"))
        if endpoint is not None and _path(endpoint) == _path(settings.runtime_endpoint):
            raise ConfigError(
                f"a kubelet (pid {pid}) uses CRI at {endpoint} and stops every pod that it does not know: end it "
                "(systemctl disable --now kubelet), or give vkcri another runtime with CONTAINER_RUNTIME_ENDPOINT"
            )


def kubelet_endpoint(words: list[str], root: Path = Path("/")) -> str | None:
    """The CRI endpoint of a kubelet with this command line, from its flag, its configuration file (below `root`) or its
    default; None for a program that is no kubelet. Others that embed one are known by that flag only."""
    flags = _flags(words[1:])
    if Path(words[0]).name != "kubelet":
        return flags.get(_FLAG)
    if _FLAG in flags:
        return flags[_FLAG]
    if _CONFIG in flags:
        try:
            found = _FIELD.search((root / flags[_CONFIG].lstrip("/")).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            found = None  # it has read the file and it was removed since
        if found is not None:
            return found[1]
    return DEFAULT_ENDPOINT


def _flags(words: list[str]) -> Mapping[str, str]:
    """`--name=value` and `--name value`; the last one of a name wins."""
    flags: dict[str, str] = {}
    for word, following in pairwise([*words, ""]):
        if word.startswith("-"):
            name, equals, value = word.lstrip("-").partition("=")
            flags[name] = value if equals else following
    return flags


def _path(endpoint: str) -> str:
    """An endpoint's socket with links such as /var/run resolved."""
    return os.path.realpath(endpoint.removeprefix("unix://"))
