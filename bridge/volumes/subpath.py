"""subPath and env files, safe against escape: resolved by the kernel within the volume (openat2), used by descriptor.

A container may change links inside its volume at any moment, so nothing here is looked up twice by name: the descriptor
that was checked is the one that is bound. Source: the kubelet's subpath package, CVE-2017-1002101 and CVE-2021-25741.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.volumes import mounting
from vkcri.errors import Invalid, NotFound

_OPENAT2 = 437  # the same number on every architecture
_BENEATH = 0x08 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_AS_ROOT = 0x10 | 0x02  # RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_LINE_BYTES = 64 * 1024  # the kubelet's bufio.Scanner takes none longer
_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    """struct open_how."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def bind(volume: Path, relative: str, target: Path) -> None:
    """Bind `relative` inside volume to target (a file or folder made here), creating missing folders with the volume's
    mode. A target that is bound already is bound anew. Raises OSError where the path leads out of the volume."""
    root = os.open(volume, os.O_PATH | os.O_CLOEXEC)
    try:
        descriptor = _opened(root, relative)
        try:
            mounting.unmount_below(target)
            _make_target(target, is_folder=stat.S_ISDIR(os.fstat(descriptor).st_mode))
            mounting.bind_descriptor(descriptor, target)
        finally:
            os.close(descriptor)
    finally:
        os.close(root)


def lines(volume: Path, relative: str) -> Iterator[bytes]:
    """The lines of a regular file in the volume, whose links lead nowhere but into the volume. Raises NotFound,
    Invalid."""
    try:
        root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = _open(root, relative, _AS_ROOT)
        finally:
            os.close(root)
    except OSError as error:
        raise NotFound(f"failed to open environment variable file {relative}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise Invalid(f"{relative} is no regular file")
        file = open(f"/proc/self/fd/{found}", "rb")  # noqa: SIM115  closed below
    finally:
        os.close(found)
    with file:
        while line := file.readline(_LINE_BYTES):
            if len(line) == _LINE_BYTES and not line.endswith(b"\n"):
                raise Invalid(f"{relative}: a line is too long")
            yield line


def _opened(root: int, relative: str) -> int:
    """A path descriptor of `relative` beneath root; folders that are missing are made on the way."""
    try:
        return _open_beneath(root, relative)
    except FileNotFoundError:
        _make_folders(root, relative)
        return _open_beneath(root, relative)


def _make_folders(root: int, relative: str) -> None:
    """Make what is missing of relative, each step inside the step before, with the mode of the volume's root. A link on
    the way is followed beneath the root only."""
    mode = os.fstat(root).st_mode & 0o7777
    done = ""
    for step in (part for part in relative.split("/") if part not in ("", ".")):
        parent = _open_beneath(root, done or ".")
        try:
            os.mkdir(step, dir_fd=parent)
            made = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            os.fchmod(made, mode)
            os.close(made)
        except FileExistsError:
            pass  # the usual case for the first steps; a race with another container ends the same
        finally:
            os.close(parent)
        done = f"{done}/{step}" if done else step


def _open_beneath(root: int, relative: str) -> int:
    return _open(root, relative, _BENEATH)


def _open(root: int, relative: str, resolve: int) -> int:
    how = _How(flags=os.O_PATH | os.O_CLOEXEC, mode=0, resolve=resolve)
    for _ in range(16):
        descriptor = _libc.syscall(_OPENAT2, root, os.fsencode(relative), ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return int(descriptor)
        code = ctypes.get_errno()
        if code != errno.EAGAIN:  # EAGAIN: something was renamed meanwhile
            break
    raise OSError(code, os.strerror(code), relative)


def _make_target(target: Path, *, is_folder: bool) -> None:
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if is_folder:
        if target.is_file():
            target.unlink()
        target.mkdir(mode=0o750, exist_ok=True)
    else:
        if target.is_dir():
            target.rmdir()
        target.touch(mode=0o640)
