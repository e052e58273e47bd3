"""A node writes about itself and its own pods."""

import copy
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, House, node, pod
from vkcri.apiserver import internal, pod_actions
from vkcri.apiserver.admission import node_restriction
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
MIRROR = {"kubernetes.io/config.mirror": "x"}
LEASES = "coordination.k8s.io/leases"


def mirror(house: House, **spec: Any) -> Object:
    """A mirror pod as the kubelet makes it; the Node is there afterwards."""
    found = house.get("/nodes", "", NODE) or house.create("/nodes", node())
    made = pod(nodeName=NODE, **spec)
    made["metadata"]["annotations"] = dict(MIRROR)
    uid = found["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": uid, "controller": True}
    made["metadata"]["ownerReferences"] = [owner]
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
    stored = house.create("/pods", mirror(house), house.as_node())
    assert "volumes" not in stored["spec"]
    assert "serviceAccountName" not in stored["spec"]


def test_a_mirror_pod_is_bound_to_its_node(house: House) -> None:
    other = mirror(house)
    other["spec"]["nodeName"] = "n2"
    assert "with spec.nodeName set to itself" in refused(house, "/pods", other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "Pod"}, "with an owner reference set to itself"),
        ({"apiVersion": "v2"}, "with an owner reference set to itself"),
        ({"name": "n2"}, "with an owner reference set to itself"),
        ({"controller": None}, "with a controller owner reference set to itself"),
        ({"blockOwnerDeletion": True}, "must not set blockOwnerDeletion on an owner reference"),
        ({"uid": "another"}, "node n1 UID mismatch: expected another got "),
    ],
    ids=str,
)
def test_a_mirror_pods_owner_is_its_node(house: House, change: Object, message: str) -> None:
    made = mirror(house)
    made["metadata"]["ownerReferences"][0] |= change
    assert message in refused(house, "/pods", made)


def test_a_mirror_pod_has_one_owner(house: House) -> None:
    made = mirror(house)
    owners = made["metadata"]["ownerReferences"]
    made["metadata"]["ownerReferences"] = []
    assert "with an owner reference set to itself" in refused(house, "/pods", made)
    made["metadata"]["ownerReferences"] = [*owners, {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"}]
    assert "with a single owner reference set to itself" in refused(house, "/pods", made)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ({"serviceAccountName": "default"}, "serviceaccounts"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "secrets"),
        ({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}, "configmaps"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "persistentvolumeclaims"),
        (
            {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
            "serviceaccounts (via projected volumes)",
        ),
    ],
    ids=str,
)
def test_a_mirror_pod_refers_to_nothing(house: House, spec: Object, kind: str) -> None:
    text = refused(house, "/pods", mirror(house, **spec))
    assert text.endswith(f'node "n1" can not create pods that reference {kind}')


def test_a_mirror_pod_has_no_projected_source_that_nobody_knows(house: House) -> None:
    text = refused(house, "/pods", mirror(house, volumes=[{"name": "v", "projected": {"sources": [{}]}}]))
    assert text.endswith('unknown source for projected volume "v"')


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
    with pytest.raises(StatusError) as caught:
        update_as_node(house, "/pods", stored, None)
    assert "can only create and delete mirror pods" in caught.value.message
    claimed = copy.deepcopy(stored)
    claimed["status"]["resourceClaimStatuses"] = [{"name": "a", "resourceClaimName": "b"}]
    with pytest.raises(StatusError) as caught:
        update_as_node(house, "/pods", claimed, "status")
    assert "cannot update resource claim statues" in caught.value.message


def test_a_node_deletes_its_own_pods(house: House) -> None:
    house.pod("mine", nodeName=NODE)
    house.pod("other", nodeName="n2")
    internal.delete(house.as_node(), "/pods", "default", "mine", {"gracePeriodSeconds": 0})
    assert house.get("/pods", "default", "mine") is None
    with pytest.raises(StatusError) as caught:
        internal.delete(house.as_node(), "/pods", "default", "other", {"gracePeriodSeconds": 0})
    assert "can only delete pods with spec.nodeName set to itself" in caught.value.message


def test_a_node_evicts_its_own_pods(house: House) -> None:
    house.pod("other", nodeName="n2")
    with pytest.raises(StatusError) as caught:
        pod_actions.evict("default", "other", {}, house.as_node())
    assert "node n1 can only evict pods with spec.nodeName set to itself" in caught.value.message


@pytest.mark.parametrize(
    ("reference", "audiences", "message"),
    [
        ({}, [], "node requested token not bound to a pod"),
        ({"kind": "Secret"}, [], "node requested token not bound to a pod"),
        ({"uid": ""}, [], "with a pod binding without a uid"),
        ({"uid": "another"}, [], "does not match the UID in record"),
        ({"name": "other"}, [], "bound to a pod scheduled on a different node"),
        (None, ["vault", "other"], "node may only request 0 or 1 audiences"),
        (None, ["other"], 'system:node:n1 is not authorized to request tokens for audience "other"'),
    ],
    ids=str,
)
def test_a_token_is_for_a_pod_of_the_node_and_an_audience_that_it_names(
    house: House, reference: Object | None, audiences: list[str], message: str
) -> None:
    ctx = house.as_node()
    mine, other = _pods_with_tokens(house)
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": mine["metadata"]["uid"]}
    if reference is not None:
        bound = {**bound, **reference} if reference else {}
    if bound.get("name") == "other":
        bound["uid"] = other["metadata"]["uid"]
    with pytest.raises(StatusError) as caught:
        node_restriction.admit_token("default", "default", {"boundObjectRef": bound, "audiences": audiences}, ctx)
    assert caught.value.code == 403
    assert message in caught.value.message


@pytest.mark.parametrize("audiences", [[], ["vault"]])
def test_a_node_gets_tokens_for_the_audiences_of_its_pods(house: House, audiences: list[str]) -> None:
    mine, _ = _pods_with_tokens(house)
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "mine", "uid": mine["metadata"]["uid"]}
    asked = {"boundObjectRef": bound, "audiences": audiences}
    node_restriction.admit_token("default", "default", asked, house.as_node())
    gone = {"boundObjectRef": {**bound, "name": "gone"}}
    with pytest.raises(StatusError) as caught:
        node_restriction.admit_token("default", "default", gone, house.as_node())
    assert caught.value.code == 404


def _pods_with_tokens(house: House) -> tuple[Object, Object]:
    """A pod of the node with a token for `vault` beside its account's, and one of another node."""
    sources = [{"serviceAccountToken": {"path": "token", "audience": "vault"}}]
    volumes = [{"name": "vault", "projected": {"sources": sources}}]
    return house.pod("mine", nodeName=NODE, volumes=volumes), house.pod("other", nodeName="n2", volumes=volumes)


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
    owned = copy.deepcopy(stored)
    owned["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "b"}]
    with pytest.raises(StatusError) as caught:
        update_as_node(house, "/nodes", owned, None)
    assert "is not allowed to modify ownerReferences" in caught.value.message
    labelled = copy.deepcopy(stored)
    labelled["metadata"]["labels"]["kubernetes.io/role"] = "master"
    with pytest.raises(StatusError) as caught:
        update_as_node(house, "/nodes", labelled, None)
    assert caught.value.message.endswith(": is not allowed to modify labels: kubernetes.io/role")
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
