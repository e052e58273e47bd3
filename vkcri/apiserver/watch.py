"""What changed lately, and who waits for it: one `History` a resource, any number of `Watch`es reading it.

The store appends under its own lock, in the order of resource versions; each watch is read by one thread of its own
(a request's, a controller's). A watch is a cursor into the shared history, not a queue of its own, so that a slow
reader costs nothing and is told 410 once it has fallen behind the window. Values stay JSON bytes until somebody wants
a dict.
Must not read or write the database.
"""

import functools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from vkcri.apiserver.status import StatusError

Predicate = Callable[[dict[str, Any]], bool]

ADDED = "ADDED"
MODIFIED = "MODIFIED"
DELETED = "DELETED"
BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class Event:
    """One change. `value`: the object's JSON after it (of a deletion: its last state, with the deletion's version);
    `prior`: before it, None for a creation."""

    rv: int
    type: str
    namespace: str
    name: str
    value: bytes
    prior: bytes | None


def encode(obj: dict[str, Any]) -> bytes:
    """The stored form of an object."""
    return json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode()


@functools.lru_cache(maxsize=128)
def _shared_parse(value: bytes) -> dict[str, Any]:
    """A parsed object that predicates of many watches read and nobody changes."""
    parsed: dict[str, Any] = json.loads(value)
    return parsed


def matches(predicate: Predicate | None, value: bytes) -> bool:
    """Whether the object with these bytes is wanted."""
    return predicate is None or predicate(_shared_parse(value))


class History:
    """The newest changes of one resource, bounded by count and bytes; `since` of an older version is 410.

    What an event replaced is mostly what an earlier one wrote: those bytes are held once."""

    def __init__(self, *, most_events: int = 500, most_bytes: int = 2 << 20, compacted: int = 0) -> None:
        self.changed = threading.Condition()
        self.compacted = compacted  # the newest version that is no longer known change by change
        self._events: deque[Event] = deque()
        self._newest: dict[tuple[str, str], Event] = {}  # of each object, as far as the window goes
        self._bytes = 0
        self._most_events = most_events
        self._most_bytes = most_bytes

    def append(self, event: Event) -> None:
        """Add the newest change, drop the oldest ones over the bounds, wake every watch."""
        with self.changed:
            earlier = self._newest.get((event.namespace, event.name))
            if earlier is not None and earlier.value == event.prior:
                event = replace(event, prior=earlier.value)
            self._events.append(event)
            self._newest[event.namespace, event.name] = event
            self._bytes += len(event.value)
            while len(self._events) > 1 and (len(self._events) > self._most_events or self._bytes > self._most_bytes):
                self._drop_oldest()
            self.changed.notify_all()

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        self._bytes -= len(oldest.value)
        self.compacted = oldest.rv
        if self._newest.get((oldest.namespace, oldest.name)) is oldest:
            del self._newest[oldest.namespace, oldest.name]

    def since(self, rv: int) -> list[Event]:
        """The changes after `rv`, oldest first; the caller holds `changed`. Raises StatusError 410."""
        if rv < self.compacted:
            raise StatusError.expired(f"too old resource version: {rv} ({self.compacted})")
        found: list[Event] = []
        for event in reversed(self._events):
            if event.rv <= rv:
                break
            found.append(event)
        found.reverse()
        return found


@dataclass(frozen=True, slots=True)
class Delivery:
    """One watch event as its reader sees it; `value` is empty for a bookmark. `initial_end`: the bookmark that follows
    the objects that were there at the start."""

    type: str
    value: bytes
    rv: int
    initial_end: bool = False


class Watch:
    """The changes of one resource after a version, seen through a namespace and a predicate.

    Iterating yields (type, object, rv) until `close()`, or the timeout when one was given; a bookmark's object is
    `{"metadata": {"resourceVersion": ...}}`. `deliveries()` is the same without parsing. Raises StatusError 410 once
    the reader has fallen behind. One reader thread; close() from any.
    """

    def __init__(
        self,
        history: History,
        cursor: int,
        *,
        published: Callable[[], int],
        initial: list[Delivery] | None = None,
        namespace: str | None = None,
        predicate: Predicate | None = None,
        timeout: float | None = None,
        bookmark_interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history = history
        self._cursor = cursor
        self._published = published
        self._initial = initial or []
        self._namespace = namespace
        self._predicate = predicate
        self._clock = clock
        self._deadline = None if timeout is None else clock() + timeout
        self._bookmark_interval = bookmark_interval
        self._closed = False

    def close(self) -> None:
        """End the iteration, at once even where it waits."""
        with self._history.changed:
            self._closed = True
            self._history.changed.notify_all()

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any], int]]:
        for item in self.deliveries():
            if item.type == BOOKMARK:
                yield BOOKMARK, {"metadata": {"resourceVersion": str(item.rv)}}, item.rv
            else:
                yield item.type, json.loads(item.value), item.rv

    def deliveries(self, *, alive: Callable[[], bool] = lambda: True, poll: float | None = None) -> Iterator[Delivery]:
        """The watch's events, and a bookmark at each interval, until closed, timed out, or not `alive()`, which is
        asked every `poll` seconds."""
        next_bookmark = self._next_bookmark()
        while not self._closed and alive():
            now = self._clock()
            if self._deadline is not None and now >= self._deadline:
                yield from self._pending()
                return
            wakes = [moment - now for moment in (self._deadline, next_bookmark) if moment is not None]
            wakes += [] if poll is None else [poll]
            yield from self.next(min(wakes) if wakes else None)
            if next_bookmark is not None and self._clock() >= next_bookmark and not self._closed:
                # The version is read before the history is drained, so no change at or before it is still unsent.
                published = self._published()
                yield from self.next(0)
                self._cursor = max(self._cursor, published)
                yield Delivery(BOOKMARK, b"", self._cursor)
                next_bookmark = self._next_bookmark()

    def next(self, timeout: float | None) -> list[Delivery]:
        """What has happened since the last call, waiting at most `timeout` seconds for something; may be empty."""
        if self._initial:
            first, self._initial = self._initial, []
            return first
        with self._history.changed:
            events = self._history.since(self._cursor)
            if not events and not self._closed and (timeout is None or timeout > 0):
                self._history.changed.wait(timeout)
                events = self._history.since(self._cursor)
        if self._closed or not events:
            return []
        self._cursor = events[-1].rv
        return [seen for event in events if (seen := self._seen(event)) is not None]

    def _pending(self) -> Iterator[Delivery]:
        """What there is without waiting: a reader that is slower than its timeout gets it before the end."""
        if self._initial:
            yield from self.next(0)
        yield from self.next(0)

    @property
    def closed(self) -> bool:
        return self._closed

    def _next_bookmark(self) -> float | None:
        return None if self._bookmark_interval is None else self._clock() + self._bookmark_interval

    def _seen(self, event: Event) -> Delivery | None:
        """The event as this watch's selector sees it: an object that leaves the selection is deleted for it."""
        if self._namespace is not None and event.namespace != self._namespace:
            return None
        before = event.prior is not None and matches(self._predicate, event.prior)
        after = event.type != DELETED and matches(self._predicate, event.value)
        if after:
            return Delivery(MODIFIED if before else ADDED, event.value, event.rv)
        if not before or event.prior is None:
            return None
        if event.type == DELETED:
            return Delivery(DELETED, event.value, event.rv)
        gone = json.loads(event.prior)
        gone["metadata"]["resourceVersion"] = str(event.rv)
        return Delivery(DELETED, encode(gone), event.rv)
