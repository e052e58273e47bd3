"""client-go's rules for events that are alike (tools/record/events_cache.go)."""

from vkcri.queue.correlation import INTERVAL, MOST_GROUPS, SIMILAR, Aggregator


def told(aggregator: Aggregator, *messages: str, group: str = "g", now: float = 0.0) -> list[bool]:
    return [aggregator.is_one_of_many(group, message, now) for message in messages]


def numbered(count: int, first: int = 0) -> list[str]:
    return [f"message {number}" for number in range(first, first + count)]


def test_the_tenth_message_is_one_of_many_and_so_is_each_new_one_after_it() -> None:
    assert told(Aggregator(), *numbered(SIMILAR + 20)) == [False] * (SIMILAR - 1) + [True] * 21


def test_one_message_again_and_again_is_only_counted() -> None:
    assert not any(told(Aggregator(), *["the same"] * 100))


def test_of_many_the_known_ones_go_on_by_themselves() -> None:
    aggregator = Aggregator()
    told(aggregator, *numbered(SIMILAR))
    assert told(aggregator, "message 9", "message 5", "message 0") == [False, False, True]


def test_another_object_type_or_reason_is_another_matter() -> None:
    aggregator = Aggregator()
    told(aggregator, *numbered(SIMILAR))
    assert told(aggregator, "message 77", group="other") == [False]
    assert told(aggregator, "message 77") == [True]


def test_what_is_older_than_ten_minutes_is_forgotten_and_what_goes_on_is_not() -> None:
    aggregator = Aggregator()
    told(aggregator, *numbered(SIMILAR - 1))
    assert told(aggregator, "message 10", now=INTERVAL) == [True]
    assert told(aggregator, "message 11", now=2 * INTERVAL) == [True]
    assert told(aggregator, "message 12", now=3 * INTERVAL + 1) == [False]


def test_memory_is_bounded_and_the_oldest_group_goes_first() -> None:
    aggregator = Aggregator()
    told(aggregator, *numbered(SIMILAR - 1), group="old")
    told(aggregator, *numbered(SIMILAR - 1), group="used")
    for number in range(MOST_GROUPS - 1):
        told(aggregator, "x", group=f"group {number}")
    assert told(aggregator, "message 9", group="used") == [True]
    assert told(aggregator, "message 9", group="old") == [False]
