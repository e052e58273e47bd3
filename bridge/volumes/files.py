"""A container's own host files: the managed hosts file, the termination-message file, the bound subPaths.

Made by the pod's worker before CreateContainer, after the sandbox has its address.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.spec import hosts, mounts
from bridge.spec.context import ContainerFiles, PodContext
from bridge.volumes import subpath
from vkcri.api import pods
from vkcri.errors import Invalid, Unavailable

_KEPT_ATTEMPTS = 3
_log = logging.getLogger(__name__)


def container_files(
    folder: Path, pod: pods.Pod, container: dict[str, Any], ctx: PodContext, attempt: int
) -> ContainerFiles:
    """Make them below the pod's folder. Raises Invalid with the kubelet's message."""
    return ContainerFiles(
        hosts=_hosts(folder, pod, ctx) if hosts.wanted(pod, container, ctx) else "",
        termination=str(_termination(folder, container, attempt)),
        subpaths=_subpaths(folder, pod, container, ctx),
    )


def termination_file(folder: Path, container: str, attempt: int) -> Path:
    return folder / "containers" / container / str(attempt)


def hosts_file(folder: Path) -> Path:
    return folder / "etc-hosts"


def _hosts(folder: Path, pod: pods.Pod, ctx: PodContext) -> str:
    """Written in place, since running containers have the file bound: they see a change, not an old copy."""
    try:
        node_hosts = Path("/etc/hosts").read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        node_hosts = ""
    path = hosts_file(folder)
    data = hosts.content(pod, ctx, node_hosts).encode("utf-8", "surrogateescape")
    if not path.exists() or path.read_bytes() != data:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.truncate()
            os.fchmod(descriptor, 0o644)
    return str(path)


def _termination(folder: Path, container: Mapping[str, Any], attempt: int) -> Path:
    """An empty file that anybody may write, its own for every attempt; those of long ago go."""
    path = termination_file(folder, container["name"], attempt)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    for old in path.parent.iterdir():
        if old.name.isdigit() and int(old.name) <= attempt - _KEPT_ATTEMPTS:
            old.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
    os.fchmod(descriptor, 0o666)
    os.close(descriptor)
    return path


def _subpaths(folder: Path, pod: pods.Pod, container: dict[str, Any], ctx: PodContext) -> dict[int, str]:
    wanted = mounts.subpaths(pod, container, ctx)
    found: dict[int, str] = {}
    for index, relative in wanted.items():
        name = container["volumeMounts"][index]["name"]
        volume = ctx.volumes.get(name)
        if volume is None:
            raise Invalid(f'cannot find volume "{name}" to mount into container "{container["name"]}"')
        if volume.kind == "image":
            found[index] = relative  # the runtime looks for it
            continue
        target = folder / "volume-subpaths" / name / container["name"] / str(index)
        try:
            subpath.bind(Path(volume.path), relative, target)
        except (OSError, Unavailable) as error:
            # The reason may say something about the host's files, so it goes to the log and not to the pod's status.
            _log.warning("%s: subPath of volumeMount %s: %s", pods.full_name(pod), name, error)
            message = f'failed to prepare subPath for volumeMount "{name}" of container "{container["name"]}"'
            raise Invalid(message) from error
        found[index] = str(target)
    return found
