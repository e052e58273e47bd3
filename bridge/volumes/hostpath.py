"""hostPath: a path of the guest itself, checked (and for the OrCreate types made) as its type asks."""

import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge.volumes.source import Surroundings
from vkcri.errors import Invalid

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "file"),
    "FileOrCreate": (stat.S_ISREG, "file"),
    "Socket": (stat.S_ISSOCK, "socket file"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


def prepare(_name: str, source: Mapping[str, Any], _around: Surroundings) -> Path:
    """The path. Raises Invalid with the kubelet's message where it is not of its type."""
    path, kind = str(source.get("path") or ""), str(source.get("type") or "")
    if not path.startswith("/") or ".." in path.split("/"):
        raise Invalid(f"hostPath path {path!r} must be absolute and must not contain '..'")
    if not kind:
        return Path(path)
    if kind not in _CHECKS:
        raise Invalid(f'"{kind}" is an invalid volume type')
    target = Path(path)
    if kind.endswith("OrCreate") and not target.exists():
        _create(target, kind)
    test, word = _CHECKS[kind]
    try:
        mode = target.stat().st_mode
    except OSError as error:
        raise Invalid(f"hostPath type check failed: {path} is not a {word}") from error
    if not test(mode):
        raise Invalid(f"hostPath type check failed: {path} is not a {word}")
    return target


def _create(target: Path, kind: str) -> None:
    """A folder with its parents (0755), or an empty file (0644) in a folder that exists."""
    try:
        if kind == "DirectoryOrCreate":
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            target.touch(mode=0o644)
    except OSError as error:
        raise Invalid(f"hostPath {target} cannot be created: {error.strerror}") from error
