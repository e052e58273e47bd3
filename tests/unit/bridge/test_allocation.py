"""What a pod was granted: laid over what it asks for, read back from its status, and in which order others wait."""

from typing import Any

import pytest

from bridge.allocation import Allocation, allocation_of, applied, increases, order, remembered
from tests.unit.bridge.building import a_pod, spec

SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m"}}
LARGE = {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "400m"}}


def pod(asked: dict[str, Any], generation: int = 2, **more: Any) -> dict[str, Any]:
    made = a_pod(spec(resources=asked), **more)
    made["metadata"]["generation"] = generation
    return made


def told(resources: dict[str, Any] | None, requests: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    item: dict[str, Any] = {"name": "app"}
    if resources is not None:
        item["resources"] = resources
    if requests is not None:
        item["allocatedResources"] = requests
    return {"containerStatuses": [item], **more}


def test_a_pod_that_has_all_that_it_asks_for_is_the_pod_itself() -> None:
    asked = pod(SMALL)
    assert applied(asked, allocation_of(asked)) is asked


def test_a_pod_is_seen_with_what_it_was_granted_and_everything_else_of_its_own() -> None:
    asked = pod(LARGE, nodeName="n", initContainers=[spec("first", resources=LARGE)], resources=LARGE)
    granted = Allocation({"app": SMALL, "first": {}}, SMALL)
    seen = applied(asked, granted)
    assert seen["spec"]["containers"][0] == {**asked["spec"]["containers"][0], "resources": SMALL}
    assert (seen["spec"]["initContainers"][0]["resources"], seen["spec"]["resources"]) == ({}, SMALL)
    assert seen["spec"]["nodeName"] == "n"
    assert asked["spec"]["containers"][0]["resources"] == LARGE


@pytest.mark.parametrize(
    ("status", "granted"),
    [
        ({}, LARGE),
        (told(None), LARGE),
        (told(SMALL, SMALL["requests"]), SMALL),
        (told({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}, {"cpu": "100m", "memory": "65536Ki"}), SMALL),
        (told({}), {}),
        (
            told(
                SMALL,
                LARGE["requests"],
                conditions=[{"type": "PodResizeInProgress", "status": "True", "observedGeneration": 2}],
            ),
            LARGE,
        ),
        (
            told(
                SMALL,
                SMALL["requests"],
                conditions=[{"type": "PodResizeInProgress", "status": "True", "observedGeneration": 1}],
            ),
            SMALL,
        ),
    ],
    ids=["no status", "no word", "as told", "same amounts", "had none", "this one under way", "an older one under way"],
)
def test_after_a_restart_the_status_says_what_was_granted(status: dict[str, Any], granted: dict[str, Any]) -> None:
    assert remembered(pod(LARGE), status).containers == {"app": granted}


def test_other_resources_are_always_as_asked_for() -> None:
    asked = pod({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}})
    found = remembered(asked, told({"requests": {"cpu": "500m"}}, {"cpu": "500m", "ephemeral-storage": "2Gi"}))
    assert found.containers["app"] == {"requests": {"cpu": "500m", "ephemeral-storage": "1Gi"}}


def test_the_pods_own_resources_are_told_with_its_overhead() -> None:
    asked = pod({}, resources=LARGE, overhead={"cpu": "50m", "memory": "16Mi"})
    requests = {"cpu": "150m", "memory": "80Mi"}
    status = {"resources": {"requests": requests, "limits": {"cpu": "250m"}}, "allocatedResources": requests}
    assert remembered(asked, status).pod == SMALL
    assert remembered(pod({}), status).pod == {}


def test_resizes_are_looked_at_in_the_kubelets_order() -> None:
    def waiting(resources: dict[str, Any], since: str, **more: Any) -> tuple[dict[str, Any], Allocation, str]:
        return pod(resources, **more), Allocation({"app": SMALL}), since

    shrinks = waiting({"requests": {"cpu": "50m", "memory": "64Mi"}}, "2026-11-25T09:00:00Z")
    important = waiting(LARGE, "2026-11-25T08:00:00Z", priority=100)
    full = {"cpu": "200m", "memory": "64Mi"}
    guaranteed = waiting({"requests": full, "limits": full}, "2026-11-25T09:00:00Z")
    older, newer = waiting(LARGE, "2026-11-25T07:00:00Z"), waiting(LARGE, "2026-11-25T08:00:00Z")
    listed = [newer, older, guaranteed, important, shrinks]
    assert sorted(listed, key=lambda item: order(*item)) == [shrinks, important, guaranteed, older, newer]
    assert [increases(item[0], item[1]) for item in (shrinks, older)] == [False, True]
