"""One request a connection: answers, errors, deadlines."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import PATIENCE
from vkcri.errors import Conflict, Invalid, NotFound, Refused, Unavailable
from vkcri.lifecycle import Process
from vkcri.queue import Publisher, request
from vkcri.queue.framing import MAX_FRAME


@pytest.fixture
def owner(folder: Path, process: Process) -> Publisher:
    publisher = Publisher(folder / "provider.sock", [])
    publisher.start(process)
    return publisher


def test_an_answer_comes_back_with_what_was_asked(owner: Publisher) -> None:
    owner.serve("echo", lambda body, left: {"body": body, "left": left})
    answer = request(owner.path, "echo", {"text": "grüße", "n": [1, None]}, timeout=PATIENCE)
    assert answer["body"] == {"text": "grüße", "n": [1, None]}
    assert 0 < answer["left"] <= PATIENCE


@pytest.mark.parametrize("kind", [NotFound, Invalid, Unavailable, Conflict, Refused])
def test_the_owners_error_is_the_requesters(owner: Publisher, kind: type[Exception]) -> None:
    def refuse(_body: dict[str, Any], _left: float) -> Any:
        raise kind("because")

    owner.serve("refuse", refuse)
    with pytest.raises(kind, match=r"^because$"):
        request(owner.path, "refuse", {}, timeout=PATIENCE)


def test_a_bug_in_an_answer_is_unavailable_and_the_owner_lives(
    owner: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    owner.serve("bug", lambda body, _left: body["missing"])
    with pytest.raises(Unavailable, match="bug"):
        request(owner.path, "bug", {}, timeout=PATIENCE)
    assert "KeyError" in caplog.text
    assert request(owner.path, "ping", {}, timeout=PATIENCE)["program"] == "test"


def test_every_owner_answers_ping_and_metrics(owner: Publisher) -> None:
    owner.set_metrics(lambda: "vkcri_up 1\n")
    assert set(request(owner.path, "ping", {}, timeout=PATIENCE)) == {"program", "pid", "started"}
    assert request(owner.path, "metrics", {}, timeout=PATIENCE) == {"text": "vkcri_up 1\n"}


def test_an_unknown_request_is_refused(owner: Publisher) -> None:
    with pytest.raises(Refused, match="provider answers no request 'dance'"):
        request(owner.path, "dance", {}, timeout=PATIENCE)


def test_a_slow_answer_is_unavailable_at_the_deadline_and_delays_nobody_else(owner: Publisher) -> None:
    release = threading.Event()
    owner.serve("slow", lambda _body, _left: release.wait(PATIENCE))
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"slow: .*within 0\.3 s"):
        request(owner.path, "slow", {}, timeout=0.3)
    assert time.monotonic() - began < PATIENCE / 2
    assert request(owner.path, "ping", {}, timeout=PATIENCE)
    release.set()


def test_nobody_there_is_unavailable(folder: Path) -> None:
    with pytest.raises(Unavailable, match=r"provider\.sock"):
        request(folder / "provider.sock", "ping", {}, timeout=1)


def test_too_large_a_body_or_answer_is_invalid_at_the_requester(owner: Publisher) -> None:
    owner.serve("large", lambda _body, _left: "x" * MAX_FRAME)
    with pytest.raises(Invalid, match="at most 8388608"):
        request(owner.path, "large", {}, timeout=PATIENCE)
    with pytest.raises(Invalid, match="at most 8388608"):
        request(owner.path, "large", {"x": "x" * MAX_FRAME}, timeout=PATIENCE)


def test_a_body_that_is_no_object_is_invalid(owner: Publisher) -> None:
    with pytest.raises(Invalid, match="no JSON object"):
        request(owner.path, "ping", [], timeout=PATIENCE)  # type: ignore[arg-type]
