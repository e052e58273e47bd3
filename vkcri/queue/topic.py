"""A topic's state on both sides of the socket. Pure: no socket, thread, lock or clock; the caller locks.

`Topic` is the owner's keyed map, `Cursor` what one subscriber has not been sent yet, `View` what a subscriber holds.
A cursor is a queue without doubles: a key stands in it once, however often it changes, and is sent with the value that
it has then, so a slow reader costs one entry a key. A source's sync mark stands in the same queue, behind all keys that
were changed before it, so what a mark promises was sent before the mark. A key belongs to the source that put it last.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vkcri.errors import Invalid
from vkcri.pb import queue_pb2 as pb
from vkcri.queue import messages
from vkcri.queue.messages import Change


@dataclass(frozen=True)
class Key:
    """A changed key in a cursor."""

    name: str


@dataclass(frozen=True)
class Mark:
    """A source's sync mark in a cursor."""

    source: str


class Cursor:
    """What one subscriber has to be sent, oldest change first."""

    def __init__(self, topic: "Topic") -> None:
        self._topic = topic
        self._due: OrderedDict[Key | Mark, None] = OrderedDict()
        for name in topic.values:
            self.add(Key(name))
        for source in topic.synced:
            self.add(Mark(source))

    def __len__(self) -> int:
        return len(self._due)

    def add(self, item: Key | Mark) -> None:
        self._due.setdefault(item)

    def take(self, most_bytes: int) -> list[tuple[Key | Mark, tuple[bytes, str] | None]]:
        """Remove the oldest items, up to about that many bytes of values, each with its value now, None where it has
        none. Encode and send them without the lock."""
        batch: list[tuple[Key | Mark, tuple[bytes, str] | None]] = []
        size = 0
        while self._due and size < most_bytes:
            item, _ = self._due.popitem(last=False)
            held = self._topic.values.get(item.name) if isinstance(item, Key) else None
            size += 64 + (len(held[0]) if held else 0)
            batch.append((item, held))
        return batch


def encode(batch: Iterable[tuple[Key | Mark, tuple[bytes, str] | None]]) -> bytes:
    """A cursor's batch as frames."""
    parts: list[bytes] = []
    for item, held in batch:
        if isinstance(item, Mark):
            parts.append(messages.synced(item.source))
        elif held is None:
            parts.append(messages.delete(item.name))
        else:
            parts.append(messages.put(item.name, *held))
    return b"".join(parts)


class Topic:
    """The owner's side: newest values, which sources are synced, and the subscribers' cursors."""

    def __init__(self, name: str, sources: tuple[str, ...] = ("",)) -> None:
        self.name = name
        self.sources = sources
        self.values: dict[str, tuple[bytes, str]] = {}
        self.synced: dict[str, None] = {}
        self.cursors: list[Cursor] = []

    def subscribe(self) -> Cursor:
        """A new subscriber: its cursor begins with the snapshot."""
        cursor = Cursor(self)
        self.cursors.append(cursor)
        return cursor

    def unsubscribe(self, cursor: Cursor) -> None:
        self.cursors.remove(cursor)

    def put(self, key: str, value: bytes, source: str) -> bool:
        """Returns whether anything changed. Raises Invalid for an unknown source or a value above the limit."""
        self.check(key, value, source)
        if self.values.get(key) == (value, source):
            return False
        self.values[key] = (value, source)
        self._changed(Key(key))
        return True

    def delete(self, key: str, source: str) -> bool:
        """Returns whether anything changed; a key that another source put stays."""
        self._check_source(source)
        held = self.values.get(key)
        if held is None or held[1] != source:
            return False
        del self.values[key]
        self._changed(Key(key))
        return True

    def replace(self, values: Mapping[str, bytes], source: str) -> None:
        """This is all that the source has: put it, delete what else was the source's, mark it synced. Raises Invalid
        before anything is changed."""
        for key, value in values.items():
            self.check(key, value, source)
        gone = [key for key, held in self.values.items() if held[1] == source and key not in values]
        for key, value in values.items():
            self.put(key, value, source)
        for key in gone:
            self.delete(key, source)
        self.mark_synced(source)

    def mark_synced(self, source: str) -> None:
        """The source has been read whole. Stays so: an owner that loses its source keeps what it knows."""
        self._check_source(source)
        if source not in self.synced:
            self.synced[source] = None
            self._changed(Mark(source))

    def check(self, key: str, value: bytes, source: str) -> None:
        self._check_source(source)
        messages.check_size(self.name, key, value, source)

    def _check_source(self, source: str) -> None:
        if source not in self.sources:
            raise Invalid(f"topic {self.name} has no source {source!r}, only {', '.join(map(repr, self.sources))}")

    def _changed(self, item: Key | Mark) -> None:
        for cursor in self.cursors:
            cursor.add(item)


class View:
    """The subscriber's side: what it holds, kept over disconnects, and which sources were ever synced."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.values: dict[str, tuple[bytes, str]] = {}
        self.synced: set[str] = set()
        self._confirmed: set[str] = set()

    def connected(self) -> None:
        """A new connection: whatever is held counts as unconfirmed until this owner says it again."""
        self._confirmed.clear()

    def apply(self, message: pb.OwnerMessage) -> list[Change]:
        """Take what the owner sent; returns what changed. Raises the owner's error, Invalid for what belongs into no
        subscription."""
        kind = message.WhichOneof("kind")
        if kind == "put":
            return self.put(message.put.key, message.put.value, message.put.source)
        if kind == "delete":
            return self.delete(message.delete.key)
        if kind == "synced":
            return self.mark(message.synced.source)
        if kind == "failure":
            messages.raise_failure(message.failure)
        if kind != "ping":
            raise Invalid(f"topic {self.topic}: a message of kind {kind} in a subscription")
        return []

    def put(self, key: str, value: bytes, source: str) -> list[Change]:
        """Returns the change, or nothing where that is held already."""
        self._confirmed.add(key)
        if self.values.get(key) == (value, source):
            return []
        self.values[key] = (value, source)
        return [Change(self.topic, key, value, source)]

    def delete(self, key: str) -> list[Change]:
        self._confirmed.discard(key)
        held = self.values.pop(key, None)
        return [Change(self.topic, key, None, held[1])] if held else []

    def mark(self, source: str) -> list[Change]:
        """The owner has sent all that the source has: drop what else is held of it. Returns the deletions."""
        gone = [key for key, held in self.values.items() if held[1] == source and key not in self._confirmed]
        changes = [change for key in gone for change in self.delete(key)]
        self.synced.add(source)
        return changes
