"""How much of a file system is taken: by all, by a folder, by a container's logs.

A walk may take long: it runs off the request's path (volumes).
"""

import os
import stat
import time
from collections.abc import Iterator
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


def taken_by(path: Path) -> Taken:
    """All below a folder (or one file), on its own file system only, hard links once: what the kubelet counts of a
    volume. Raises OSError where the folder itself cannot be read."""
    top = path.stat()
    size, count, seen = top.st_blocks * _BLOCK, 1, {top.st_ino}
    for found in _below(str(path), top.st_dev) if stat.S_ISDIR(top.st_mode) else ():
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


def _below(path: str, device: int) -> Iterator[os.stat_result]:
    """What lies below, folders included, as long as it lies on that device. What goes away meanwhile is left out."""
    folders = [path]
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except FileNotFoundError:
            continue
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if found.st_dev == device:
                    yield found
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(entry.path)
