"""mount(2) and umount(2), and what is mounted where: the only module that changes the guest's mount table.

All mounts are made in the host's namespace. Calls are made by a pod's worker; the kernel answers at once for tmpfs and
bind mounts (no network file system is mounted here), so no call needs a deadline of its own. Failures leave as
Unavailable.
"""

import ctypes
import errno
import functools
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from vkcri.errors import Unavailable

MS_REMOUNT_BIND = 0x20 | 0x1000
MS_BIND = 0x1000
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_ROUNDS = 64
_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]


def mount(source: str, target: str | Path, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2). Raises Unavailable with the kernel's reason."""
    path = os.fspath(target).encode()
    if _libc.mount(source.encode(), path, kind.encode(), flags, options.encode() or None) != 0:
        code = ctypes.get_errno()
        raise Unavailable(f"mount {kind or 'bind'} on {target}: {os.strerror(code)}") from OSError(
            code, os.strerror(code)
        )


def mount_tmpfs(target: Path, *, mode: int = 0o1777, group: int | None = None, size: int | None = None) -> None:
    """A tmpfs that is never swapped out where the kernel can promise that (6.3 and later), which secrets want."""
    options = [f"mode={mode:o}"]
    if group is not None:
        options.append(f"gid={group}")
    if size is not None:
        options.append(f"size={size}")
    if _noswap_known():
        options.append("noswap")
    mount("tmpfs", target, "tmpfs", options=",".join(options))


@functools.cache
def _noswap_known() -> bool:
    """Whether tmpfs knows the option (Linux 6.3); by version, since each refusal is a line in the kernel's log."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= (6, 3)


def bind_descriptor(descriptor: int, target: Path) -> None:
    """Bind what an open descriptor refers to, so that nothing can be swapped in between check and mount."""
    mount(f"/proc/self/fd/{descriptor}", target, "", MS_BIND)


def is_mounted(path: Path) -> bool:
    """Whether another file system begins there: told by its device, without reading the whole mount table. A bind mount
    of the same file system is not seen."""
    return os.path.ismount(path)


def mounts_below(path: Path) -> list[str]:
    """Every mount point at or below path, one entry a mount, the last mounted first."""
    prefix = os.fspath(path)
    return [point for point in reversed(list(_mount_points())) if point == prefix or point.startswith(f"{prefix}/")]


def unmount(path: str | Path) -> None:
    """Take one mount away; one that is busy is detached lazily, and that is said. Nothing mounted there is no error.
    Raises Unavailable."""
    target = os.fspath(path).encode()
    for flags in (_UMOUNT_NOFOLLOW, _UMOUNT_NOFOLLOW | _MNT_DETACH):
        if _libc.umount2(target, flags) == 0:
            if flags & _MNT_DETACH:
                _log.warning("%s was busy and has been detached; it goes away with its last user", path)
            return
        code = ctypes.get_errno()
        if code in (errno.EINVAL, errno.ENOENT):
            return
        if code != errno.EBUSY:
            raise Unavailable(f"umount {path}: {os.strerror(code)}")
    raise Unavailable(f"umount {path}: still busy")


def unmount_below(path: Path) -> None:
    """Take away every mount at or below path, stacked ones too. Raises Unavailable if some remain."""
    for _ in range(_ROUNDS):
        found = mounts_below(path)
        if not found:
            return
        for point in found:
            unmount(point)
    raise Unavailable(f"mounts below {path} keep coming back: {', '.join(mounts_below(path)[:3])}")


def _mount_points() -> Iterator[str]:
    """Mount points in the order of mounting, octal escapes undone."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = line.split(" ", 5)[4]
            yield re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), point) if "\\" in point else point
