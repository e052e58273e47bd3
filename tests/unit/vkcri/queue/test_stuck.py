"""A callback that never returns is seen by the self-watch, whoever gave it to the queue."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.instances import own
from tests.waiting import PATIENCE, until
from vkcri.lifecycle import Process
from vkcri.queue import Publisher, Subscription, publisher, subscriber
from vkcri.selfwatch import SelfWatch


def stuck(watch: SelfWatch, seconds: float) -> Callable[[], bool]:
    """Whether a thread would be found stuck that many seconds and the margin from now."""
    return lambda: any("callback" in line for line in watch.overdue(watch.clock() + seconds + watch.margin))


def hold(leave: threading.Event) -> None:
    leave.wait(PATIENCE)


@pytest.fixture
def leave() -> threading.Event:
    return threading.Event()


def test_a_subscriptions_callback(folder: Path, leave: threading.Event) -> None:
    watch = SelfWatch()
    process = Process("test", own("queue"), watch=watch, end=lambda _: None)
    owner = Publisher(folder / "watcher.sock", ["pods"])
    owner.start(process)
    Subscription(folder / "watcher.sock", "pods", lambda _: hold(leave)).start(process)
    assert not stuck(watch, 1e6)()
    owner.put("pods", "a", b"1")
    until(stuck(watch, subscriber.CALLBACK_SECONDS))
    assert not stuck(watch, 0)()
    leave.set()
    until(lambda: not stuck(watch, 1e6)())
    process.drain()


def test_an_owners_periodic_callback(folder: Path, leave: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "IDLE_SECONDS", 0.05)
    watch = SelfWatch()
    process = Process("test", own("queue"), watch=watch, end=lambda _: None)
    owner = Publisher(folder / "watcher.sock", ["pods"])
    owner.every_few_seconds(lambda: hold(leave))
    owner.start(process)
    until(stuck(watch, publisher.CALLBACK_SECONDS))
    assert not stuck(watch, 0)()
    process.stop()
    leave.set()
    process.drain()
