"""How much of a file system is taken: by all, by a folder, by a container's logs.

A walk may take long: it runs off the request's path (volumes).
"""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512  # the unit of st_blocks, whatever the file system's


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Bytes and inodes; `time` in nanoseconds since the epoch."""

    time: int
    available: int
    capacity: int
    used: int
    inodes: int
    inodes_free: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What something takes of a file system."""

    time: int
    bytes: int
    inodes: int


def filesystem(path: str | Path) -> Filesystem:
    """The file system that path lies on. Raises OSError."""
    found = os.statvfs(path)
    unit = found.f_frsize
    return Filesystem(
        time.time_ns(),
        found.f_bavail * unit,
        found.f_blocks * unit,
        (found.f_blocks - found.f_bfree) * unit,
        found.f_files,
        found.f_ffree,
    )


def taken_by(path: Path, progress: Callable[[], object] = lambda: None) -> Taken:
    """All below a folder (or one file), on its own file system only, hard links once: what the kubelet counts of a
    volume. progress() is called for each entry, and what it raises ends the count. Raises OSError where something
    cannot be read."""
    top = path.stat()
    size, count, seen = top.st_blocks * _BLOCK, 1, {top.st_ino}
    for found in _below(str(path), top) if stat.S_ISDIR(top.st_mode) else ():
        progress()
        if found.st_nlink > 1:
            if found.st_ino in seen:
                continue
            seen.add(found.st_ino)
        size, count = size + found.st_blocks * _BLOCK, count + 1
    return Taken(time.time_ns(), size, count)


def taken_by_files(folder: Path) -> Taken:
    """The files right in a folder, such as a container's logs. Raises OSError."""
    size = count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                try:
                    size, count = size + entry.stat(follow_symlinks=False).st_blocks * _BLOCK, count + 1
                except FileNotFoundError:
                    continue  # rotated away
    return Taken(time.time_ns(), size, count)


def _below(path: str, top: os.stat_result) -> Iterator[os.stat_result]:
    """What lies below, folders included, as long as it lies on the same device. What goes away meanwhile, or is swapped
    for something else by who may write there, is left out."""
    folders = [(path, top)]
    while folders:
        name, seen = folders.pop()
        descriptor = _open(name, seen)
        if descriptor is None:
            continue
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if found.st_dev == top.st_dev:
                        yield found
                        if stat.S_ISDIR(found.st_mode):
                            folders.append((f"{name}/{entry.name}", found))
        finally:
            os.close(descriptor)


def _open(folder: str, seen: os.stat_result) -> int | None:
    """The folder that was seen under that name; None where it is not there any more. Raises OSError."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    if os.path.samestat(os.fstat(descriptor), seen):
        return descriptor
    os.close(descriptor)
    return None
