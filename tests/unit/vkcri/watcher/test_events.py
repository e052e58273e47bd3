"""Events of every role reach the API server once each, with the newest count."""

import json
from typing import Any

from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import until
from vkcri.lifecycle import Process
from vkcri.queue.events import EventRecorder
from vkcri.watcher.events import BURST, EventWriter
from vkcri.watcher.metrics import Metrics

EVENTS = "/api/v1/namespaces/shop/events"
POD = {"kind": "Pod", "namespace": "shop", "name": "web", "uid": "u1"}


def writer(around: Surroundings) -> EventWriter:
    found = EventWriter(around.process, around.client, Metrics())
    found.start()
    return found


def held(around: Surroundings) -> list[Any]:
    return [item for path, item in list(around.api.objects.items()) if "/events/" in path]


def test_an_event_is_made_and_then_counted(around: Surroundings) -> None:
    recorder = EventRecorder(around.provider, "cri-bridge", "n1")
    writer(around)
    recorder.event(POD, "Warning", "BackOff", "again", {"note": "x"})
    until(lambda: [event["count"] for event in held(around)] == [1])
    recorder.event(POD, "Warning", "BackOff", "again")
    until(lambda: [event["count"] for event in held(around)] == [2])
    [event] = held(around)
    assert event["involvedObject"] == POD
    assert event["source"] == {"component": "cri-bridge", "host": "n1"}
    assert event["metadata"]["annotations"] == {"note": "x"}


def test_a_restarted_watcher_makes_no_event_twice(around: Surroundings) -> None:
    recorder = EventRecorder(around.provider, "cri-bridge", "n1")
    recorder.event(POD, "Normal", "Pulled", "x")
    before = Process("before", around.process.instance, end=around.ended.append)
    EventWriter(before, around.client, Metrics()).start()
    until(lambda: len(held(around)) == 1)
    before.drain()
    recorder.event(POD, "Normal", "Pulled", "x")
    writer(around)
    until(lambda: [event["count"] for event in held(around)] == [2])


def test_events_of_our_own_are_posted_too(around: Surroundings) -> None:
    writer(around)
    EventRecorder(around.publisher, "vkcri", "n1").event({"kind": "Node", "name": "n1"}, "Normal", "Starting", "x")
    until(lambda: [event["metadata"]["namespace"] for event in held(around)] == ["default"])


def test_an_event_that_expired_is_made_again(around: Surroundings) -> None:
    recorder = EventRecorder(around.provider, "cri-bridge", "n1")
    writer(around)
    recorder.event(POD, "Normal", "Pulled", "x")
    until(lambda: held(around))
    around.api.remove(f"{EVENTS}/{held(around)[0]['metadata']['name']}")
    recorder.event(POD, "Normal", "Pulled", "x")
    until(lambda: [event["count"] for event in held(around)] == [2])


def test_an_event_of_a_namespace_that_ends_is_dropped_and_others_go_on(around: Surroundings) -> None:
    around.api.refuse("POST", EVENTS, 403)
    recorder = EventRecorder(around.provider, "cri-bridge", "n1")
    writer(around)
    recorder.event(POD, "Normal", "Killing", "x")
    until(lambda: len(around.api.calls("POST", EVENTS)) == 1)
    recorder.event({**POD, "namespace": "live"}, "Normal", "Killing", "x")
    until(lambda: len(held(around)) == 1)
    assert len(around.api.calls("POST", EVENTS)) == 1


def test_an_api_server_that_is_away_gets_the_event_later(around: Surroundings) -> None:
    around.api.refuse("POST", EVENTS, 500, times=2)
    recorder = EventRecorder(around.provider, "cri-bridge", "n1")
    writer(around)
    recorder.event(POD, "Normal", "Pulled", "x")
    until(lambda: len(held(around)) == 1)


def test_of_many_alike_the_one_that_stands_for_them_shows_the_newest(around: Surroundings) -> None:
    recorder = EventRecorder(around.provider, "cri-bridge", "n1")
    writer(around)

    def combined() -> list[tuple[str, int]]:
        return [(item["message"], item["count"]) for item in held(around) if item["message"].startswith("(")]

    for number in range(10):
        recorder.event(POD, "Warning", "Failed", f"trouble {number}")
    until(lambda: combined() == [("(combined from similar events): trouble 9", 1)])
    recorder.event(POD, "Warning", "Failed", "trouble 10")
    until(lambda: combined() == [("(combined from similar events): trouble 10", 2)])
    assert len(held(around)) == 10


def test_a_flood_about_one_pod_is_held_back_and_another_pods_and_type_are_not(around: Surroundings) -> None:
    recorder = EventRecorder(around.provider, "cri-bridge", "n1")
    found = writer(around)
    for number in range(BURST + 10):
        recorder.event(POD, "Warning", f"Failed{number}", "trouble")
    recorder.event(POD, "Normal", "Pulled", "x")
    recorder.event({**POD, "name": "db"}, "Normal", "Pulled", "x")
    until(lambda: any(event["involvedObject"]["name"] == "db" for event in held(around)))
    until(lambda: len(found._dirty) == 0)
    assert len(held(around)) == BURST + 2
    assert json.dumps(held(around)[0])
