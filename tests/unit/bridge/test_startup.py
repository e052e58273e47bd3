"""The indicator of pod startup: from the creation to all containers started, without pulls and init containers."""

from typing import Any

import pytest

from bridge.startup import Started, Startup, together
from vkcri.api import times

CREATED = times.to_epoch("2026-11-25T10:00:00Z")
PENDING: dict[str, Any] = {"phase": "Pending"}


def pod(status: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": "web", "uid": "u", "creationTimestamp": "2026-11-25T10:00:00Z"}
    return {"metadata": metadata, "spec": {"containers": [{"name": "a"}, {"name": "b"}], **spec}, "status": status}


def started(*names: str, **more: Any) -> dict[str, Any]:
    running = {"running": {"startedAt": "2026-11-25T10:00:05Z"}}
    statuses = [{"name": name, "state": running if name in names else {"waiting": {}}} for name in ("a", "b")]
    return {"phase": "Running", "startTime": "2026-11-25T10:00:00Z", "containerStatuses": statuses, **more}


def test_start_is_over_once_when_the_last_container_has_started() -> None:
    startup = Startup(pod(PENDING))
    assert startup.seen(pod(PENDING), CREATED + 1) is None
    assert startup.seen(pod(started("a")), CREATED + 5) is None
    assert startup.seen(pod(started("a", "b")), CREATED + 6) == Started(6.0, 6.0, host_network=False)
    assert startup.seen(pod(started("a", "b")), CREATED + 7) is None


def test_a_pod_of_unknown_creation_has_none() -> None:
    orphan = {"metadata": {"name": "web", "uid": "u"}, "spec": {"containers": []}, "status": {}}
    assert Startup(orphan).seen(orphan, CREATED + 6) is None


def test_pulls_and_init_containers_do_not_count() -> None:
    startup = Startup(pod(PENDING))
    startup.pulled(CREATED + 1, CREATED + 3)
    startup.pulled(CREATED + 2, CREATED + 4)
    end = {"startedAt": "2026-11-25T10:00:04Z", "finishedAt": "2026-11-25T10:00:06Z"}
    init = [{"name": "init", "state": {"terminated": end}}, {"name": "sidecar", "state": {"running": {}}}]
    assert startup.seen(pod(started("a", "b", initContainerStatuses=init), hostNetwork=True), CREATED + 10) == Started(
        10.0, 5.0, host_network=True
    )


def test_pod_with_a_volume_that_outlives_it_has_no_indicator() -> None:
    for volume, counts in (({"emptyDir": {}}, True), ({"hostPath": {"path": "/"}}, False)):
        found = Startup(pod(PENDING)).seen(pod(started("a", "b"), volumes=[{"name": "v", **volume}]), CREATED + 2)
        assert found is not None
        assert (found.sli is not None) is counts


@pytest.mark.parametrize(
    "first", [started(), {"conditions": [{"type": "PodScheduled", "status": "False"}]}], ids=["begun", "no place"]
)
def test_pod_that_had_begun_or_had_no_place_is_left_out(first: dict[str, Any]) -> None:
    assert Startup(pod(first)).seen(pod(started("a", "b")), CREATED + 2) is None


def test_pulls_after_the_start_are_not_kept() -> None:
    for end in (started("a", "b"), {"phase": "Failed"}):
        startup = Startup(pod(PENDING))
        startup.pulled(CREATED, CREATED + 1)
        startup.seen(pod(end), CREATED + 2)
        startup.pulled(CREATED + 3, CREATED + 4)
        assert startup._pulls == []


def test_pod_that_ends_before_it_has_started_is_left_out() -> None:
    startup = Startup(pod(PENDING))
    assert startup.seen(pod({"phase": "Failed"}), CREATED + 1) is None
    assert startup.seen(pod(started("a", "b")), CREATED + 2) is None


def test_times_that_overlap_count_once() -> None:
    assert together([(5, 7), (1, 3), (2, 4), (2, 2.5)]) == 5.0
    assert together([]) == 0.0
