"""Dirty keys and one thread that cleans them: the machinery under every controller.

A feed thread a watched kind turns each change into keys of the controllers that care; the thread `controllers` takes
one due key at a time and reconciles it. A key that is marked many times is reconciled once; one that failed comes again
after a back-off. A feed that fell behind its window reads everything anew, and so does each controller. An exception
that is no API error is a bug: it ends the process, and the next start looks at everything.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.apiserver.watch import BOOKMARK, DELETED, Watch
from vkcri.backoff import Backoff
from vkcri.errors import Unavailable
from vkcri.lifecycle import Process

Object = dict[str, Any]
# (an object that changed, whether it is gone) -> the keys that this makes dirty
KeysOf = Callable[[Object, bool], Iterable[str]]
log = logging.getLogger(__name__)
_RETRY = Backoff(first=0.1, factor=2.0, most=30.0)
_RECONCILE_SECONDS = 60.0
_FEED_SECONDS = 300.0


class Controller(Protocol):
    """One controller. `sources`: kind's store key -> the keys that a changed object of it makes dirty."""

    name: str
    sources: Mapping[str, KeysOf]

    def reconcile(self, key: str) -> float | None:
        """Make one key right; runs on the thread `controllers`. Seconds until it wants to look again, or None."""

    def all_keys(self) -> Iterable[str]:
        """Every key that there is to look at, at the start and after a gap."""


class DirtyKeys:
    """Keys with the time at which they are due; the earliest time wins. Any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[tuple[str, str], float] = {}
        self._heap: list[tuple[float, tuple[str, str]]] = []

    def add(self, key: tuple[str, str], delay: float = 0.0) -> None:
        """Make a key due in `delay` seconds, unless it is sooner already."""
        due = self._clock() + delay
        with self._changed:
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))
            self._changed.notify()

    def take(self, timeout: float) -> tuple[str, str] | None:
        """The key that has been due for longest, waiting at most `timeout` seconds for one; None where none is."""
        deadline = self._clock() + timeout
        with self._changed:
            while True:
                now = self._clock()
                while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
                    heapq.heappop(self._heap)
                if self._heap and self._heap[0][0] <= now:
                    _, key = heapq.heappop(self._heap)
                    del self._due[key]
                    return key
                until = min(deadline, self._heap[0][0]) if self._heap else deadline
                if now >= deadline:
                    return None
                self._changed.wait(until - now)

    def __len__(self) -> int:
        with self._changed:
            return len(self._due)


class Loop:
    """All controllers of one store."""

    def __init__(
        self, store: Store, controllers: Iterable[Controller], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._controllers = {controller.name: controller for controller in controllers}
        self._dirty = DirtyKeys(clock)
        self._failures: dict[tuple[str, str], int] = {}
        self._watches: dict[str, Watch] = {}

    def start(self, process: Process) -> None:
        """Start the feeds and the thread; they end with the process."""
        process.on_stop(self.close)
        self.mark_all()
        kinds = sorted({kind for controller in self._controllers.values() for kind in controller.sources})
        for kind in kinds:
            process.start_thread(f"feed {kind}", lambda kind=kind: self._feed(process, kind))  # type: ignore[misc]
        process.start_thread("controllers", lambda: self._run(process))

    def close(self) -> None:
        """End every feed's watch, so that its thread sees that the process is stopping."""
        for watch in list(self._watches.values()):
            watch.close()

    def mark_all(self) -> None:
        """Make every controller look at everything."""
        for controller in self._controllers.values():
            for key in controller.all_keys():
                self._dirty.add((controller.name, key))

    def mark(self, kind: str, obj: Object, *, gone: bool = False) -> None:
        """An object of a kind has changed, or is gone."""
        for controller in self._controllers.values():
            if kind in controller.sources:
                for key in controller.sources[kind](obj, gone):
                    self._dirty.add((controller.name, key))

    def step(self, timeout: float = 0.0) -> bool:
        """Reconcile one key that is due; False where none was."""
        taken = self._dirty.take(timeout)
        if taken is None:
            return False
        name, key = taken
        try:
            again = self._controllers[name].reconcile(key)
        except (StatusError, Unavailable) as error:
            failures = self._failures[taken] = self._failures.get(taken, 0) + 1
            level = logging.DEBUG if isinstance(error, StatusError) and error.code == 409 else logging.WARNING
            log.log(level, "%s %s: %s", name, key, error)
            again = _RETRY.delay(failures - 1)
        else:
            self._failures.pop(taken, None)
        if again is not None:
            self._dirty.add(taken, again)
        return True

    def _run(self, process: Process) -> None:
        while not process.stopping.is_set():
            with process.expect("the controllers' next key", _RECONCILE_SECONDS):
                self.step(timeout=1.0)

    def _feed(self, process: Process, kind: str) -> None:
        """Mark what changes of one kind, for as long as the process lives."""
        since: int | None = self._store.current_rv()
        self.mark_all()
        while not process.stopping.is_set():
            try:
                with process.expect(f"changes of {kind}", _FEED_SECONDS + 5):
                    watch = self._watches[kind] = self._store.watch(kind, None, since, timeout=_FEED_SECONDS)
                    for type_, obj, rv in watch:
                        since = rv
                        if type_ != BOOKMARK:
                            self.mark(kind, obj, gone=type_ == DELETED)
            except Unavailable:
                if process.stopping.is_set():
                    return  # the store is closed already
                raise
            except StatusError as error:
                if error.code != 410:
                    raise
                log.info("%s: %s; looking at everything", kind, error)
                since = self._store.current_rv()
                self.mark_all()
