"""Dirty keys, versions, the Lease as it is written, signs of life, the events' allowance, metrics."""

import threading
from typing import Any

import pytest

from tests.waiting import PATIENCE
from vkcri.watcher.dirty import DirtyKeys
from vkcri.watcher.events import BURST, REFILL_SECONDS, Allowance, as_event
from vkcri.watcher.lease import Pulse, renewed
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.versions import is_newer


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_key_stands_once_and_comes_again_if_added_while_it_is_worked_on() -> None:
    keys = DirtyKeys()
    for key in ("a", "b", "a"):
        keys.add(key)
    assert [keys.take(), keys.take()] == ["a", "b"]
    keys.add("a")
    keys.add("a")
    waiting: list[str | None] = []
    worker = threading.Thread(target=lambda: waiting.append(keys.take()))
    worker.start()
    assert waiting == []  # one at a time
    keys.done("a")
    worker.join(PATIENCE)
    assert waiting == ["a"]
    keys.done("a")
    keys.done("b")
    assert len(keys) == 0


def test_a_delayed_key_comes_when_it_is_due_and_at_once_when_added_anew() -> None:
    clock = Clock()
    keys = DirtyKeys(clock)
    keys.add("later", 60)
    keys.add("now")
    assert keys.take() == "now"
    keys.done("now", retry=30)
    clock.now += 31
    assert keys.take() == "now"
    keys.add("later")
    assert keys.take() == "later"


def test_close_wakes_every_taker() -> None:
    keys = DirtyKeys()
    results: list[str | None] = []
    threads = [threading.Thread(target=lambda: results.append(keys.take())) for _ in range(3)]
    for thread in threads:
        thread.start()
    keys.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [None, None, None]


@pytest.mark.parametrize(
    ("left", "right", "newer"),
    [("10", "9", True), ("9", "10", False), ("9", "9", False), ("a", "b", True), ("a", "a", False), ("5", "", True)],
)
def test_versions_compare_as_numbers(left: str, right: str, newer: bool) -> None:
    assert is_newer(left, right) is newer


def test_a_lease_is_made_and_renewed_with_the_node_as_its_owner() -> None:
    made = renewed(None, "n1", "uid-1", "2026-11-23T12:00:00.000000Z")
    assert made["metadata"]["name"] == "n1"
    assert made["spec"] == {
        "holderIdentity": "n1",
        "leaseDurationSeconds": 40,
        "renewTime": "2026-11-23T12:00:00.000000Z",
    }
    held = {**made, "metadata": {**made["metadata"], "resourceVersion": "7", "labels": {"x": "y"}}}
    again = renewed(held, "n1", "uid-2", "2026-11-23T12:00:10.000000Z")
    assert again["metadata"]["resourceVersion"] == "7"
    assert again["metadata"]["labels"] == {"x": "y"}
    assert [owner["uid"] for owner in again["metadata"]["ownerReferences"]] == ["uid-2"]


NOON = 1795435200.0  # 2026-11-23T12:00:00Z


@pytest.mark.parametrize(("seconds", "alive"), [(0, True), (39, True), (41, False), (-3600, False)])
def test_a_stamp_of_the_last_forty_seconds_is_a_sign_of_life(seconds: float, alive: bool) -> None:
    pulse = Pulse(Clock(), Clock(NOON + seconds))
    assert pulse.beats("lease", "2026-11-23T12:00:00.000000Z") is alive


def test_a_stamp_that_changes_is_a_sign_of_life_whatever_the_clocks_say() -> None:
    clock = Clock()
    pulse = Pulse(clock, Clock(NOON + 7200))
    assert not pulse.beats("lease", "2026-11-23T12:00:00.000000Z")
    clock.now += 10
    assert pulse.beats("lease", "2026-11-23T12:00:10.000000Z")
    clock.now += 39
    assert pulse.beats("lease", "2026-11-23T12:00:10.000000Z")
    clock.now += 2
    assert not pulse.beats("lease", "2026-11-23T12:00:10.000000Z")
    assert not pulse.beats("lease", None)
    assert not pulse.beats("heartbeat", "nonsense")


def test_events_of_one_object_are_held_back_after_a_burst_and_others_are_not() -> None:
    clock = Clock()
    allowance = Allowance(clock)
    assert [allowance.take("pod-a") for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert allowance.take("pod-b")
    clock.now += REFILL_SECONDS + 1
    assert [allowance.take("pod-a"), allowance.take("pod-a")] == [True, False]


ENTRY: dict[str, Any] = {
    "involvedObject": {"kind": "Pod", "namespace": "shop", "name": "web", "uid": "u1"},
    "type": "Warning",
    "reason": "BackOff",
    "message": "Back-off restarting failed container",
    "count": 3,
    "firstTimestamp": "2026-11-23T12:00:00Z",
    "lastTimestamp": "2026-11-23T12:01:00Z",
    "source": {"component": "vkcri", "host": "n1"},
}


def test_an_events_name_follows_its_key_and_first_time_and_not_its_count() -> None:
    first, again = as_event("k", ENTRY), as_event("k", {**ENTRY, "count": 9, "lastTimestamp": "x"})
    assert first["metadata"] == again["metadata"]
    assert first["metadata"]["namespace"] == "shop"
    assert first["metadata"]["name"].startswith("web.")
    other = as_event("k", {**ENTRY, "firstTimestamp": "2026-11-23T13:00:00Z"})
    assert other["metadata"]["name"] != first["metadata"]["name"]


def test_an_event_about_a_node_lives_in_default_and_a_long_name_is_cut() -> None:
    entry = {**ENTRY, "involvedObject": {"kind": "Node", "name": "n" * 253}}
    metadata = as_event("k", entry)["metadata"]
    assert metadata["namespace"] == "default"
    assert len(metadata["name"]) == 253


def test_metrics_are_prometheus_text() -> None:
    metrics = Metrics()
    metrics.count("failures_total", error='a"b\n')
    metrics.count("failures_total", error='a"b\n')
    metrics.observe("patch", 0.5)
    metrics.gauge("waiting", lambda: 2.0)
    metrics.requested("GET", "server:1", "200", 0.2)
    lines = metrics.text().splitlines()
    assert lines[:7] == [
        "# TYPE vkcri_watcher_failures_total counter",
        r'vkcri_watcher_failures_total{error="a\"b\n"} 2',
        "# TYPE vkcri_watcher_patch_seconds summary",
        "vkcri_watcher_patch_seconds_count 1",
        "vkcri_watcher_patch_seconds_sum 0.5",
        "# TYPE vkcri_watcher_waiting gauge",
        "vkcri_watcher_waiting 2",
    ]
    assert 'rest_client_requests_total{code="200",host="server:1",method="GET"} 1' in lines
    assert 'rest_client_request_duration_seconds_bucket{host="server:1",verb="GET",le="0.25"} 1' in lines
    assert any(line.startswith("process_start_time_seconds ") for line in lines)
