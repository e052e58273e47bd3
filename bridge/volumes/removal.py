"""A folder that a pod could write to, removed whole: however many files lie in it and however deep.

No recursion and never more than two descriptors: a folder that is found below another is moved up before it is
emptied. No symbolic link is followed. What breaks off is finished by the next call.
"""

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_MOVED = ".to-be-removed-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: Path, progress: Callable[[], object]) -> None:
    """Nothing may be mounted below. progress() is called for each entry that is gone. Raises OSError,
    FileNotFoundError where there is no such folder."""
    top = os.open(folder, _FOLDER)
    try:
        numbers = itertools.count()
        while _empty_once(top, numbers, progress):
            pass
    finally:
        os.close(top)
    folder.rmdir()


def _empty_once(top: int, numbers: Iterator[int], progress: Callable[[], object]) -> bool:
    """Remove what lies right in it, what lay in its folders now lies in it; False if it was empty."""
    found = False
    with os.scandir(top) as entries:
        for entry in entries:
            found = True
            if entry.is_dir(follow_symlinks=False):
                _remove_folder(entry.name, top, numbers, progress)
            else:
                os.unlink(entry.name, dir_fd=top)
            progress()
    return found


def _remove_folder(name: str, top: int, numbers: Iterator[int], progress: Callable[[], object]) -> None:
    folder = os.open(name, _FOLDER, dir_fd=top)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _move_up(entry.name, folder, top, numbers)
                else:
                    os.unlink(entry.name, dir_fd=folder)
                progress()
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _move_up(name: str, folder: int, top: int, numbers: Iterator[int]) -> None:
    """Under a name that nothing has there but, at most, an empty folder."""
    for number in numbers:
        try:
            os.rename(name, f"{_MOVED}{number}", src_dir_fd=folder, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        else:
            return
