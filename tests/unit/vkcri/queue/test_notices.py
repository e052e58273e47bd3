"""What a person should know: said once, held as long as it holds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vkcri.queue import Publisher
from vkcri.queue.notices import TOPIC, Notice, Notices, parse


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return Publisher(tmp_path / "kubelet.sock", (TOPIC,))


def test_a_notice_is_logged_when_it_says_something_new_and_held_until_it_is_cleared(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    notices = Notices(publisher)
    for _ in range(3):
        notices.put("a", "it waits", "kubectl certificate approve x")
    assert caplog.messages == ["it waits: kubectl certificate approve x"]
    raw = publisher.get(TOPIC, "a")
    assert raw is not None
    assert parse(raw) == Notice("it waits", "kubectl certificate approve x")
    notices.put("a", "it waits on")
    assert caplog.messages[1:] == ["it waits on"]
    notices.clear("a")
    notices.clear("a")
    assert publisher.items(TOPIC) == {}
    notices.put("a", "it waits on")
    assert len(caplog.messages) == 3


@pytest.mark.parametrize("say", [lambda notices: notices.put("a", "b"), lambda notices: notices.known()])
def test_the_topic_is_synced_once_there_is_something_to_say_or_nothing(
    publisher: Publisher, say: Callable[[Notices], None]
) -> None:
    notices = Notices(publisher)
    assert not publisher.synced(TOPIC)
    say(notices)
    assert publisher.synced(TOPIC)
