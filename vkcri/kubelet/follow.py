"""A log that still grows, followed across rotation until its container has ended and its last byte was read.

`follow` runs on the thread of the request that asks. `FolderWatches` is one watchdog Observer, with a watch of a
container's folder only while somebody follows it; its events are hints, and every LOOK_SECONDS there is a look without
one. Rotation renames N.log to N.log.TIME and makes a new N.log: the old file is drained, then those between, then the
new one. A runtime goes on writing to the old one for a moment after it has made the new one, and to the last one after
it has said that the container ended (containerd empties what it had read from the container), so a file is left once
nobody has it open to write, or has written to it for WRITER_SECONDS. A follower that reads slowly holds its own files
open and costs nobody else anything.
"""

import errno
import fcntl
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch

from vkcri.kubelet.logs import Blocks, Options, RecordReader, Renderer, open_at, rotations

LOOK_SECONDS = 1.0
UNWATCHED_SECONDS = 0.2  # where inotify has no watch left
WRITER_SECONDS = 10.0  # a complete file that somebody has open to write, and does not write to, is left then
UNTOLD_SECONDS = 1.0  # the same, where the kernel does not tell whether somebody has
_WRITER_LOOK = 0.02  # between two looks at who has it open, whatever goes on in its folder
LOG = logging.getLogger(__name__)
_EVENTS: list[type[FileSystemEvent]] = [
    FileModifiedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileDeletedEvent,
]


class Hint:
    """Wakes one follower. `watched` is False where it must look more often by itself."""

    def __init__(self) -> None:
        self.watched = False
        self._first = 0.05  # the kernel's watch begins a moment after it was asked for
        self._event = threading.Event()

    def give(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def wait(self) -> None:
        """Until a hint, or until it is time for a look."""
        seconds = min(self._first, LOOK_SECONDS if self.watched else UNWATCHED_SECONDS)
        self._first *= 2
        self._event.wait(seconds)


class _Folder(FileSystemEventHandler):
    """A followed folder and its followers."""

    def __init__(self) -> None:
        self.hints: frozenset[Hint] = frozenset()
        self.watch: ObservedWatch | None = None

    def on_any_event(self, event: FileSystemEvent) -> None:
        del event
        for hint in self.hints:
            hint.give()


class FolderWatches:
    """Watches of folders, counted by their followers. Thread-safe; the Observer runs from the first follower on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._folders: dict[Path, _Folder] = {}
        self._observer: BaseObserver | None = None

    @contextmanager
    def hints(self, folder: Path) -> Iterator[Hint]:
        """A Hint for changes in that folder, as long as the context lasts."""
        hint = Hint()
        with self._lock:
            entry = self._folders.setdefault(folder, _Folder())
            entry.hints |= {hint}
            if entry.watch is None:
                entry.watch = self._schedule(folder, entry)
            hint.watched = entry.watch is not None
        try:
            yield hint
        finally:
            with self._lock:
                entry.hints -= {hint}
                if not entry.hints:
                    del self._folders[folder]
                    self._unschedule(entry)

    def followers(self) -> int:
        """How many follow now."""
        with self._lock:
            return sum(len(entry.hints) for entry in self._folders.values())

    def watched(self) -> list[Path]:
        """The folders that the kernel watches for us now."""
        with self._lock:
            return [folder for folder, entry in self._folders.items() if entry.watch is not None]

    def close(self) -> None:
        """End the Observer's threads."""
        with self._lock:
            observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()

    def _schedule(self, folder: Path, entry: _Folder) -> ObservedWatch | None:
        if self._observer is None:
            self._observer = Observer()
            self._observer.start()
        try:
            return self._observer.schedule(entry, str(folder), event_filter=_EVENTS)
        except OSError as error:  # the folder is gone, or inotify's limits are reached
            LOG.warning("%s is looked at %g times a second, not watched: %s", folder, 1 / UNWATCHED_SECONDS, error)
            return None

    def _unschedule(self, entry: _Folder) -> None:
        if entry.watch is not None and self._observer is not None:
            self._observer.unschedule(entry.watch)


def follow(
    path: Path, options: Options, hint: Hint, *, running: Callable[[], bool], stop: Callable[[], bool]
) -> Blocks:
    """The log's text from the options' start on, as it is written. The file is opened before the first block is asked
    for. Ends once `running` is False, nobody writes to it any more and all is read; once the limit is reached; or once
    `stop` is True.

    `hint` may be given by others too, when what `running` says has changed. Raises NotFound.
    """
    file, _ = open_at(path, options)
    held = [file]  # all that are open: the one that is read, and for a moment the one after it

    def give_back() -> None:
        while held:
            held.pop().close()

    return Blocks(_follow(path, held, options, hint, running, stop), give_back)


def _follow(
    path: Path,
    held: list[BinaryIO],
    options: Options,
    hint: Hint,
    running: Callable[[], bool],
    stop: Callable[[], bool],
) -> Iterator[bytes]:
    yield b""  # an answer's head goes out before the first line is there
    renderer, reader = Renderer(options), RecordReader(held[0])
    quiet_since = time.monotonic()
    while not renderer.done and not stop():
        hint.clear()
        ended = not running()
        rotated = _open_successor(path, held)
        # All three are known before the drain: a file that nobody writes to gets no more.
        unfinished = (rotated or ended) and _may_be_written(held[0], time.monotonic() - quiet_since)
        while not renderer.done and not stop() and (records := reader.read()):
            yield renderer.feed(records)
            quiet_since = time.monotonic()
        if renderer.done or stop():
            return
        if unfinished:
            _keep_first(held)
            time.sleep(_WRITER_LOOK)
            hint.wait()
            continue
        if (rotated or ended) and (rest := reader.rest()):
            yield renderer.feed(rest)
        if rotated:
            held.pop(0).close()
            reader, quiet_since = RecordReader(held[0]), time.monotonic()
        elif ended:
            return
        else:
            _rewind_if_cut(held[0])
            hint.wait()
            quiet_since = time.monotonic()


def _may_be_written(file: BinaryIO, quiet: float) -> bool:
    """Whether a file that was rotated away, or whose container ended, may get more; it got nothing for `quiet` seconds.

    The kernel gives a read lease on a file only while nobody has it open to write (fcntl(2)). Who opens it in the
    instant of the lease waits for its end, and we would get a signal: one that is ignored.
    """
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return quiet < (WRITER_SECONDS if error.errno == errno.EAGAIN else UNTOLD_SECONDS)
    return False


def _open_successor(path: Path, held: list[BinaryIO]) -> bool:
    """Whether another file took this one's place, which is then opened as `held`'s second: the oldest rotation after
    ours, else a new one under our own name."""
    mine = os.fstat(held[0].fileno())
    try:
        if os.path.samestat(mine, path.stat()):
            return False
        held.append(path.open("rb", buffering=0))
        for earlier in _rotated_after(path, mine)[:1]:  # listed after the open: no rotation in between is missed
            held.append(earlier.open("rb", buffering=0))
            held.pop(1).close()
    except OSError:  # between the two steps of a rotation, or the pod's logs are being removed
        _keep_first(held)
        return False
    return True


def _keep_first(held: list[BinaryIO]) -> None:
    while len(held) > 1:
        held.pop().close()


def _rotated_after(path: Path, mine: os.stat_result) -> list[Path]:
    """Rotations of this log that came after ours, oldest first. Where ours is not among them (compressed or removed
    while we read it), those that were written to later."""
    older = [(item, item.stat()) for item in rotations(path)]
    own = [index for index, (_, found) in enumerate(older) if os.path.samestat(found, mine)]
    if own:
        return [item for item, _ in older[own[0] + 1 :]]
    return [item for item, found in older if found.st_mtime_ns > mine.st_mtime_ns]


def _rewind_if_cut(file: BinaryIO) -> None:
    """A log that was truncated in place is read from its start."""
    if os.fstat(file.fileno()).st_size < file.tell():
        file.seek(0)
