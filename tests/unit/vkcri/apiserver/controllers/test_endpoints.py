"""Slices and Endpoints follow services and pods."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, container, pod
from vkcri.apiserver.controllers import slices
from vkcri.apiserver.controllers.endpoints import EndpointsController

Object = dict[str, Any]
SLICES = "discovery.k8s.io/endpointslices"


@pytest.fixture
def controller(house: House) -> EndpointsController:
    return EndpointsController(house.ctx)


def service(house: House, **spec: Any) -> Object:
    metadata = {"name": "web", "namespace": "default", "labels": {"team": "x"}}
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    spec = {key: value for key, value in spec.items() if value is not None}
    return house.create("/services", {"metadata": metadata, "spec": spec})


def running(house: House, name: str, ip: str, *, ready: bool = True, app: str = "web", **spec: Any) -> Object:
    made = house.create("/pods", pod(name, labels={"app": app}, nodeName="n1", **spec))
    conditions = [{"type": "Ready", "status": str(ready)}]
    made["status"] |= {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions}
    return house.update("/pods", made, subresource="status")


def found(house: House) -> list[Object]:
    return house.store.list(SLICES, "default")[0]


def conditions(house: House) -> dict[str, Object]:
    return {endpoint["addresses"][0]: endpoint["conditions"] for item in found(house) for endpoint in item["endpoints"]}


def test_ready_pods_are_endpoints(house: House, controller: EndpointsController) -> None:
    made = service(house)
    one = running(house, "one", "10.0.0.1")
    running(house, "other", "10.0.0.9", app="db")
    controller.reconcile("default/web")
    (item,) = found(house)
    assert item["metadata"]["name"].startswith("web-")
    assert item["metadata"]["labels"] == {
        "team": "x",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert item["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]
    assert item["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
    assert item["endpoints"] == [
        {
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "n1",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "one", "uid": one["metadata"]["uid"]},
        }
    ]
    legacy = house.get("/endpoints", "default", "web")
    assert legacy is not None
    (subset,) = legacy["subsets"]
    assert [address["ip"] for address in subset["addresses"]] == ["10.0.0.1"]
    assert subset["ports"] == [{"port": 8080, "protocol": "TCP"}]


def test_readiness_and_going_are_told_apart(house: House, controller: EndpointsController) -> None:
    service(house)
    running(house, "going", "10.0.0.1")
    running(house, "unready", "10.0.0.2", ready=False)
    house.delete("/pods", "default", "going")
    controller.reconcile("default/web")
    assert conditions(house) == {
        "10.0.0.1": {"ready": False, "serving": True, "terminating": True},
        "10.0.0.2": {"ready": False, "serving": False, "terminating": False},
    }
    legacy = house.get("/endpoints", "default", "web")
    assert legacy is not None
    assert [address["ip"] for address in legacy["subsets"][0]["notReadyAddresses"]] == ["10.0.0.2"]
    assert "addresses" not in legacy["subsets"][0]


def test_unready_pods_may_be_published(house: House, controller: EndpointsController) -> None:
    service(house, publishNotReadyAddresses=True, clusterIP="None")
    running(house, "unready", "10.0.0.2", ready=False)
    controller.reconcile("default/web")
    assert conditions(house)["10.0.0.2"] == {"ready": True, "serving": False, "terminating": False}
    assert "service.kubernetes.io/headless" in found(house)[0]["metadata"]["labels"]


def test_pods_that_have_ended_or_have_no_address_are_none(house: House, controller: EndpointsController) -> None:
    service(house)
    ended = running(house, "ended", "10.0.0.1")
    ended["status"]["phase"] = "Failed"
    house.update("/pods", ended, subresource="status")
    house.create("/pods", pod("new", labels={"app": "web"}, nodeName="n1"))
    controller.reconcile("default/web")
    (item,) = found(house)
    assert item["endpoints"] is None  # as Kubernetes writes an empty list that it never leaves out


def test_named_ports_are_each_pods_own(house: House, controller: EndpointsController) -> None:
    service(house, ports=[{"name": "http", "port": 80, "targetPort": "web"}])
    for name, ip, port in (("one", "10.0.0.1", 8080), ("two", "10.0.0.2", 9090)):
        running(house, name, ip, containers=[container(ports=[{"name": "web", "containerPort": port}])])
    controller.reconcile("default/web")
    ports = {item["endpoints"][0]["addresses"][0]: item["ports"][0]["port"] for item in found(house)}
    assert ports == {"10.0.0.1": 8080, "10.0.0.2": 9090}


def test_a_host_name_under_the_service_is_told(house: House, controller: EndpointsController) -> None:
    service(house, clusterIP="None")
    running(house, "one", "10.0.0.1", hostname="first", subdomain="web")
    controller.reconcile("default/web")
    assert found(house)[0]["endpoints"][0]["hostname"] == "first"


def test_nothing_is_written_when_nothing_changed(house: House, controller: EndpointsController) -> None:
    service(house)
    running(house, "one", "10.0.0.1")
    controller.reconcile("default/web")
    version = house.store.current_rv()
    controller.reconcile("default/web")
    EndpointsController(house.ctx).reconcile("default/web")
    assert house.store.current_rv() == version


def test_a_slice_is_changed_in_place(house: House, controller: EndpointsController) -> None:
    service(house)
    running(house, "one", "10.0.0.1")
    controller.reconcile("default/web")
    before = found(house)[0]
    running(house, "two", "10.0.0.2")
    controller.reconcile("default/web")
    (after,) = found(house)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    assert set(conditions(house)) == {"10.0.0.1", "10.0.0.2"}


def test_many_endpoints_make_many_slices(house: House, controller: EndpointsController) -> None:
    service(house)
    for index in range(120):
        running(house, f"p{index:03}", f"10.0.0.{index + 1}")
    controller.reconcile("default/web")
    assert sorted(len(item["endpoints"]) for item in found(house)) == [20, 100]
    for index in range(40):
        house.delete("/pods", "default", f"p{index:03}", gracePeriodSeconds=0)
    controller.reconcile("default/web")
    assert [len(item["endpoints"]) for item in found(house)] == [80]


def test_slices_go_with_their_service_and_those_of_others_stay(house: House, controller: EndpointsController) -> None:
    service(house)
    mine = {"name": "mine", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}
    house.create(SLICES, {"metadata": mine, "addressType": "IPv4", "endpoints": []})
    running(house, "one", "10.0.0.1")
    controller.reconcile("default/web")
    assert len(found(house)) == 2
    house.delete("/services", "default", "web")
    controller.reconcile("default/web")
    assert [item["metadata"]["name"] for item in found(house)] == ["mine"]
    assert house.get("/endpoints", "default", "web") is None


def test_hand_written_endpoints_are_mirrored(house: House, controller: EndpointsController) -> None:
    service(house, selector=None)
    metadata = {"name": "web", "namespace": "default"}
    subset = {"addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 5}]}
    house.create("/endpoints", {"metadata": metadata, "subsets": [subset]})
    controller.reconcile("default/web")
    (item,) = found(house)
    assert item["metadata"]["labels"][slices.MANAGED_BY] == "endpointslicemirroring-controller.k8s.io"
    assert item["ports"] == [{"name": "", "protocol": "TCP", "port": 5}]
    assert conditions(house) == {"192.0.2.1": {"ready": True}, "192.0.2.2": {"ready": False}}
    house.delete("/services", "default", "web")
    controller.reconcile("default/web")
    assert found(house) == []
    assert house.get("/endpoints", "default", "web") is not None


def test_a_pods_change_concerns_services_only_where_endpoints_would_show_it(
    house: House, controller: EndpointsController
) -> None:
    service(house)
    made = running(house, "one", "10.0.0.1")
    of_pod = controller.sources["/pods"]
    assert list(of_pod(made, False)) == ["default/web"]
    made["status"]["containerStatuses"] = [{"name": "main", "restartCount": 3}]
    assert list(of_pod(made, False)) == []
    made["metadata"]["labels"] = {"app": "db"}
    assert list(of_pod(made, False)) == ["default/web"]
    assert list(of_pod(made, True)) == ["default/web"]


def test_a_removed_slice_is_made_again(house: House, controller: EndpointsController) -> None:
    service(house)
    controller.reconcile("default/web")
    (item,) = found(house)
    assert list(controller.sources[SLICES](item, True)) == ["default/web"]
    house.delete(SLICES, "default", item["metadata"]["name"])
    controller.reconcile("default/web")
    assert len(found(house)) == 1
