"""Topic `pods` where the API server does not let us read them."""

import math
from typing import Any

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import until
from vkcri.watcher.pods import Pods


def pods(around: Surroundings) -> Pods:
    def changed(_uid: str, _pod: dict[str, Any]) -> None: ...

    made = Pods(around.client, around.publisher, around.access, "n1", changed=changed, gone=lambda _uid: None)
    around.process.start_thread("pods", lambda: made.reflector.run(around.process))
    return made


def test_pods_that_may_not_be_read_are_said_once_until_they_may(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    around.api.refuse("GET", "/api/v1/pods", 403, times=math.inf)
    made = pods(around)
    until(lambda: made.reflector.failures > 1)
    assert "may not read this node's pods" in str(around.notice("pods"))
    assert not around.publisher.synced("pods", source="api")
    around.api.forgive()
    until(lambda: around.publisher.synced("pods", source="api"))
    until(lambda: around.notice("pods") is None)
    assert caplog.text.count("may not read this node's pods") == 1


def test_pods_behind_credentials_that_have_ended_are_said_as_that(around: Surroundings) -> None:
    around.api.refuse("GET", "/api/v1/pods", 401, times=math.inf)
    pods(around)
    until(lambda: around.notice("credentials") is not None)
    assert around.notice("pods") is None
