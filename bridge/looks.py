"""When a pod is to be read again: an event may come before CRI itself shows what happened, and that a container was
killed for its memory may come after its exit. And when it need not be: for what the last reading shows already, and at
once for what an operation brings about, whose own end has the pod read."""

import threading
from collections.abc import Collection, Iterable

from bridge.actions import SANDBOX, START, TEARDOWN, stop_key
from bridge.events import ENDING, EXITED, OOM, STARTED, Hint
from bridge.observe import Observed, state_of
from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Box

HINTS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)
"""Seconds after an event at which its pod is read again, until CRI shows the change: a busy containerd was seen to take
seconds from its own event to that, and the next relist may be ten away."""
OOM_HINTS = (0.1, 0.5)
"""The same after a kill for memory, of which CRI may show nothing: the process need not have been the container's."""
PATIENCE = 0.1
"""Seconds after which an event's pod is read where something better than the event is to come: the end of the operation
that brought it about, or that an exit shows."""
OOM_LOOK = 0.5
KILLED = 137


class Looks:
    """One pod's. Thread-safe: hints come on the events' thread, readings are made on the scheduler's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hints: list[tuple[float, Hint]] = []

    def add(self, hint: Hint, now: float, *, expected: bool = False) -> float:
        """When to read for it: now, or where something better is expected after a moment."""
        first = PATIENCE if expected else 0.0
        with self._lock:
            delays = OOM_HINTS if hint.kind == OOM else HINTS
            self._hints = [(when, other) for when, other in self._hints if not _covers(hint, other)]
            self._hints += [(now + delay, hint) for delay in delays if delay >= first]
        return now + first

    def next(self, observed: Observed, now: float) -> float | None:
        """When to read again after this reading; None where it shows all that was heard of."""
        with self._lock:
            self._hints = [(when, hint) for when, hint in self._hints if when > now and not shows(observed, hint)]
            due = [when for when, _ in self._hints]
        for item in observed.containers:
            fresh = now - item.finished_at / 1e9 < OOM_LOOK
            if item.state == "exited" and item.exit_code == KILLED and item.reason != "OOMKilled" and fresh:
                due.append(now + OOM_LOOK)
        return min(due, default=None)


def _covers(hint: Hint, other: Hint) -> bool:
    """Whether looking for this one is looking for the other, too: a kill for memory is not looked for as long."""
    return hint.id == other.id and (hint.kind != OOM or other.kind == OOM)


def is_expected(hint: Hint, busy: Collection[str]) -> bool:
    """Whether it announces what comes with an event of its own, or what an operation of the pod that is under way (keys
    of actions) brings about."""
    if hint.kind == STARTED:
        return START in busy
    stopped = any(key in busy for key in (stop_key(hint.id), TEARDOWN, SANDBOX))
    return hint.kind == ENDING or (hint.kind == EXITED and stopped)


def is_listed(observed: Observed, boxes: Iterable[Box]) -> bool:
    """Whether a reading shows what a list of all pods says of this one: the same sandboxes and containers in the same
    states."""
    seen = {(box.id, box.ready) for box in observed.sandboxes} | {(item.id, item.state) for item in observed.containers}
    return seen == {(box.id, _state(box)) for box in boxes}


def _state(box: Box) -> bool | str:
    return box.state == api_pb2.SANDBOX_READY if box.is_sandbox else state_of(box.state)


def shows(observed: Observed, hint: Hint) -> bool:
    """Whether CRI shows what the hint is about."""
    for box in observed.sandboxes:
        if box.id == hint.id:
            return box.ready == (hint.kind == STARTED)
    for item in observed.containers:
        if item.id == hint.id:
            return item.state == "exited" or (hint.kind == STARTED and item.state == "running")
    return False
