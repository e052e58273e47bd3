"""A pod's requests and limits as sums over its containers."""

from typing import Any

from vkcri.api import resources


def amounts(cpu: str, memory: str = "0") -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def pod(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": spec}


def container(name: str, cpu: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "resources": amounts(cpu), **fields}


def test_containers_add_up() -> None:
    assert resources.pod_requests(pod(containers=[container("a", "1"), container("b", "500m")]))["cpu"] == 1.5


def test_the_largest_init_container_counts_where_it_exceeds_the_sum() -> None:
    found = pod(containers=[container("a", "1")], initContainers=[container("i", "3"), container("j", "2")])
    assert resources.pod_requests(found)["cpu"] == 3


def test_a_sidecar_adds_to_containers_and_to_later_init_containers() -> None:
    sidecar = container("s", "1", restartPolicy="Always")
    found = pod(containers=[container("a", "1")], initContainers=[container("i", "2"), sidecar, container("j", "2")])
    assert resources.pod_requests(found)["cpu"] == 3  # sidecar + j
    found = pod(containers=[container("a", "3")], initContainers=[sidecar])
    assert resources.pod_requests(found)["cpu"] == 4


def test_a_request_left_out_is_the_limit() -> None:
    assert resources.pod_requests(pod(containers=[{"name": "a", "resources": {"limits": {"cpu": "2"}}}]))["cpu"] == 2


def test_pod_level_resources_override_the_sum() -> None:
    found = pod(containers=[container("a", "1")], resources={"requests": {"cpu": "4"}, "limits": {"cpu": "5"}})
    assert resources.pod_requests(found)["cpu"] == 4
    assert resources.pod_limits(found)["cpu"] == 5


def test_overhead_is_added_to_requests_and_to_limits_that_exist() -> None:
    found = pod(containers=[container("a", "1")], overhead={"cpu": "250m", "memory": "1Mi"})
    assert resources.pod_requests(found)["cpu"] == 1.25
    assert resources.pod_limits(found)["cpu"] == 1.25
    assert resources.pod_limits(found)["memory"] == 0
    assert resources.pod_requests(found, overhead=False)["cpu"] == 1


def test_limits_are_declared_only_if_every_container_has_one() -> None:
    assert resources.limits_declared(pod(containers=[container("a", "1")]), "cpu")
    assert not resources.limits_declared(pod(containers=[container("a", "1"), {"name": "b"}]), "cpu")
    assert not resources.limits_declared(pod(containers=[container("a", "1")], initContainers=[{"name": "i"}]), "cpu")
    assert resources.limits_declared(pod(containers=[{"name": "b"}], resources={"limits": {"cpu": "1"}}), "cpu")
