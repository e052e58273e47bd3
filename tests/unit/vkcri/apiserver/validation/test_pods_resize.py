"""A write through `pods/resize`: what it may change, what it leaves as it was, and what it is refused for."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, House, container
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m"}}


def a_pod(house: House, **spec: Any) -> Object:
    house.node()
    init = [container(name="first", resources=SMALL), container(name="side", restartPolicy="Always", resources=SMALL)]
    return house.pod(nodeName=NODE, **{"containers": [container(resources=SMALL)], "initContainers": init, **spec})


def resized(house: House, pod: Object, change: Callable[[Object], object]) -> Object:
    new = copy.deepcopy(pod)
    change(new["spec"])
    return house.update("/pods", new, subresource="resize")


def set_resources(resources: Object, field: str = "containers", index: int = 0) -> Callable[[Object], object]:
    return lambda spec: spec[field][index].update(resources=resources)


def refused(house: House, pod: Object, change: Callable[[Object], object]) -> StatusError:
    with pytest.raises(StatusError) as caught:
        resized(house, pod, change)
    return caught.value


@pytest.mark.parametrize(("field", "index"), [("containers", 0), ("initContainers", 0), ("initContainers", 1)])
def test_cpu_and_memory_of_every_container_change_and_the_generation_with_them(
    house: House, field: str, index: int
) -> None:
    pod = a_pod(house)
    larger = {"requests": {"cpu": "150m", "memory": "96Mi"}, "limits": {"cpu": "0.3", "memory": "128Mi"}}
    stored = resized(house, pod, set_resources(larger, field, index))
    assert stored["spec"][field][index]["resources"]["limits"] == {"cpu": "300m", "memory": "128Mi"}
    assert stored["metadata"]["generation"] == pod["metadata"]["generation"] + 1


def test_everything_else_is_left_as_it_was(house: House) -> None:
    pod = a_pod(house)

    def change(spec: Object) -> None:
        spec["containers"][0] |= {"image": "other:2", "command": ["x"]}
        spec["activeDeadlineSeconds"] = 5

    stored = resized(house, pod, change)
    assert stored["spec"] == pod["spec"]
    assert stored["metadata"] == pod["metadata"]


def test_a_status_and_labels_do_not_come_in_that_way(house: House) -> None:
    pod = a_pod(house)
    new = copy.deepcopy(pod)
    new["metadata"]["labels"] = {"a": "b"}
    new["status"] = {"phase": "Running"}
    stored = house.update("/pods", new, subresource="resize")
    assert stored["status"] == pod["status"]
    assert "labels" not in stored["metadata"]


def test_the_pod_itself_changes_resources_by_resize_only(house: House) -> None:
    pod = a_pod(house)
    new = copy.deepcopy(pod)
    new["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1m"
    with pytest.raises(StatusError, match="pod updates may not change fields"):
        house.update("/pods", new)


BIG = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
REFUSED: dict[str, tuple[Callable[[Object], object], str]] = {
    "another class": (
        lambda spec: [set_resources({}, field, index)(spec) for field, index in ALL],
        "Pod QOS Class may not change as a result of resizing",
    ),
    "a request removed": (
        set_resources({"requests": {"cpu": "1m"}, "limits": {"cpu": "200m"}}),
        "requests: Forbidden: resource requests cannot be removed",
    ),
    "a limit removed": (set_resources({"requests": SMALL["requests"]}), "resource limits cannot be removed"),
    "another resource": (
        set_resources({**SMALL, "requests": {**SMALL["requests"], "ephemeral-storage": "1"}}),
        "only cpu and memory resources are mutable",
    ),
    "another resource of an init container": (
        set_resources({**SMALL, "requests": {**SMALL["requests"], "ephemeral-storage": "1"}}, "initContainers"),
        "only cpu and memory resources for init or sidecar containers are mutable",
    ),
    "a request above its limit": (
        set_resources({"requests": {"cpu": "300m", "memory": "1"}, "limits": {"cpu": "200m"}}),
        "must be less than or equal to cpu limit of 200m",
    ),
    "a policy": (
        lambda spec: spec["containers"][0].update(
            resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
        ),
        "only cpu and memory resources are mutable",
    ),
    "a container removed": (
        lambda spec: spec.update(initContainers=spec["initContainers"][:1]),
        "initContainers may not be added or removed on resize",
    ),
    "a container renamed": (
        lambda spec: spec["containers"][0].update(name="other"),
        "containers may not be renamed or reordered on resize",
    ),
}
ALL = [("containers", 0), ("initContainers", 0), ("initContainers", 1)]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(house: House, name: str) -> None:
    change, text = REFUSED[name]
    error = refused(house, a_pod(house), change)
    assert (error.code, error.reason) == (422, "Invalid")
    assert text in error.message


def test_a_node_that_could_never_give_it_is_told_at_once(house: House) -> None:
    pod = a_pod(house)
    huge = {"requests": {"cpu": "3", "memory": "64Gi"}, "limits": {"cpu": "3"}}
    error = refused(house, pod, set_resources(huge))
    assert error.code == 403
    assert (
        "node didn't have enough allocatable resources: cpu, requested: 3100, allocatable: 2000; mem" in error.message
    )
    assert (error.details or {})["causes"] == [{"reason": "NodeCapacity"}]


def test_a_node_that_does_not_report_resources_does_not_resize(house: House) -> None:
    pod = a_pod(house)
    status = {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}
    house.update("/pods", {**pod, "status": {**pod["status"], **status}}, subresource="status")
    pod = house.get("/pods", "default", "p") or {}
    assert "node without support for resize" in refused(house, pod, set_resources(BIG)).message


def test_a_pods_own_resources_change_too_and_are_not_removed(house: House) -> None:
    own = {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
    pod = a_pod(house, resources=own)
    larger = {"requests": {"cpu": "600m", "memory": "256Mi"}, "limits": {"cpu": "1500m", "memory": "512Mi"}}
    stored = resized(house, pod, lambda spec: spec.update(resources=larger))
    assert stored["spec"]["resources"] == larger
    unaware = resized(house, stored, lambda spec: spec.pop("resources"))
    assert unaware["spec"]["resources"] == larger
    less = {"requests": larger["requests"], "limits": {"cpu": "2"}}
    error = refused(house, stored, lambda spec: spec.update(resources=less))
    assert "pod-level resource limits cannot be removed" in error.message


def test_a_policy_that_restarts_is_for_pods_and_containers_that_do(house: House) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    found = house.errors("/pods", a_spec(containers=[container(resizePolicy=policy)], restartPolicy="Never"))
    assert "must be 'NotRequired' when pod" in found["spec.containers[0].resizePolicy"]
    found = house.errors("/pods", a_spec(initContainers=[container(name="i", resizePolicy=policy)]))
    assert "for non-sidecar initContainers" in found["spec.initContainers[0].resizePolicy[0].restartPolicy"]
    assert house.errors("/pods", a_spec(containers=[container(resizePolicy=policy)])) == {}


def a_spec(**spec: Any) -> Object:
    return {"metadata": {"name": "q", "namespace": "default"}, "spec": {"containers": [container()], **spec}}


@pytest.mark.parametrize("rest", [{}, {"spec": None}, {"spec": {}}])
def test_a_pod_without_containers_is_refused_as_one_that_removes_them(house: House, rest: Object) -> None:
    pod = a_pod(house)
    with pytest.raises(StatusError, match="containers may not be added or removed on resize") as caught:
        house.update("/pods", {"metadata": copy.deepcopy(pod["metadata"]), **rest}, subresource="resize")
    assert caught.value.code == 422
