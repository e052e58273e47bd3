"""When a pod is to be read again: an event may come before CRI itself shows what happened, and that a container was
killed for its memory, or what it wrote last, may come after its exit. And when it need not be: for what the last
reading shows already, and at once for what an operation brings about, whose own end has the pod read."""

import threading
from collections.abc import Collection, Iterable, Iterator

from bridge.actions import SANDBOX, START, TEARDOWN, stop_key
from bridge.events import ENDING, EXITED, OOM, STARTED, Hint
from bridge.observe import Container, Observed, may_be_killed_for_memory, may_get_log_words, state_of
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
OOM_LOOK, LOG_LOOK = 0.5, 1.0
"""Seconds after a container was first seen ended, whenever it did end, at which it is read again for what may still
come: that it was killed for its memory, and a message from its log."""


class Looks:
    """One pod's. Thread-safe: hints come on the events' thread, readings are made on the scheduler's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hints: list[tuple[float, Hint]] = []
        self._ended: dict[str, float] = {}

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
        ended = [item for item in observed.containers if item.state == "exited"]
        self._ended = {item.id: self._ended.get(item.id, now) for item in ended}
        due += [when for item in ended for when in _late_words(item, self._ended[item.id]) if when > now]
        return min(due, default=None)


def _late_words(item: Container, seen: float) -> Iterator[float]:
    """When to read a container that was first seen ended then for what CRI may not have said yet."""
    if may_be_killed_for_memory(item):
        yield seen + OOM_LOOK
    if may_get_log_words(item):
        yield seen + LOG_LOOK


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
