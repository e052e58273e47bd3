"""Pods that wait get a node, or hear why not."""

from typing import Any

from tests.unit.vkcri.apiserver.house import NODE, House, container, pod
from vkcri.apiserver.controllers.scheduler import Scheduler

Object = dict[str, Any]


def run(house: House, scheduler: Scheduler | None = None) -> None:
    (scheduler or Scheduler(house.ctx)).reconcile("waiting")


def stored(house: House, name: str = "p") -> Object:
    found = house.get("/pods", "default", name)
    assert found is not None
    return found


def told(house: House) -> list[tuple[str, str, str]]:
    events = house.store.list("/events", "default")[0]
    return sorted((event["type"], event["reason"], event["message"]) for event in events)


def asking(cpu: str) -> list[Object]:
    return [container(resources={"requests": {"cpu": cpu}})]


def test_a_waiting_pod_is_bound_and_told(house: House) -> None:
    house.node()
    house.pod()
    run(house)
    assert stored(house)["spec"]["nodeName"] == NODE
    assert told(house) == [("Normal", "Scheduled", f"Successfully assigned default/p to {NODE}")]


def test_without_a_node_a_pod_hears_so_once(house: House) -> None:
    house.pod()
    scheduler = Scheduler(house.ctx)
    run(house, scheduler)
    before = stored(house)
    house.seconds += 10
    run(house, scheduler)
    assert stored(house) == before
    assert before["status"]["conditions"] == [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "no nodes available to schedule pods",
            "lastProbeTime": None,
            "lastTransitionTime": before["metadata"]["creationTimestamp"],
        }
    ]
    assert told(house) == [("Warning", "FailedScheduling", "no nodes available to schedule pods")]


def test_a_refusal_counts_nodes_and_reasons(house: House) -> None:
    house.node("n1")
    house.node("n2", spec={"unschedulable": True})
    house.pod(containers=asking("3"))
    run(house)
    assert told(house)[0][2] == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. preemption: 0/2 nodes are "
        "available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    )


def test_no_pod_goes_to_a_node_that_is_not_ready(house: House) -> None:
    house.node(ready=False)
    house.pod()
    run(house)
    assert "nodeName" not in stored(house)["spec"]
    assert "node.kubernetes.io/not-ready" in told(house)[0][2]


def test_a_claim_is_missing_for_there_are_none(house: House) -> None:
    house.node()
    house.pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    run(house)
    assert told(house)[0][2] == '0/1 nodes are available: persistentvolumeclaim "data" not found.'


def test_pods_of_others_and_gated_ones_are_left_alone(house: House) -> None:
    house.node()
    house.pod("other", schedulerName="other")
    house.pod("gated", schedulingGates=[{"name": "a/b"}])
    run(house)
    assert "nodeName" not in stored(house, "other")["spec"]
    assert "nodeName" not in stored(house, "gated")["spec"]


def test_one_pass_does_not_give_the_same_room_twice(house: House) -> None:
    house.node()
    for name in ("a", "b", "c"):
        house.pod(name, containers=asking("800m"))
        house.seconds += 1
    run(house)
    assert [name for name in "abc" if stored(house, name)["spec"].get("nodeName")] == ["a", "b"]


def test_the_higher_priority_goes_first(house: House) -> None:
    house.node()
    house.pod("low", containers=asking("2"))
    house.pod("high", containers=asking("2"), priorityClassName="system-node-critical")
    run(house)
    assert [name for name in ("low", "high") if stored(house, name)["spec"].get("nodeName")] == ["high"]


def test_room_comes_back_when_a_pod_has_ended(house: House) -> None:
    house.node()
    first = house.pod("first", containers=asking("2"))
    run(house)
    house.pod("second", containers=asking("2"))
    run(house)
    assert "nodeName" not in stored(house, "second")["spec"]
    first = stored(house, "first")
    first["status"]["phase"] = "Succeeded"
    house.update("/pods", first, subresource="status")
    scheduler = Scheduler(house.ctx)
    assert list(scheduler.sources["/pods"](stored(house, "first"), False)) == ["waiting"]
    run(house, scheduler)
    assert stored(house, "second")["spec"]["nodeName"] == NODE


def test_a_pod_that_goes_meanwhile_is_nobodys_error(house: House) -> None:
    house.node()
    made = house.pod()
    scheduler = Scheduler(house.ctx)
    house.delete("/pods", "default", "p")
    assert scheduler._place(made, [], house.store.list("/nodes")[0], {}) is None
    scheduler._refuse(made, "why")
    assert house.get("/pods", "default", "p") is None


def test_a_scheduling_group_is_refused_and_not_ignored(house: House) -> None:
    house.node()
    house.pod(schedulingGroup={"podGroupName": "all-or-none"})
    run(house)
    assert not stored(house)["spec"].get("nodeName")
    message = "0/1 nodes are available: this scheduler places pod by pod and knows no schedulingGroup."
    assert told(house) == [("Warning", "FailedScheduling", message)]


def test_a_namespaces_labels_choose_whom_a_pod_keeps_away_from(house: House) -> None:
    house.node()
    house.namespace("other")
    house.pod("there", namespace="other", nodeName=NODE)
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}},
    }
    house.pod(affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}})
    run(house)
    assert not stored(house)["spec"].get("nodeName")
    assert "didn't match pod anti-affinity rules" in told(house)[0][2]


def test_labels_of_the_pod_that_match_label_keys_names_are_in_its_selectors(house: House) -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "x"}},
        "matchLabelKeys": ["hash"],
    }
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    term |= {"matchLabelKeys": ["hash"], "mismatchLabelKeys": ["tenant"]}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    labels = {"app": "x", "hash": "1", "tenant": "t"}
    made = house.create("/pods", pod(labels=labels, topologySpreadConstraints=[constraint], affinity=affinity))
    same = {"key": "hash", "operator": "In", "values": ["1"]}
    other = {"key": "tenant", "operator": "NotIn", "values": ["t"]}
    spread = made["spec"]["topologySpreadConstraints"][0]
    assert spread["labelSelector"]["matchExpressions"] == [same]
    (near,) = made["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert near["labelSelector"]["matchExpressions"] == [same, other]
