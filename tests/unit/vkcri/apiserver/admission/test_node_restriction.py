"""A node writes about itself and its own pods."""

import copy
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, House, node, pod
from vkcri.apiserver import internal
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
MIRROR = {"kubernetes.io/config.mirror": "x"}
LEASES = "coordination.k8s.io/leases"


def mirror(**spec: Any) -> Object:
    made = pod(nodeName=NODE, **spec)
    made["metadata"]["annotations"] = dict(MIRROR)
    return made


def refused(house: House, key: str, obj: Object) -> str:
    with pytest.raises(StatusError) as caught:
        house.create(key, obj, house.as_node())
    assert caught.value.code == 403
    return caught.value.message


def update_as_node(house: House, key: str, obj: Object, subresource: str | None) -> Object:
    metadata = obj["metadata"]
    where = metadata.get("namespace") or ""
    return internal.update(house.as_node(), key, where, metadata["name"], lambda _: obj, subresource=subresource)


def test_a_node_makes_mirror_pods_only(house: House) -> None:
    assert 'node "n1" can only create mirror pods' in refused(house, "/pods", pod(nodeName=NODE))
    stored = house.create("/pods", mirror(), house.as_node())
    assert "volumes" not in stored["spec"]
    assert "serviceAccountName" not in stored["spec"]


def test_a_mirror_pod_is_the_nodes_own_and_refers_to_nothing(house: House) -> None:
    other = mirror()
    other["spec"]["nodeName"] = "n2"
    assert "with spec.nodeName set to itself" in refused(house, "/pods", other)
    secret = {"name": "v", "secret": {"secretName": "s"}}
    assert "can not create pods that reference secrets" in refused(house, "/pods", mirror(volumes=[secret]))
    assert "reference a service account" in refused(house, "/pods", mirror(serviceAccountName="default"))


def test_a_node_writes_the_status_of_its_own_pods(house: House) -> None:
    stored = house.pod(nodeName=NODE)
    stored["status"]["phase"] = "Running"
    assert update_as_node(house, "/pods", stored, "status")["status"]["phase"] == "Running"
    other = house.pod("other", nodeName="n2")
    other["status"]["phase"] = "Running"
    with pytest.raises(StatusError) as caught:
        update_as_node(house, "/pods", other, "status")
    assert "can only update pod status for pods with spec.nodeName set to itself" in caught.value.message


def test_a_node_changes_no_labels_and_no_specs_of_pods(house: House) -> None:
    stored = house.pod(nodeName=NODE)
    labelled = copy.deepcopy(stored)
    labelled["metadata"]["labels"] = {"a": "b"}
    with pytest.raises(StatusError) as caught:
        update_as_node(house, "/pods", labelled, "status")
    assert "cannot update labels through pod status" in caught.value.message
    with pytest.raises(StatusError):
        update_as_node(house, "/pods", stored, None)


def test_a_node_deletes_its_own_pods(house: House) -> None:
    house.pod("mine", nodeName=NODE)
    house.pod("other", nodeName="n2")
    internal.delete(house.as_node(), "/pods", "default", "mine", {"gracePeriodSeconds": 0})
    assert house.get("/pods", "default", "mine") is None
    with pytest.raises(StatusError) as caught:
        internal.delete(house.as_node(), "/pods", "default", "other", {"gracePeriodSeconds": 0})
    assert "can only delete pods with spec.nodeName set to itself" in caught.value.message


def test_a_node_registers_itself_only(house: House) -> None:
    assert 'is not allowed to modify node "n2"' in refused(house, "/nodes", node("n2"))
    house.create("/nodes", node(spec={"taints": [{"key": "a", "effect": "NoSchedule"}]}), house.as_node())


def test_a_node_keeps_its_taints_and_owners(house: House) -> None:
    stored = house.create("/nodes", node(), house.as_node())
    tainted = copy.deepcopy(stored)
    tainted["spec"]["taints"] = [{"key": "a", "effect": "NoSchedule"}]
    with pytest.raises(StatusError) as caught:
        update_as_node(house, "/nodes", tainted, None)
    assert "is not allowed to modify taints" in caught.value.message
    stored["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    update_as_node(house, "/nodes", stored, "status")


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        ("type", True),
        ("example.com/x", True),
        ("kubernetes.io/hostname", True),
        ("node.kubernetes.io/anything", True),
        ("kubernetes.io/role", False),
        ("node-role.kubernetes.io/control-plane", False),
        ("node-restriction.kubernetes.io/x", False),
        ("example.com.node-restriction.kubernetes.io/x", False),
    ],
)
def test_labels_that_keep_workloads_away_are_not_the_nodes(house: House, label: str, allowed: bool) -> None:
    made = node()
    made["metadata"]["labels"][label] = "x"
    if allowed:
        house.create("/nodes", made, house.as_node())
    else:
        assert f"is not allowed to set the following labels: {label}" in refused(house, "/nodes", made)


def test_a_node_holds_its_own_lease(house: House) -> None:
    house.namespace("kube-node-lease")
    house.create(LEASES, {"metadata": {"name": NODE, "namespace": "kube-node-lease"}}, house.as_node())
    assert "same name as the requesting node" in refused(
        house, LEASES, {"metadata": {"name": "n2", "namespace": "kube-node-lease"}}
    )
    assert 'in the "kube-node-lease" system namespace' in refused(
        house, LEASES, {"metadata": {"name": NODE, "namespace": "default"}}
    )
