"""Declared waits, with a clock of our own; the end itself is tried with real processes in test_lifecycle."""

import threading

import pytest

from tests.clock import Clock
from tests.waiting import PATIENCE
from vkcri.selfwatch import SelfWatch


@pytest.fixture
def watch(clock: Clock) -> SelfWatch:
    return SelfWatch(30.0, clock=clock)


def test_a_wait_is_overdue_only_past_its_deadline_and_the_margin(watch: SelfWatch, clock: Clock) -> None:
    with watch.expect("the lock", 5):
        clock.now += 35
        assert watch.overdue(clock.now) == []
        clock.now += 1
        (line,) = watch.overdue(clock.now)
        assert "MainThread" in line
        assert "5 s that it gave the lock" in line
    assert watch.overdue(clock.now) == []


def test_a_long_wait_within_a_short_one_stops_the_short_ones_clock(watch: SelfWatch, clock: Clock) -> None:
    with watch.expect("a step", 10):
        clock.now += 8
        with watch.expect("a pull", 600):
            clock.now += 500
            assert watch.overdue(clock.now) == []
        clock.now += 31
        assert watch.overdue(clock.now) == []
        clock.now += 2
        assert "a step" in watch.overdue(clock.now)[0]


def test_progress_starts_the_wait_over(watch: SelfWatch, clock: Clock) -> None:
    with watch.expect("a stream", 10) as wait:
        clock.now += 39
        wait.refresh()
        clock.now += 39
        assert watch.overdue(clock.now) == []
        wait.refresh(100)
        clock.now += 129
        assert watch.overdue(clock.now) == []


def test_an_exception_leaves_the_wait(watch: SelfWatch, clock: Clock) -> None:
    with pytest.raises(KeyError), watch.expect("outer", 1), watch.expect("inner", 1):
        raise KeyError
    clock.now += 1000
    assert watch.overdue(clock.now) == []


def test_each_thread_has_its_own(watch: SelfWatch, clock: Clock) -> None:
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with watch.expect("its own", 1):
            entered.set()
            leave.wait(PATIENCE)

    thread = threading.Thread(target=other, name="worker-7")
    thread.start()
    assert entered.wait(PATIENCE)
    with watch.expect("something long", 1000):
        clock.now += 40
        (line,) = watch.overdue(clock.now)
        assert "worker-7" in line
    leave.set()
    thread.join()
    assert watch.overdue(clock.now) == []
