"""Self-watch: a thread says what it waits for and until when, and a monitor ends the process when one overstays.

One thread, `self-watch`, looks every second. As long as all is well it re-arms faulthandler's timer, which needs no
GIL: so a process whose Python does not run at all ends too. Deadlines are the threads' own; a pull, a grace period and
a watch are as long as they are, and a thread that waits for work declares nothing.
"""

import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

MARGIN = 30.0
_STDERR = 2  # the descriptor: faulthandler writes without Python
log = logging.getLogger(__name__)


class Expectation:
    """One declared wait of one thread; a context manager."""

    def __init__(self, watch: "SelfWatch", what: str, seconds: float) -> None:
        self.what = what
        self.seconds = seconds
        self.deadline = 0.0
        self.entered = 0.0
        self._watch = watch

    def __enter__(self) -> "Expectation":
        self._watch.push(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._watch.pop(self)

    def refresh(self, seconds: float | None = None) -> None:
        """Progress was made: the wait starts over, with the same length or another."""
        self.seconds = self.seconds if seconds is None else seconds
        self.deadline = self._watch.clock() + self.seconds


class SelfWatch:
    """All threads' expectations. `margin`: seconds past a deadline before the process ends."""

    def __init__(
        self,
        margin: float = MARGIN,
        *,
        period: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self.margin = margin
        self.clock = clock
        self._period = period
        self._end = end
        self._lock = threading.Lock()
        self._stacks: dict[int, tuple[str, list[Expectation]]] = {}

    def expect(self, what: str, seconds: float) -> Expectation:
        return Expectation(self, what, seconds)

    def push(self, expectation: Expectation) -> None:
        """The current thread enters it; its outer expectations' clocks stand still from here on."""
        thread = threading.current_thread()
        expectation.entered = self.clock()
        expectation.deadline = expectation.entered + expectation.seconds
        with self._lock:
            self._stacks.setdefault(threading.get_ident(), (thread.name, []))[1].append(expectation)

    def pop(self, expectation: Expectation) -> None:
        """The current thread leaves it; the outer one gets back the time that it took."""
        ident = threading.get_ident()
        with self._lock:
            _, stack = self._stacks[ident]
            stack.remove(expectation)
            if stack:
                stack[-1].deadline += self.clock() - expectation.entered
            else:
                del self._stacks[ident]

    def overdue(self, now: float) -> list[str]:
        """One sentence for each thread whose innermost expectation is past its deadline by more than the margin."""
        with self._lock:
            waits = [(name, stack[-1]) for name, stack in self._stacks.values()]
        return [
            f"thread {name} is {now - wait.deadline:.1f} s over the {wait.seconds:g} s that it gave {wait.what}"
            for name, wait in waits
            if now > wait.deadline + self.margin
        ]

    def start(self) -> None:
        """Start the monitor, unless VKCRI_DEBUG=1: under a debugger every thread overstays."""
        if os.environ.get("VKCRI_DEBUG") == "1":
            log.info("VKCRI_DEBUG=1: no self-watch")
            return
        threading.Thread(target=self._monitor, name="self-watch", daemon=True).start()

    def _monitor(self) -> None:
        while True:
            faulthandler.dump_traceback_later(self.margin, exit=True, file=_STDERR)
            stuck = self.overdue(self.clock())
            if stuck:
                for line in stuck:
                    log.critical("%s; the process ends", line)
                faulthandler.dump_traceback(all_threads=True, file=_STDERR)
                self._end(1)
                return
            time.sleep(self._period)
