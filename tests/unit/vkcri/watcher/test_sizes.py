"""One object that is too large for the queue keeps no other from being published, and is never taken for gone."""

import json
from typing import Any

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from vkcri.kube.reflector import Item
from vkcri.queue.framing import MAX_FRAME
from vkcri.watcher.pods import Pods
from vkcri.watcher.services import ResourceTopic


def item(uid: str, number: int, *, large: bool = False) -> Item:
    metadata = {"name": uid, "namespace": "n", "uid": uid, "resourceVersion": str(number)}
    parsed: dict[str, Any] = {"metadata": metadata, "spec": {"x": "x" * MAX_FRAME} if large else {}}
    return Item(json.dumps(parsed).encode(), parsed)


class Heard:
    """A `pods` whose reflector does not run; what it tells others."""

    def __init__(self, around: Surroundings) -> None:
        self.changed: list[tuple[str, str]] = []
        self.gone: list[str] = []
        self.pods = Pods(
            around.client, around.publisher, around.access, "n1", changed=self.change, gone=self.gone.append
        )

    def change(self, uid: str, pod: dict[str, Any]) -> None:
        self.changed.append((uid, pod["metadata"]["resourceVersion"]))


def test_a_list_with_a_pod_too_large_is_published_without_it(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard(around)
    heard.pods._replace([item("a", 1), item("big", 2, large=True), item("c", 3)])
    assert set(around.publisher.items("pods")) == {"a", "c"}
    assert around.publisher.synced("pods", source="api")
    assert heard.changed == [("a", "1"), ("c", "3")]
    assert [record.levelname for record in caplog.records if "pods big" in record.getMessage()] == ["ERROR"]
    heard.pods._replace([item("a", 1), item("big", 4), item("c", 3)])
    assert heard.changed[2:] == [("big", "4")]


def test_a_pod_that_has_grown_too_large_stays_as_it_was_and_follows_once_it_fits(around: Surroundings) -> None:
    heard = Heard(around)
    small = item("a", 1)
    heard.pods._replace([small])
    heard.pods._upsert(item("a", 2, large=True))
    heard.pods._replace([item("a", 2, large=True)])
    assert around.publisher.get("pods", "a") == small.raw
    assert (heard.changed, heard.gone) == ([("a", "1")], [])
    heard.pods._upsert(item("a", 3))
    assert heard.changed == [("a", "1"), ("a", "3")]
    heard.pods._replace([])
    assert heard.gone == ["a"]


def test_services_too_large_are_left_out_of_lists_and_changes(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = ResourceTopic(around.client, around.publisher, around.access, "services", "n1")
    topic._replace([item("a", 1), item("big", 2, large=True)])
    topic._upsert(item("b", 3))
    topic._upsert(item("a", 4, large=True))
    assert set(around.publisher.items("services")) == {"n/a", "n/b"}
    assert around.publisher.get("services", "n/a") == item("a", 1).raw
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 2
