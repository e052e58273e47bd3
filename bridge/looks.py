"""When a pod is to be read again although nothing more is heard of it: an event may come before CRI itself shows what
happened, and that a container was killed for its memory may come after its exit."""

import threading

from bridge.events import STARTED, Hint
from bridge.observe import Observed

HINTS = (0.02, 0.1, 0.5)
"""Seconds after an event at which its pod is read again, until CRI shows the change."""
OOM_LOOK = 0.5
KILLED = 137


class Looks:
    """One pod's. Thread-safe: hints come on the events' thread, readings are made on the scheduler's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hints: list[tuple[float, Hint]] = []

    def add(self, hint: Hint, now: float) -> None:
        with self._lock:
            self._hints += [(now + delay, hint) for delay in HINTS]

    def next(self, observed: Observed, now: float) -> float | None:
        """When to read again after this reading; None where it shows all that was heard of."""
        with self._lock:
            self._hints = [(when, hint) for when, hint in self._hints if when > now and not _shows(observed, hint)]
            due = [when for when, _ in self._hints]
        for item in observed.containers:
            fresh = now - item.finished_at / 1e9 < OOM_LOOK
            if item.state == "exited" and item.exit_code == KILLED and item.reason != "OOMKilled" and fresh:
                due.append(now + OOM_LOOK)
        return min(due, default=None)


def _shows(observed: Observed, hint: Hint) -> bool:
    """Whether CRI shows what the hint is about."""
    for box in observed.sandboxes:
        if box.id == hint.id:
            return box.ready == (hint.kind == STARTED)
    for item in observed.containers:
        if item.id == hint.id:
            return item.state == "exited" or (hint.kind == STARTED and item.state == "running")
    return False
