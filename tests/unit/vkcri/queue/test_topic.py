"""The queue's promises under any interleaving, over a transport in memory that cuts bytes and loses the rest."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vkcri.errors import Invalid
from vkcri.queue import messages
from vkcri.queue.framing import MAX_FRAME, Decoder
from vkcri.queue.messages import Change
from vkcri.queue.topic import Cursor, Key, Mark, Topic, View, encode

SOURCES = ("api", "file")
KEYS = st.sampled_from([f"k{number}" for number in range(6)])
VALUES = st.sampled_from([b"1", b"22", b"333", b""])
SOURCE = st.sampled_from(SOURCES)
READERS = st.integers(0, 2)


class Reader:
    """A subscriber, its connection if any, and what its callbacks built up."""

    def __init__(self) -> None:
        self.view = View("pods")
        self.cursor: Cursor | None = None
        self.decoder = Decoder()
        self.in_flight = b""
        self.told: dict[str, bytes] = {}


class Queue(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.topic = Topic("pods", SOURCES)
        self.deleted: set[str] = set()
        self.readers = [Reader() for _ in range(3)]

    @rule(key=KEYS, value=VALUES, source=SOURCE)
    def put(self, key: str, value: bytes, source: str) -> None:
        self.topic.put(key, value, source)

    @rule(key=KEYS, source=SOURCE)
    def delete(self, key: str, source: str) -> None:
        if self.topic.delete(key, source):
            self.deleted.add(key)

    @rule(values=st.dictionaries(KEYS, VALUES, max_size=4), source=SOURCE)
    def replace(self, values: dict[str, bytes], source: str) -> None:
        before = set(self.topic.values)
        self.topic.replace(values, source)
        self.deleted |= before - set(self.topic.values)
        assert all(self.topic.values[key] == (value, source) for key, value in values.items())

    @rule(source=SOURCE)
    def mark_synced(self, source: str) -> None:
        self.topic.mark_synced(source)

    @rule(number=READERS)
    def connect(self, number: int) -> None:
        reader = self.readers[number]
        if reader.cursor is None:
            reader.cursor = self.topic.subscribe()
            reader.view.connected()
            reader.decoder, reader.in_flight = Decoder(), b""

    @rule(number=READERS)
    def disconnect(self, number: int) -> None:
        reader = self.readers[number]
        if reader.cursor is not None:
            self.topic.unsubscribe(reader.cursor)
            reader.cursor = None

    @rule()
    def owner_restarts(self) -> None:
        self.topic = Topic("pods", SOURCES)
        self.deleted = set()
        for reader in self.readers:
            reader.cursor = None

    @rule(number=READERS, most=st.integers(1, 200))
    def owner_sends(self, number: int, most: int) -> None:
        reader = self.readers[number]
        if reader.cursor is not None:
            reader.in_flight += encode(reader.cursor.take(most))

    @rule(number=READERS, count=st.integers(1, 60))
    def reader_reads(self, number: int, count: int) -> None:
        reader = self.readers[number]
        if reader.cursor is not None:
            self.receive(reader, count)

    def receive(self, reader: Reader, count: int) -> None:
        data, reader.in_flight = reader.in_flight[:count], reader.in_flight[count:]
        reader.decoder.feed(data)
        for payload in reader.decoder:
            for change in reader.view.apply(messages.parse_owner(payload)):
                self.check(change)
                if change.value is None:
                    del reader.told[change.key]
                else:
                    reader.told[change.key] = change.value

    def check(self, change: Change) -> None:
        """A key goes only because this owner deleted it, or because its source is synced and lacks it."""
        if change.value is None:
            assert change.key in self.deleted or change.source in self.topic.synced

    @invariant()
    def callbacks_and_view_agree(self) -> None:
        for reader in self.readers:
            assert reader.told == {key: value for key, (value, _) in reader.view.values.items()}

    @invariant()
    def a_slow_reader_costs_one_entry_a_key(self) -> None:
        for reader in self.readers:
            assert reader.cursor is None or len(reader.cursor) <= 6 + len(SOURCES)

    @precondition(lambda self: any(reader.cursor for reader in self.readers))
    @rule()
    def everything_is_delivered(self) -> None:
        for reader in self.readers:
            if reader.cursor is None:
                continue
            reader.in_flight += encode(reader.cursor.take(1 << 20))
            assert len(reader.cursor) == 0
            self.receive(reader, len(reader.in_flight))
            for key, held in self.topic.values.items():
                assert reader.view.values[key] == held
            for key, (_, source) in reader.view.values.items():
                assert key in self.topic.values or source not in self.topic.synced
            assert reader.view.synced >= set(self.topic.synced)

    def teardown(self) -> None:
        for number, reader in enumerate(self.readers):
            self.connect(number)
            for source in SOURCES:
                self.topic.mark_synced(source)
            assert reader.cursor is not None
            reader.in_flight += encode(reader.cursor.take(1 << 20))
            self.receive(reader, len(reader.in_flight))
            assert reader.view.values == self.topic.values


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=150, stateful_step_count=60)


def drain(view: View, cursor: Cursor) -> list[Change]:
    decoder = Decoder()
    decoder.feed(encode(cursor.take(1 << 30)))
    return [change for payload in decoder for change in view.apply(messages.parse_owner(payload))]


def test_a_key_changed_many_times_is_sent_once_with_its_newest_value() -> None:
    topic, view = Topic("pods"), View("pods")
    cursor = topic.subscribe()
    for number in range(1000):
        topic.put("a", str(number).encode(), "")
    assert len(cursor) == 1
    assert drain(view, cursor) == [Change("pods", "a", b"999", "")]


def test_an_equal_put_is_no_change() -> None:
    topic = Topic("pods")
    cursor = topic.subscribe()
    assert topic.put("a", b"1", "")
    cursor.take(100)
    assert not topic.put("a", b"1", "")
    assert len(cursor) == 0


def test_the_sync_mark_is_sent_behind_what_it_promises() -> None:
    topic = Topic("pods")
    cursor = topic.subscribe()
    topic.put("a", b"1", "")
    topic.mark_synced("")
    topic.put("b", b"1", "")
    topic.put("a", b"2", "")
    assert [item for item, _ in cursor.take(1 << 20)] == [Key("a"), Mark(""), Key("b")]


def test_a_new_owner_that_is_not_synced_takes_nothing_away_and_one_that_is_takes_what_it_lacks() -> None:
    view = View("pods")
    first = Topic("pods", SOURCES)
    first.replace({"a": b"1", "b": b"1"}, "api")
    first.replace({"s": b"1"}, "file")
    drain(view, first.subscribe())
    second = Topic("pods", SOURCES)
    second.put("b", b"2", "api")
    view.connected()
    cursor = second.subscribe()
    assert drain(view, cursor) == [Change("pods", "b", b"2", "api")]
    second.mark_synced("api")
    assert drain(view, cursor) == [Change("pods", "a", None, "api")]
    assert set(view.values) == {"b", "s"}


def test_replace_is_all_or_nothing() -> None:
    topic = Topic("pods")
    topic.put("old", b"1", "")
    with pytest.raises(Invalid, match="pods big"):
        topic.replace({"new": b"1", "big": bytes(MAX_FRAME)}, "")
    assert set(topic.values) == {"old"}
    assert not topic.synced


def test_a_source_deletes_only_what_it_put() -> None:
    topic = Topic("pods", SOURCES)
    topic.put("a", b"1", "api")
    assert not topic.delete("a", "file")
    topic.replace({}, "file")
    assert set(topic.values) == {"a"}
    with pytest.raises(Invalid, match="no source 'elsewhere'"):
        topic.put("a", b"1", "elsewhere")


@pytest.mark.parametrize(
    "message",
    [messages.answer("x", {}), messages.failure(Invalid("no such topic"))],
)
def test_a_subscription_takes_no_answer_and_raises_a_failure(message: Any) -> None:
    with pytest.raises(Invalid):
        View("pods").apply(messages.parse_owner(message[4:]))
