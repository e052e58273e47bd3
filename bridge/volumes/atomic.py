"""Writes a volume's files so that a reader sees the old set or the new one, never a mixture: the kubelet's
AtomicWriter.

    name        -> ..data/name                 what the container sees
    ..data      -> ..2026_11_23_21_41_00.123   replaced by one rename(2)
    ..2026_...  the files

Called by the pod's worker only. A crash at any point leaves a folder that the next `write` repairs.
"""

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vkcri.errors import Invalid

_DATA = "..data"
_DATA_NEW = "..data_tmp"
MAX_PATH = 4096
READ_BITS = 0o440
WRITE_BITS = 0o660
FOLDER_BITS = 0o2110


@dataclass(frozen=True)
class File:
    """One file's content, permission bits and owner (None: root)."""

    data: bytes
    mode: int = 0o644
    user: int | None = None


Payload = Mapping[str, File]


def check_path(path: str) -> None:
    """Raises Invalid unless path is relative, stays inside and does not begin with '..' (which is ours)."""
    if not path or path.startswith("/") or "\0" in path:
        raise Invalid(f"invalid path {path!r}: must be relative path")
    if len(path) > MAX_PATH:
        raise Invalid(f"invalid path: must be less than or equal to {MAX_PATH} characters")
    if ".." in path.split("/"):
        raise Invalid(f"invalid path {path!r}: must not contain '..'")
    if path.startswith(".."):
        raise Invalid(f"invalid path {path!r}: must not start with '..'")
    if os.path.normpath(path) in (".", _DATA):
        raise Invalid(f"invalid path {path!r}: must not be empty")


def write(folder: Path, payload: Payload, *, group: int | None = None) -> bool:
    """Make folder show exactly payload (paths relative to it). True if anything changed. group: the pod's fsGroup,
    which then owns everything and may read it. Raises Invalid for a bad path before anything is written, OSError."""
    for path in payload:
        check_path(path)
    files = {os.path.normpath(path): file for path, file in payload.items()}
    _set_group(folder, group, folder.stat().st_mode & 0o7777)
    current = _current(folder)
    changed = current is None or not _shows(folder / current, files, group)
    if changed:
        current = _write_set(folder, files, group)
        _replace_link(folder, current)
    _link_names(folder, {path.split("/")[0] for path in files})
    _remove_leftovers(folder, current)
    return changed


def _current(folder: Path) -> str | None:
    try:
        target = os.readlink(folder / _DATA)
    except FileNotFoundError:
        return None
    return target if "/" not in target and (folder / target).is_dir() else None


def _shows(folder: Path, files: Payload, group: int | None) -> bool:
    """Whether that folder already holds exactly these files."""
    found = {os.path.relpath(os.path.join(root, name), folder) for root, _, names in os.walk(folder) for name in names}
    if found != set(files):
        return False
    for path, file in files.items():
        status = (folder / path).stat()
        owner = (file.user or 0, 0 if group is None else group)
        if (status.st_uid, status.st_gid) != owner or status.st_mode & 0o7777 != _mode(file, group):
            return False
        if status.st_size != len(file.data) or (folder / path).read_bytes() != file.data:
            return False
    return True


def _write_set(folder: Path, files: Payload, group: int | None) -> str:
    """A new time-stamped folder with the files; its name."""
    nanos = time.time_ns()
    name = time.strftime("..%Y_%m_%d_%H_%M_%S", time.gmtime(nanos // 10**9)) + f".{nanos % 10**9:09d}"
    target = folder / name
    _make_folder(target, group)
    for path, file in sorted(files.items()):
        parent = target
        for step in path.split("/")[:-1]:
            parent = parent / step
            if not parent.is_dir():
                _make_folder(parent, group)
        _write_file(target / path, file, group)
    return name


def _make_folder(path: Path, group: int | None) -> None:
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    _set_group(path, group, 0o755)


def _set_group(path: Path, group: int | None, mode: int) -> None:
    """With an fsGroup, what is created in a folder belongs to the group too."""
    if group is not None and (path.stat().st_gid != group or mode | READ_BITS | FOLDER_BITS != mode):
        os.chown(path, -1, group)
        path.chmod(mode | READ_BITS | FOLDER_BITS)


def _write_file(path: Path, file: File, group: int | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(file.data)
        os.fchown(descriptor, file.user or 0, 0 if group is None else group)
        os.fchmod(descriptor, _mode(file, group))


def _mode(file: File, group: int | None) -> int:
    return file.mode & 0o7777 | (READ_BITS if group is not None else 0)


def _replace_link(folder: Path, name: str) -> None:
    new = folder / _DATA_NEW
    new.unlink(missing_ok=True)
    new.symlink_to(name)
    new.rename(folder / _DATA)


def _link_names(folder: Path, wanted: set[str]) -> None:
    """A link for every top-level name, and none for a name that has gone."""
    present = {entry.name for entry in os.scandir(folder) if not entry.name.startswith("..")}
    for name in present - wanted:
        path = folder / name
        if path.is_symlink():
            path.unlink()
    for name in wanted:
        path = folder / name
        target = f"{_DATA}/{name}"
        if path.is_symlink() and os.readlink(path) == target:
            continue
        if path.is_dir() and not path.is_symlink():
            path.rmdir()  # an empty folder that a subPath of a missing key made
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def _remove_leftovers(folder: Path, current: str | None) -> None:
    """Older sets, and what a crash left behind."""
    for entry in list(os.scandir(folder)):
        if entry.name.startswith("..2") and entry.name != current:
            shutil.rmtree(entry.path)
    (folder / _DATA_NEW).unlink(missing_ok=True)
