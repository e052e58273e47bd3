"""Namespaces, nodes, accounts, root CAs, old pods and old events."""

import base64
from typing import Any

import pytest

from tests.clock import Clock
from tests.unit.vkcri.apiserver.house import NODE, House, node
from vkcri.api import times
from vkcri.apiserver import bootstrap, internal, pki, tokens
from vkcri.apiserver.authn import Authenticator
from vkcri.apiserver.controllers import podgc
from vkcri.apiserver.controllers.events import EventExpiry, record
from vkcri.apiserver.controllers.kubernetes import KubernetesController
from vkcri.apiserver.controllers.namespaces import NamespaceController
from vkcri.apiserver.controllers.nodes import GRACE, NodeController
from vkcri.apiserver.controllers.podgc import PodCollector
from vkcri.apiserver.controllers.rootca import RootCaController
from vkcri.apiserver.controllers.serviceaccounts import ServiceAccountController
from vkcri.apiserver.controllers.tokensecrets import TokenSecretController
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
LEASES = "coordination.k8s.io/leases"


def test_a_namespace_is_emptied_pods_first_and_then_goes(house: House) -> None:
    house.namespace("x")
    controller = NamespaceController(house.ctx)
    house.pod(namespace="x", nodeName=NODE)
    house.create("/configmaps", {"metadata": {"name": "c", "namespace": "x"}})
    house.delete("/namespaces", "", "x")
    again = controller.reconcile("x")
    assert again is not None
    stored = house.get("/pods", "x", "p")
    assert stored is not None
    assert stored["metadata"]["deletionGracePeriodSeconds"] == 30
    assert house.get("/configmaps", "x", "c") is not None
    namespace = house.get("/namespaces", "", "x")
    assert namespace is not None
    assert "pods has 1 resource instances" in namespace["status"]["conditions"][0]["message"]
    house.delete("/pods", "x", "p", gracePeriodSeconds=0)
    assert list(controller.sources["/pods"](stored, True)) == ["x"]
    assert controller.reconcile("x") is None
    assert house.get("/namespaces", "", "x") is None
    for key in ("/configmaps", "/serviceaccounts", "/pods"):
        assert house.store.list(key, "x")[0] == []


def test_a_namespace_that_stays_is_left_alone(house: House) -> None:
    before = house.store.current_rv()
    assert NamespaceController(house.ctx).reconcile("default") is None
    assert NamespaceController(house.ctx).reconcile("nowhere") is None
    assert house.store.current_rv() == before


def test_what_has_a_finalizer_keeps_the_namespace(house: House) -> None:
    house.namespace("x")
    house.create("/configmaps", {"metadata": {"name": "c", "namespace": "x", "finalizers": ["a/b"]}})
    house.delete("/namespaces", "", "x")
    controller = NamespaceController(house.ctx)
    assert controller.reconcile("x") is not None
    obj = house.get("/configmaps", "x", "c")
    assert obj is not None
    obj["metadata"]["finalizers"] = []
    house.update("/configmaps", obj)
    assert controller.reconcile("x") is None
    assert house.get("/namespaces", "", "x") is None


def test_accounts_and_root_cas_are_made_again_but_not_in_what_is_going(house: House) -> None:
    accounts, roots = ServiceAccountController(house.ctx), RootCaController(house.ctx, "PEM")
    house.delete("/serviceaccounts", "default", "default")
    for controller in (accounts, roots):
        controller.reconcile("default")
    assert house.get("/serviceaccounts", "default", "default") is not None
    published = house.get("/configmaps", "default", "kube-root-ca.crt")
    assert published is not None
    house.update("/configmaps", {**published, "data": {"ca.crt": "forged"}})
    roots.reconcile("default")
    published = house.get("/configmaps", "default", "kube-root-ca.crt")
    assert published is not None
    assert published["data"] == {"ca.crt": "PEM"}
    house.namespace("x")
    house.delete("/namespaces", "", "x")
    house.delete("/serviceaccounts", "x", "default")
    for controller in (accounts, roots):
        controller.reconcile("x")
    assert house.store.list("/serviceaccounts", "x")[0] == []
    assert house.store.list("/configmaps", "x")[0] == []


def renew(house: House, clock: Clock) -> None:
    stamp = times.micros(times.of(house.seconds + clock.now))
    lease = {"metadata": {"name": NODE, "namespace": "kube-node-lease"}, "spec": {"renewTime": stamp}}
    if house.get(LEASES, "kube-node-lease", NODE) is None:
        house.create(LEASES, lease)
    else:
        internal.update(house.ctx, LEASES, "kube-node-lease", NODE, lambda old: {**old, "spec": lease["spec"]})


def ready(house: House) -> Object:
    found = house.get("/nodes", "", NODE)
    assert found is not None
    condition: Object = next(item for item in found["status"]["conditions"] if item["type"] == "Ready")
    return condition


def test_a_lease_that_stands_still_makes_its_node_unknown(house: House, clock: Clock) -> None:
    house.namespace("kube-node-lease")
    house.node()
    controller = NodeController(house.ctx, clock=clock)
    renew(house, clock)
    for _ in range(5):
        assert controller.reconcile(NODE) == pytest.approx(GRACE + 0.1)
        clock.now += 30
        renew(house, clock)
    controller.reconcile(NODE)
    clock.now += GRACE - 1
    left = controller.reconcile(NODE)
    assert left == pytest.approx(1.1)
    assert ready(house)["status"] == "True"
    clock.now += 1.1
    controller.reconcile(NODE)
    assert ready(house)["status"] == "Unknown"
    assert ready(house)["reason"] == "NodeStatusUnknown"
    assert ready(house)["message"] == "Kubelet stopped posting node status."
    controller.reconcile(NODE)  # the change itself brings it here again, for the taint
    version = house.store.current_rv()
    clock.now += GRACE
    controller.reconcile(NODE)
    assert house.store.current_rv() == version


@pytest.mark.parametrize(
    ("conditions", "unschedulable", "wanted"),
    [
        ({}, False, ["node.kubernetes.io/not-ready"]),
        ({"Ready": "True"}, False, []),
        ({"Ready": "False"}, False, ["node.kubernetes.io/not-ready"]),
        ({"Ready": "Unknown"}, False, ["node.kubernetes.io/unreachable"]),
        ({"Ready": "True", "DiskPressure": "True"}, False, ["node.kubernetes.io/disk-pressure"]),
        ({"Ready": "True", "MemoryPressure": "False"}, True, ["node.kubernetes.io/unschedulable"]),
    ],
)
def test_a_nodes_taints_say_what_its_conditions_say(
    house: House, clock: Clock, conditions: dict[str, str], unschedulable: bool, wanted: list[str]
) -> None:
    other = {"key": "a", "value": "b", "effect": "NoExecute"}
    made = house.create("/nodes", {"metadata": {"name": NODE}, "spec": {"taints": [other]}})
    assert [taint["key"] for taint in made["spec"]["taints"]] == ["a", "node.kubernetes.io/not-ready"]
    made["spec"]["unschedulable"] = unschedulable
    made = house.update("/nodes", made)
    made["status"]["conditions"] = [{"type": kind, "status": status} for kind, status in conditions.items()]
    house.update("/nodes", made, subresource="status")
    NodeController(house.ctx, clock=clock).reconcile(NODE)
    found = house.get("/nodes", "", NODE)
    assert found is not None
    taints = [{"key": key, "effect": "NoSchedule"} for key in wanted]
    assert found["spec"]["taints"] == [other, *taints]


def test_a_node_that_never_spoke_says_so(house: House, clock: Clock) -> None:
    house.create("/nodes", {"metadata": {"name": NODE}})
    controller = NodeController(house.ctx, clock=clock)
    controller.reconcile(NODE)
    clock.now += GRACE + 1
    controller.reconcile(NODE)
    assert ready(house)["reason"] == "NodeStatusNeverUpdated"


def test_a_server_that_was_away_blames_no_node(house: House, clock: Clock) -> None:
    house.namespace("kube-node-lease")
    house.node()
    renew(house, clock)
    clock.now += 1000
    house.seconds += 1000
    NodeController(house.ctx, clock=clock).reconcile(NODE)
    assert ready(house)["status"] == "True"


def test_a_node_that_is_made_again_has_its_grace_again(house: House, clock: Clock) -> None:
    house.node()
    controller = NodeController(house.ctx, clock=clock)
    controller.reconcile(NODE)
    clock.now += GRACE + 1
    house.delete("/nodes", "", NODE)
    house.create("/nodes", node())
    controller.reconcile(NODE)
    assert ready(house)["status"] == "True"


def test_pods_of_a_node_that_is_gone_fail_and_go_after_a_while(house: House, clock: Clock) -> None:
    made = house.pod(nodeName="ghost")
    made["metadata"]["finalizers"] = ["a/b"]
    house.update("/pods", made)
    collector = PodCollector(house.ctx, clock=clock)
    collector.reconcile("all")
    clock.now += podgc.QUARANTINE - 1
    collector.reconcile("all")
    found = house.get("/pods", "default", "p")
    assert found is not None
    assert found["status"]["phase"] == "Pending"
    clock.now += 1
    collector.reconcile("all")
    found = house.get("/pods", "default", "p")
    assert found is not None
    assert found["status"]["phase"] == "Failed"
    assert found["status"]["conditions"][-1]["reason"] == "DeletionByPodGC"
    assert found["metadata"]["deletionTimestamp"]


def test_a_node_that_comes_back_in_time_loses_no_pod(house: House, clock: Clock) -> None:
    house.node()
    house.pod(nodeName=NODE)
    collector = PodCollector(house.ctx, clock=clock)
    house.delete("/nodes", "", NODE)
    collector.reconcile("all")
    clock.now += podgc.QUARANTINE - 1
    house.create("/nodes", node())
    collector.reconcile("all")
    house.delete("/nodes", "", NODE)
    clock.now += 5
    collector.reconcile("all")
    assert house.get("/pods", "default", "p") is not None


def test_the_oldest_of_too_many_ended_pods_go(house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podgc, "MOST_TERMINATED", 2)
    for name in ("a", "b", "c", "d"):
        made = house.pod(name, nodeName=NODE)
        if name != "d":
            house.update("/pods", {**made, "status": {"phase": "Succeeded"}}, subresource="status")
        house.seconds += 1
    house.node()
    PodCollector(house.ctx, clock=clock).reconcile("all")
    assert [pod["metadata"]["name"] for pod in house.store.list("/pods")[0]] == ["b", "c", "d"]


def secret_of(house: House, account: str, name: str = "s") -> Object:
    annotations = {"kubernetes.io/service-account.name": account}
    metadata = {"name": name, "namespace": "default", "annotations": annotations}
    return house.create("/secrets", {"metadata": metadata, "type": "kubernetes.io/service-account-token"})


def test_a_token_secret_is_filled_once_and_its_token_ends_with_it(house: House) -> None:
    pki.ensure(house.settings)
    controller = TokenSecretController(house.ctx, "PEM")
    made = secret_of(house, "default")
    assert list(controller.sources["/secrets"](made, False)) == ["default/s"]
    controller.reconcile("default/s")
    filled = house.get("/secrets", "default", "s")
    assert filled is not None
    data = {key: base64.b64decode(value).decode() for key, value in filled["data"].items()}
    assert (data["ca.crt"], data["namespace"]) == ("PEM", "default")
    controller.reconcile("default/")
    assert house.get("/secrets", "default", "s") == filled
    asker = Authenticator(house.store, tokens.signer(house.settings.instance), clock=lambda: house.seconds + 1e9)
    header = {"Authorization": f"Bearer {data['token']}"}
    assert asker.authenticate(header, None).username == "system:serviceaccount:default:default"
    house.delete("/secrets", "default", "s")
    with pytest.raises(StatusError):
        asker.authenticate(header, None)


def test_a_token_secret_goes_with_its_account(house: House) -> None:
    pki.ensure(house.settings)
    controller = TokenSecretController(house.ctx, "PEM")
    secret_of(house, "ghost", "of-ghost")
    secret_of(house, "default")
    controller.reconcile("default/")
    assert house.get("/secrets", "default", "of-ghost") is None
    account = house.get("/serviceaccounts", "default", "default")
    assert account is not None
    house.delete("/serviceaccounts", "default", "default")
    assert list(controller.sources["/serviceaccounts"](account, True)) == ["default/"]
    controller.reconcile("default/")
    assert house.get("/secrets", "default", "s") is None


def test_what_a_cluster_always_has_is_made_again(house: House) -> None:
    bootstrap.ensure(house.settings, house.store)
    controller = KubernetesController(house.ctx)
    kinds = ("/services", "/endpoints", "discovery.k8s.io/endpointslices")
    for key in kinds:
        found = house.get(key, "default", "kubernetes")
        assert found is not None
        house.delete(key, "default", "kubernetes")
        assert list(controller.sources[key](found, True)) == ["service"]
    controller.reconcile("service")
    assert all(house.get(key, "default", "kubernetes") for key in kinds)
    version = house.store.current_rv()
    controller.reconcile("service")
    assert house.store.current_rv() == version
    house.delete("/namespaces", "", "kube-node-lease")
    NamespaceController(house.ctx).reconcile("kube-node-lease")
    assert house.get("/namespaces", "", "kube-node-lease") is None
    controller.reconcile("kube-node-lease")
    assert house.get("/namespaces", "", "kube-node-lease") is not None


def test_events_are_counted_and_forgotten_an_hour_after_the_last(house: House) -> None:
    made = house.pod()
    expiry = EventExpiry(house.ctx, clock=lambda: house.seconds)
    record(house.ctx, made, "Normal", "Tried", "once", component="test")
    house.seconds += 3000
    record(house.ctx, made, "Normal", "Tried", "once", component="test")
    (event,) = house.store.list("/events")[0]
    assert event["count"] == 2
    assert times.to_epoch(event["lastTimestamp"]) - times.to_epoch(event["firstTimestamp"]) == 3000
    assert event["involvedObject"]["uid"] == made["metadata"]["uid"]
    house.seconds += 3600
    expiry.reconcile("all")
    assert len(house.store.list("/events")[0]) == 1
    house.seconds += 1
    expiry.reconcile("all")
    assert house.store.list("/events")[0] == []
