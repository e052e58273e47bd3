"""Which Kubernetes: from what a person types to one version that the Go module proxy serves. Pure."""

import re
from collections.abc import Iterable

from vkcri.errors import ConfigError

DEFAULT = "1.37.2"
_WANTED = re.compile(r"v?1\.(\d+)(?:\.(\d+))?")
_RELEASE = re.compile(r"v1\.(\d+)\.(\d+)")


def parse(wanted: str) -> tuple[int, int | None]:
    """`1.34`, `v1.34.2` or nothing (DEFAULT) as (minor, patch or None). Raises ConfigError for anything else."""
    found = _WANTED.fullmatch(wanted.strip() or DEFAULT)
    if found is None:
        raise ConfigError(f"KUBERNETES={wanted!r}: a minor version such as 1.34, or a patch version such as 1.34.2")
    return int(found[1]), None if found[2] is None else int(found[2])


def newest(minor: int, listed: Iterable[str]) -> str:
    """The newest patch release of a minor among module versions, as `v1.34.2`. Raises ConfigError without one."""
    patches = [int(found[2]) for found in map(_RELEASE.fullmatch, listed) if found and int(found[1]) == minor]
    if not patches:
        raise ConfigError(f"KUBERNETES=1.{minor}: the Go module proxy lists no release of it")
    return f"v1.{minor}.{max(patches)}"


def is_release(version: str) -> bool:
    """Whether this is a release as Kubernetes names it: `v1.34.2`, not `v1.34.2+k3s1` or a release candidate."""
    return _RELEASE.fullmatch(version) is not None


def staging(version: str) -> str:
    """The version of Kubernetes' published parts (k8s.io/api, ...) that belongs to `v1.34.2`: `v0.34.2`."""
    return version.replace("v1.", "v0.", 1)
