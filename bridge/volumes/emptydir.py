"""emptyDir: a folder of the pod's own, 0777 on disk, or (medium: Memory) a tmpfs bounded by sizeLimit and memory limit,
1777 as every tmpfs that is mounted without a mode, which the kubelet leaves so."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.volumes import mounting, ownership
from bridge.volumes.atomic import FOLDER_BITS, WRITE_BITS
from bridge.volumes.source import Surroundings
from vkcri.api import quantities, resources
from vkcri.errors import Refused

PLUGIN = "kubernetes.io/empty-dir"


def prepare(name: str, source: Mapping[str, Any], around: Surroundings) -> Path:
    """The folder, made once: what a container wrote stays through every later call. Raises Refused, Unavailable."""
    path = around.path(PLUGIN, name)
    medium = str(source.get("medium") or "")
    if medium not in ("", "Memory"):
        raise Refused(f'emptyDir medium "{medium}" is not supported by this node')
    group = ownership.fs_group(around.pod)
    mode = 0o777 if group is None else 0o777 | WRITE_BITS | FOLDER_BITS
    if medium == "":
        make_folder(path, mode, group)
        return path
    path.mkdir(mode=0o750, parents=True, exist_ok=True)
    if not mounting.is_mounted(path):
        mounting.mount_tmpfs(path, mode=mode | stat.S_ISVTX, group=group, size=_size(source, around))
    return path


def make_folder(path: Path, mode: int, group: int | None) -> None:
    """A folder that appears with its final mode and group, so that a crash leaves none half made."""
    if path.is_dir():
        return
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.mkdir(exist_ok=True)
    if group is not None:
        os.chown(new, -1, group)
    new.chmod(mode)
    new.rename(path)


def _size(source: Mapping[str, Any], around: Surroundings) -> int | None:
    """The least of sizeLimit, the pod's memory limit and the node's allocatable memory; None where none is known."""
    bounds = []
    if source.get("sizeLimit"):
        bounds.append(quantities.value(source["sizeLimit"]))
    if resources.limits_declared(around.pod, "memory"):
        bounds.append(int(resources.pod_limits(around.pod).get("memory", 0)))
    if around.allocatable.get("memory"):
        bounds.append(quantities.value(around.allocatable["memory"]))
    return min((bound for bound in bounds if bound > 0), default=None)
