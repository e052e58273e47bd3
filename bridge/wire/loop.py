"""One thread that waits for sockets and times on behalf of many: the one place here that does not block.

Everything but `call`, `start` and `close` belongs to the loop's thread. A callback is quick and never waits; one that
raises is logged with its traceback and costs its own conversation only, which its deadline then ends. Times are the
monotonic clock's.
"""

import functools
import heapq
import itertools
import logging
import os
import resource
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from vkcri.lifecycle import Process

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
TURN_SECONDS = 60.0
MOST_FILES = 65536
log = logging.getLogger(__name__)


class Timer:
    """A call that is due at `when`."""

    def __init__(self, when: float, function: Callable[[], None]) -> None:
        self.when = when
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        self.function = None


class Loop:
    """clock: monotonic seconds. Takes descriptors from its start on; what it is given before waits for that."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._selector: selectors.BaseSelector | None = None
        self._waker: socket.socket | None = None
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._calls: deque[Callable[[], None]] = deque()
        self._thread: int | None = None

    def start(self, process: Process, name: str) -> None:
        """Run on a thread of that name until the process stops."""
        allow_many_files()
        self._open()
        process.on_stop(self._wake)

        def run() -> None:
            self._thread = threading.get_ident()
            while not process.stopping.is_set():
                ready = self._wait()
                with process.expect("a turn of the loop", TURN_SECONDS):
                    self._turn(ready)
            self.close()

        process.start_thread(name, run)

    def call(self, function: Callable[[], None]) -> None:
        """Run it on the loop's thread, soon. Any thread may call this."""
        self._calls.append(function)
        if threading.get_ident() != self._thread:
            self._wake()

    def at(self, when: float, function: Callable[[], None]) -> Timer:
        """Run it then."""
        timer = Timer(when, function)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def watch(self, sock: socket.socket, events: int, function: Callable[[int], None]) -> None:
        """Call it with READ or WRITE or both whenever the socket is ready for them; again to change either."""
        selector = self._open()
        if sock.fileno() in selector.get_map():
            selector.modify(sock, events, function)
        else:
            selector.register(sock, events, function)

    def unwatch(self, sock: socket.socket) -> None:
        try:
            self._open().unregister(sock)
        except (KeyError, ValueError):
            return

    def close(self) -> None:
        """Give back its descriptors: a loop that was started does so when it ends."""
        selector, self._selector = self._selector, None
        if selector is not None:
            for key in list(selector.get_map().values()):
                cast(socket.socket, key.fileobj).close()
            selector.close()
        waker, self._waker = self._waker, None
        if waker is not None:
            waker.close()

    def _open(self) -> selectors.BaseSelector:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
            self._waker, woken = socket.socketpair()
            self._waker.setblocking(False)
            woken.setblocking(False)
            self._selector.register(woken, READ, None)
        return self._selector

    def turn(self, most: float) -> None:
        """Wait for at most that long and run what is ready: for whoever has no thread for the loop, such as a test."""
        self._thread = threading.get_ident()
        self._turn(self._wait(most))

    def _wait(self, most: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        while self._heap and self._heap[0][2].function is None:
            heapq.heappop(self._heap)
        wait = most
        if self._calls:
            wait = 0.0
        elif self._heap:
            until = max(0.0, self._heap[0][0] - self.clock())
            wait = until if most is None else min(most, until)
        return self._open().select(wait)

    def _turn(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        for key, events in ready:
            if key.data is None:
                _drain(key.fileobj)
            elif self._is_watched(key):
                self._run(functools.partial(key.data, events))
        now = self.clock()
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.function is not None:
                function, timer.function = timer.function, None
                self._run(function)
        for _ in range(len(self._calls)):
            self._run(self._calls.popleft())

    def _is_watched(self, key: selectors.SelectorKey) -> bool:
        """Whether nobody has ended it since it was found ready, in the same turn."""
        try:
            self._open().get_key(key.fileobj)
        except (KeyError, ValueError):
            return False
        return True

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:
            log.exception("%r failed", function)

    def _wake(self) -> None:
        waker = self._waker
        if waker is None:
            return  # not started yet, or over
        try:
            waker.send(b"\0")
        except OSError:
            return  # it is full, so the loop wakes anyway; or the loop has just ended


def _drain(sock: Any) -> None:
    try:
        while sock.recv(4096):
            pass
    except BlockingIOError:
        return


def allow_many_files() -> None:
    """Raise the limit of open files as Go's runtime does: a socket for each probe that is under way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        log.debug("pid %d may open %d files", os.getpid(), wanted)
