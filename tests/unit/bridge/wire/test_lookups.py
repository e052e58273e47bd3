"""Who waits for a name, and what becomes of names that nobody waits for."""

import threading
from collections.abc import Iterator

import pytest

from bridge.wire import lookups
from bridge.wire.client import Client
from bridge.wire.exchange import Broken
from tests.waiting import wait_for


class Resolver:
    """One that hangs until it is let go, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def look_up(self, host: str) -> str:
        self.asked.append(host)
        assert self.go.wait(60)
        return f"lookup {host}: no such host"


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(lookups, "THREADS", 1)
    monkeypatch.setattr(lookups, "HANGS_SECONDS", 1000.0)
    monkeypatch.setattr(lookups, "look_up", made.look_up)
    yield made
    made.go.set()


def test_a_name_that_nobody_waits_for_any_more_is_not_looked_up(client: Client, resolver: Resolver) -> None:
    results: dict[str, Broken | None] = {}

    def dial(host: str, seconds: float) -> None:
        client.loop.call(lambda: (client.connect(host, 80, seconds, lambda end: results.update({host: end})), None)[1])

    dial("hangs.test", 60.0)
    wait_for("the first", lambda: resolver.asked)
    dial("given-up.test", 0.1)
    dial("wanted.test", 60.0)
    wait_for("the deadline", lambda: "given-up.test" in results)
    resolver.go.set()
    wait_for("the others", lambda: len(results) == 3)
    assert resolver.asked == ["hangs.test", "wanted.test"]
    assert str(results["wanted.test"]) == "dial tcp: lookup wanted.test: no such host"


def test_a_name_that_was_given_up_may_be_asked_for_again(client: Client, resolver: Resolver) -> None:
    results: list[Broken | None] = []
    for _ in range(2):
        count = len(results)
        client.loop.call(lambda: (client.connect("late.test", 80, 0.1, results.append), None)[1])
        wait_for("the deadline", lambda count=count: len(results) > count)
    client.loop.call(lambda: (client.connect("late.test", 80, 60.0, results.append), None)[1])
    resolver.go.set()
    wait_for("the answer", lambda: len(results) == 3)
    assert str(results[2]) == "dial tcp: lookup late.test: no such host"


def test_names_that_hang_hold_up_no_other_beyond_a_moment(
    client: Client, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "HANGS_SECONDS", 0.1)
    monkeypatch.setattr(lookups, "MOST_THREADS", 4)
    monkeypatch.setattr(
        lookups, "look_up", lambda host: resolver.look_up(host) if "hangs" in host else f"lookup {host}: no such host"
    )
    results: dict[str, Broken | None] = {}

    def dial(host: str) -> None:
        client.loop.call(lambda: (client.connect(host, 80, 60.0, lambda end: results.update({host: end})), None)[1])

    for number in range(3):
        dial(f"hangs-{number}.test")
    dial("quick.test")
    wait_for("the quick one", lambda: "quick.test" in results)
    wait_for("those that hang", lambda: len(resolver.asked) == 3)  # each has a thread of the four, and hangs on
    for number in range(3, 6):
        dial(f"hangs-{number}.test")
    wait_for("the fourth", lambda: len(resolver.asked) == 4)
    dial("late.test")
    resolver.go.set()
    wait_for("all", lambda: len(results) == 8)
    assert len(resolver.asked) == 6
