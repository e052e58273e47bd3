"""Delays as data, with clock and randomness passed in."""

import pytest

from vkcri.backoff import Backoff, BackoffTable


def test_delays_grow_by_the_factor_up_to_the_most() -> None:
    backoff = Backoff(first=0.1, factor=2.0, most=2.0)
    assert [backoff.delay(attempt) for attempt in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_a_huge_attempt_is_no_overflow() -> None:
    assert Backoff(first=1.0, factor=10.0, most=300.0).delay(10**9) == 300.0


def test_jitter_adds_up_to_its_share() -> None:
    backoff = Backoff(first=10.0, factor=2.0, most=10.0, jitter=0.2)
    assert backoff.delay(0, random=lambda: 0.0) == 10.0
    assert backoff.delay(0, random=lambda: 0.5) == pytest.approx(11.0)


def test_the_kubelets_crash_loop_delays() -> None:
    table = BackoffTable(10.0, 300.0)
    now, seen = 0.0, []
    for _ in range(7):
        seen.append(table.next("a", now))
        now += seen[-1]
    assert seen == [10, 20, 40, 80, 160, 300, 300]
    assert table.get("a") == 300
    assert table.get("b") == 0


def test_a_key_left_alone_for_twice_the_most_starts_over() -> None:
    table = BackoffTable(10.0, 300.0)
    table.next("a", 0.0)
    table.next("a", 10.0)
    assert table.next("a", 610.0) == 40
    assert table.next("a", 1210.1) == 10


def test_remaining_counts_from_the_end_of_the_last_try() -> None:
    table = BackoffTable(10.0, 300.0)
    assert table.remaining("a", since=0.0, now=1.0) == 0
    table.next("a", 100.0)
    assert table.remaining("a", since=102.0, now=105.0) == pytest.approx(7.0)
    assert table.remaining("a", since=102.0, now=112.0) == 0
    assert table.remaining_since_update("a", 104.0) == pytest.approx(6.0)
    assert table.remaining_since_update("a", 701.0) == 0


def test_reset_and_collect_forget() -> None:
    table = BackoffTable(1.0, 10.0)
    table.next("a", 0.0)
    table.next("b", 0.0)
    table.next("b", 15.0)
    table.reset("a")
    table.reset("unknown")
    assert table.get("a") == 0
    table.collect(30.0)
    assert table.get("b") == 2
    table.collect(36.0)
    assert table.get("b") == 0
