"""The Node is registered, kept, taken over from the dead, left to the living, and its status told truthfully."""

import json
import math
import threading
import time
from typing import Any

import pytest

from tests.unit.vkcri.kube.scripted import Call
from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import until
from vkcri.api import times
from vkcri.lifecycle import Process
from vkcri.queue import Subscription
from vkcri.watcher.lease import Lease
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.node import Node
from vkcri.watcher.nodestatus import ANNOTATION, Identity
from vkcri.watcher.registration import Registration

NODE = "/api/v1/nodes/n1"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
TAINT = {"key": "k", "value": "cri", "effect": "NoSchedule"}


class Agent:
    """The node's part of an api-watcher."""

    def __init__(self, around: Surroundings, instance_id: str = "mine", taint: dict[str, str] | None = TAINT) -> None:
        me = Identity("n1", instance_id, "192.0.2.7", 10250, "amd64", taint, "v1.37.0-vkcri.0", "k")
        self.registered = threading.Event()
        metrics = Metrics()
        self.lease = Lease(around.process, around.client, "n1", metrics)
        registration = Registration(around.client, self.lease, me)
        self.node = Node(
            around.process,
            around.client,
            around.publisher,
            around.notices,
            me,
            self.lease,
            registration,
            metrics,
            access=around.access,
            registered=self.registered.set,
        )

    def start(self) -> "Agent":
        self.lease.start()
        self.node.start()
        return self


def now(offset: float = 0.0) -> str:
    return times.micros(times.of(time.time() + offset))


def report(around: Surroundings, ready: str = "True", relisted: float = 0.0, **more: Any) -> None:
    conditions = [
        {"type": kind, "status": "False", "reason": "Good", "message": "m"}
        for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    conditions.append({"type": "Ready", "status": ready, "reason": "KubeletReady", "message": "it is"})
    value = {
        "capacity": {"cpu": "2"},
        "allocatable": {"cpu": "2"},
        "nodeInfo": {"machineID": "m"},
        "conditions": conditions,
        "reported": now(),
        "relisted": now(-relisted),
        **more,
    }
    around.provider.put("node-status", "node", json.dumps(value).encode())


def ready(around: Surroundings) -> Any:
    conditions = around.api.objects.get(NODE, {}).get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == "Ready"), {})


def test_it_registers_before_the_provider_speaks_and_is_ready_once_it_does(around: Surroundings) -> None:
    agent = Agent(around).start()
    until(lambda: ready(around).get("status") == "False")
    made = around.api.objects[NODE]
    assert ready(around)["reason"] == "ProviderNotStarted"
    assert made["spec"]["taints"] == [TAINT]
    assert made["metadata"]["annotations"] == {ANNOTATION: "mine"}
    report(around)
    until(lambda: ready(around).get("status") == "True")
    assert around.api.objects[NODE]["status"]["capacity"] == {"cpu": "2"}
    until(agent.registered.is_set)
    until(lambda: around.publisher.synced("node"))
    until(lambda: b'"cpu"' in (around.publisher.get("node", "n1") or b""))
    reasons = {json.loads(raw)["reason"] for raw in around.publisher.items("events").values()}
    assert {"Starting", "NodeReady", "NodeHasSufficientMemory", "NodeHasNoDiskPressure"} <= reasons


def told(around: Surroundings) -> dict[str, str]:
    """Reason -> message of the events so far."""
    found = [json.loads(raw) for raw in around.publisher.items("events").values()]
    return {item["reason"]: item["message"] for item in found}


def test_a_cordon_and_a_reboot_are_told_in_the_kubelets_words(around: Surroundings) -> None:
    agent = Agent(around).start()
    report(around, nodeInfo={"machineID": "m", "bootID": "one"})
    until(lambda: around.api.objects.get(NODE, {}).get("status", {}).get("nodeInfo", {}).get("bootID") == "one")
    until(agent.registered.is_set)
    around.api.change(NODE, lambda node: node["spec"].update(unschedulable=True))
    until(lambda: told(around).get("NodeNotSchedulable") == "Node n1 status is now: NodeNotSchedulable")
    assert not {"NodeSchedulable", "Rebooted"} & set(told(around))
    around.api.change(NODE, lambda node: node["spec"].pop("unschedulable"))
    until(lambda: told(around).get("NodeSchedulable") == "Node n1 status is now: NodeSchedulable")
    report(around, nodeInfo={"machineID": "m", "bootID": "two"})
    until(lambda: told(around).get("Rebooted") == "Node n1 has been rebooted, boot id: two")


def test_it_keeps_a_lease_whose_owner_is_the_node(around: Surroundings) -> None:
    Agent(around).start()
    until(lambda: LEASE in around.api.objects)
    lease = around.api.objects[LEASE]
    assert lease["metadata"]["ownerReferences"][0]["uid"] == around.api.objects[NODE]["metadata"]["uid"]
    assert lease["spec"]["leaseDurationSeconds"] == 40


def test_an_equal_report_is_not_patched_again(around: Surroundings) -> None:
    report(around)
    Agent(around).start()
    until(lambda: ready(around).get("status") == "True")
    until(lambda: around.publisher.get("node", "n1"))
    patches = len(around.api.calls("PATCH", f"{NODE}/status"))
    report(around)
    report(around)
    until(lambda: around.publisher.synced("node"))
    assert around.process.wait(0.3) is False
    assert len(around.api.calls("PATCH", f"{NODE}/status")) == patches


def test_a_server_that_drops_a_field_is_not_patched_for_ever(around: Surroundings) -> None:
    """An older API server knows no runtimeHandlers."""
    report(around, runtimeHandlers=[{"name": "runc"}])
    agent = Agent(around)
    original = around.api.server.script

    def forgetful(call: Call) -> None:
        if call.method == "PATCH":
            call.body.get("status", {}).pop("runtimeHandlers", None)
        if call.method == "POST" and "nodes" in call.path:
            call.body["status"].pop("runtimeHandlers", None)
        original(call)

    around.api.server.script = forgetful
    agent.start()
    until(lambda: ready(around).get("status") == "True")
    until(lambda: around.publisher.get("node", "n1"))
    patches = len(around.api.calls("PATCH", f"{NODE}/status"))
    for _ in range(3):
        report(around, runtimeHandlers=[{"name": "runc"}])
        assert around.process.wait(0.1) is False
    assert len(around.api.calls("PATCH", f"{NODE}/status")) <= patches + 1


def test_not_ready_as_the_provider_says_it(around: Surroundings) -> None:
    Agent(around).start()
    report(around)
    until(lambda: ready(around).get("status") == "True")
    report(around, "False")
    until(lambda: ready(around).get("status") == "False")
    report(around, relisted=200)
    until(lambda: ready(around).get("reason") == "RuntimeNotRead")


def test_a_node_that_may_not_be_watched_is_said_until_it_may(around: Surroundings) -> None:
    around.api.refuse("GET", "/api/v1/nodes", 403, times=math.inf)
    Agent(around).start()
    until(lambda: "may not watch this node's Node" in str(around.notice("node")))
    around.api.forgive()
    until(lambda: around.notice("node") is None)


def test_a_deleted_node_is_registered_again(around: Surroundings) -> None:
    Agent(around).start()
    report(around)
    until(lambda: ready(around).get("status") == "True" and around.publisher.get("node", "n1"))
    first = around.api.objects[NODE]["metadata"]["uid"]
    around.api.remove(NODE)
    until(lambda: ready(around).get("status") == "True")
    assert around.api.objects[NODE]["metadata"]["uid"] != first
    until(
        lambda: (
            f'"uid":"{around.api.objects[NODE]["metadata"]["uid"]}"'.encode()
            in (around.publisher.get("node", "n1") or b"")
        )
    )
    until(lambda: around.api.objects[LEASE]["metadata"]["ownerReferences"][0]["uid"] != first)


def foreign(around: Surroundings, *, renewed: float, annotation: str | None = None) -> None:
    annotations = {ANNOTATION: annotation} if annotation else {}
    metadata = {"annotations": annotations, "creationTimestamp": "2026-01-01T00:00:00Z"}
    around.api.put(NODE, {"metadata": metadata, "spec": {}, "status": {}})
    around.api.put(LEASE, {"spec": {"holderIdentity": "n1", "renewTime": now(-renewed)}})


@pytest.mark.parametrize("annotation", [None, "theirs"])
def test_a_living_agents_node_is_left_alone(
    around: Surroundings, caplog: pytest.LogCaptureFixture, annotation: str | None
) -> None:
    foreign(around, renewed=5, annotation=annotation)
    before = around.api.version
    report(around)
    agent = Agent(around).start()
    until(lambda: "VKUBELET_NODE_NAME" in caplog.text)
    assert around.process.wait(0.3) is False
    assert around.api.version == before
    assert not agent.registered.is_set()
    assert not around.publisher.synced("node")
    assert around.publisher.items("node") == {}
    assert {call.method for call in around.api.server.calls} == {"GET"}


def test_it_is_said_once_and_taken_over_when_the_other_is_dead(
    around: Surroundings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vkcri.watcher.node.CHECK_SECONDS", 0.05)
    foreign(around, renewed=5)
    report(around)
    agent = Agent(around).start()
    until(lambda: len(around.api.calls("GET", NODE)) > 5)
    assert caplog.text.count("VKUBELET_NODE_NAME") == 1
    around.api.change(LEASE, lambda lease: lease["spec"].update(renewTime=now(-100)))
    monkeypatch.setattr("vkcri.watcher.lease.LEASE_SECONDS", 0.2)  # else a changed stamp is a sign of life for 40 s
    until(agent.registered.is_set)
    until(lambda: ready(around).get("status") == "True")
    assert around.api.objects[NODE]["metadata"]["annotations"] == {ANNOTATION: "mine"}
    assert around.api.objects[NODE]["metadata"]["labels"]["kubernetes.io/hostname"] == "n1"


def test_a_node_that_nobody_keeps_is_adopted_and_its_taint_only_told(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    foreign(around, renewed=100)
    report(around)
    Agent(around).start()
    until(lambda: ready(around).get("status") == "True")
    assert "kubectl taint nodes n1 --overwrite k=cri:NoSchedule" in caplog.text
    assert "taints" not in around.api.objects[NODE]["spec"]


def test_a_node_just_made_by_another_is_no_dead_ones(around: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    around.api.put(NODE, {"metadata": {"creationTimestamp": now(-3)}, "status": {}})
    agent = Agent(around).start()
    until(lambda: "VKUBELET_NODE_NAME" in caplog.text)
    assert not agent.registered.is_set()


def test_our_own_node_is_ours_at_once_after_a_restart(around: Surroundings) -> None:
    foreign(around, renewed=1, annotation="mine")
    report(around)
    agent = Agent(around).start()
    until(agent.registered.is_set)
    until(lambda: ready(around).get("status") == "True")


def test_a_race_for_a_dead_ones_node_is_lost_without_a_trace(around: Surroundings) -> None:
    foreign(around, renewed=100)
    around.api.refuse("PATCH", NODE, 409)
    agent = Agent(around).start()
    until(lambda: around.api.calls("PATCH", NODE))
    assert around.process.wait(0.3) is False
    assert not agent.registered.is_set()
    assert len(around.api.calls("PATCH", NODE)) == 1


def test_a_node_taken_over_while_ours_ends_the_process_with_one_line_and_no_node_to_begin_pods_on(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(around).start()
    until(agent.registered.is_set)
    deleted = threading.Event()
    heard = Process("provider", around.process.instance, end=around.ended.append)
    path = around.process.instance.queue_socket("watcher")
    node = Subscription(path, "node", lambda change: deleted.set() if change.value is None else None)
    node.start(heard)
    until(lambda: node.get("n1"))
    around.api.change(NODE, lambda node: node["metadata"]["annotations"].update({ANNOTATION: "theirs"}))
    until(around.process.stopping.is_set)
    until(deleted.is_set)
    heard.drain()
    said = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert len(said) == 1
    assert "taken over by another instance, theirs" in said[0].getMessage()
    assert said[0].exc_info is None


def test_an_annotation_or_label_that_was_removed_comes_back(around: Surroundings) -> None:
    agent = Agent(around).start()
    until(agent.registered.is_set)
    around.api.change(NODE, lambda node: node["metadata"].update(annotations={"a": "b"}, labels={}))
    until(lambda: around.api.objects[NODE]["metadata"].get("annotations") == {"a": "b", ANNOTATION: "mine"})
    until(lambda: around.api.objects[NODE]["metadata"]["labels"].get("kubernetes.io/os") == "linux")


def test_a_refused_registration_is_said_and_tried_again(around: Surroundings, caplog: pytest.LogCaptureFixture) -> None:
    around.api.refuse("POST", "/api/v1/nodes", 403, times=2)
    agent = Agent(around).start()
    until(agent.registered.is_set)
    assert "refused by the test; trying again" in caplog.text


def test_a_lease_that_somebody_else_writes_is_said_and_renewed(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    around.api.put(LEASE, {"spec": {"renewTime": now(-100)}})
    around.api.refuse("PUT", LEASE, 409)
    Agent(around).start()
    until(lambda: around.api.objects[LEASE]["spec"].get("holderIdentity") == "n1")
    assert "somebody else writes the Lease too" in caplog.text
