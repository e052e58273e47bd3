"""Events as state: repeats are counted, entries go after an hour."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from vkcri.queue import Publisher
from vkcri.queue.correlation import SIMILAR
from vkcri.queue.events import MOST, EventRecorder, event_key, pod_reference

POD = {"metadata": {"namespace": "ns", "name": "web", "uid": "u-1", "resourceVersion": "7"}}


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def publisher(folder: Path) -> Publisher:
    return Publisher(folder / "provider.sock", ["events"])


@pytest.fixture
def recorder(publisher: Publisher, clock: Clock) -> EventRecorder:
    return EventRecorder(publisher, "cri-bridge", "node-1", clock)


def entries(publisher: Publisher) -> dict[str, Any]:
    return {key: json.loads(value) for key, value in publisher.items("events").items()}


def test_an_event_has_the_contracts_key_and_fields(publisher: Publisher, recorder: EventRecorder) -> None:
    reference = pod_reference(POD, "main")
    recorder.event(reference, "Normal", "Pulled", "image is there")
    ((key, value),) = entries(publisher).items()
    assert key.startswith("ns/Pod/web/u-1/Pulled/")
    assert len(key.rpartition("/")[2]) == 16
    assert value == {
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "ns",
            "name": "web",
            "uid": "u-1",
            "resourceVersion": "7",
            "fieldPath": "spec.containers{main}",
        },
        "type": "Normal",
        "reason": "Pulled",
        "message": "image is there",
        "count": 1,
        "firstTimestamp": "2026-11-23T12:00:00Z",
        "lastTimestamp": "2026-11-23T12:00:00Z",
        "source": {"component": "cri-bridge", "host": "node-1"},
    }
    assert publisher.synced("events")


def test_a_repeat_is_counted_and_keeps_its_first_time(
    publisher: Publisher, recorder: EventRecorder, clock: Clock
) -> None:
    for _ in range(3):
        recorder.event(pod_reference(POD), "Warning", "BackOff", "again")
        clock.now += timedelta(minutes=1)
    (value,) = entries(publisher).values()
    assert (value["count"], value["firstTimestamp"], value["lastTimestamp"]) == (
        3,
        "2026-11-23T12:00:00Z",
        "2026-11-23T12:02:00Z",
    )


def test_other_message_type_or_container_is_another_event() -> None:
    pod = pod_reference(POD, "main")
    keys = {
        event_key(pod, "Normal", "Started", "m"),
        event_key(pod, "Warning", "Started", "m"),
        event_key(pod, "Normal", "Started", "other"),
        event_key(pod_reference(POD, "second"), "Normal", "Started", "m"),
        event_key(pod_reference(POD, "main", "initContainers"), "Normal", "Started", "m"),
    }
    assert len(keys) == 5
    assert event_key({"kind": "Node", "name": "n", "uid": "n"}, "Normal", "R", "m").startswith("default/Node/n/n/R/")


def test_an_entry_goes_an_hour_after_it_was_last_seen(
    publisher: Publisher, recorder: EventRecorder, clock: Clock
) -> None:
    recorder.event(pod_reference(POD), "Normal", "First", "m")
    clock.now += timedelta(minutes=40)
    recorder.event(pod_reference(POD), "Normal", "Second", "m")
    clock.now += timedelta(minutes=20)
    recorder.collect()
    assert [value["reason"] for value in entries(publisher).values()] == ["Second"]


def test_the_oldest_go_first_beyond_the_limit(publisher: Publisher, recorder: EventRecorder) -> None:
    for number in range(MOST + 3):
        recorder.event(pod_reference(POD), "Normal", f"Reason{number}", f"message {number}")
    kept = {value["message"] for value in entries(publisher).values()}
    assert len(kept) == MOST
    assert "message 2" not in kept
    assert "message 3" in kept


def test_a_long_message_is_cut_to_kubernetes_limit(publisher: Publisher, recorder: EventRecorder) -> None:
    recorder.event(pod_reference(POD), "Normal", "Long", "x" * 5000)
    (value,) = entries(publisher).values()
    assert len(value["message"]) == 1024


def test_many_that_differ_in_their_message_become_one_that_shows_the_newest(
    publisher: Publisher, recorder: EventRecorder, clock: Clock
) -> None:
    for number in range(SIMILAR + 5):
        clock.now += timedelta(seconds=30)
        recorder.event(pod_reference(POD, f"c{number % 2}"), "Warning", "Failed", f"message {number}")
    found = list(entries(publisher).values())
    assert [value["message"] for value in found[:-1]] == [f"message {number}" for number in range(SIMILAR - 1)]
    assert (found[-1]["message"], found[-1]["count"]) == ("(combined from similar events): message 14", 6)
    assert found[-1]["firstTimestamp"] == "2026-11-23T12:05:00Z"
    assert found[-1]["lastTimestamp"] == "2026-11-23T12:07:30Z"


def test_the_message_of_many_is_cut_too(publisher: Publisher, recorder: EventRecorder) -> None:
    for number in range(SIMILAR):
        recorder.event(pod_reference(POD), "Warning", "Failed", f"{number}" * 1020)
    message = list(entries(publisher).values())[-1]["message"]
    assert message.startswith("(combined from similar events): 999")
    assert len(message) == 1024


def test_what_was_before_has_its_own_time_and_is_kept_from_now_on(
    publisher: Publisher, recorder: EventRecorder, clock: Clock
) -> None:
    for _ in range(2):
        recorder.event(pod_reference(POD), "Warning", "SystemOOM", "m", at=clock.now - timedelta(minutes=50))
    clock.now += timedelta(minutes=30)
    recorder.collect()
    (value,) = entries(publisher).values()
    assert (value["count"], value["firstTimestamp"]) == (2, "2026-11-23T11:10:00Z")
    assert value["lastTimestamp"] == value["firstTimestamp"]
