"""Taints NoExecute drive pods away that do not tolerate them, at once or when their time is over."""

from typing import Any

import pytest

from tests.clock import Clock
from tests.unit.vkcri.apiserver.house import NODE, House
from vkcri.apiserver import internal
from vkcri.apiserver.controllers.evictions import TaintEviction
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]


def taint(house: House, *keys: str, effect: str = "NoExecute") -> None:
    def change(node: Object) -> None:
        node["spec"]["taints"] = [{"key": key, "value": "v", "effect": effect} for key in keys]

    node = house.get("/nodes", "", NODE)
    assert node is not None
    change(node)
    house.update("/nodes", node)


def tolerating(key: str, seconds: int | None = None) -> Object:
    found: Object = {"key": key, "operator": "Exists", "effect": "NoExecute"}
    return found if seconds is None else {**found, "tolerationSeconds": seconds}


def deleted(house: House, name: str = "p") -> bool:
    found = house.get("/pods", "default", name)
    assert found is not None
    return "deletionTimestamp" in found["metadata"]


def told(house: House) -> list[str]:
    listed = house.store.list("/events", "default")[0]
    assert {event["reason"] for event in listed} <= {"TaintManagerEviction"}
    return sorted(event["message"] for event in listed)


def test_without_a_toleration_a_pod_goes_at_once_with_its_own_grace(house: House, clock: Clock) -> None:
    house.node()
    house.pod(nodeName=NODE, terminationGracePeriodSeconds=17)
    house.pod("elsewhere", nodeName="n2")
    house.pod("waits")
    taint(house, "a")
    assert TaintEviction(house.ctx, clock=clock).reconcile("all") is None
    found = house.get("/pods", "default", "p")
    assert found is not None
    assert found["metadata"]["deletionGracePeriodSeconds"] == 17
    condition = next(item for item in found["status"]["conditions"] if item["type"] == "DisruptionTarget")
    assert (condition["status"], condition["reason"]) == ("True", "DeletionByTaintManager")
    assert condition["message"] == "Taint manager: deleting due to NoExecute taint"
    assert not deleted(house, "elsewhere")
    assert not deleted(house, "waits")
    assert told(house) == ["Marking for deletion Pod default/p"]


@pytest.mark.parametrize("effect", ["NoSchedule", "PreferNoSchedule"])
def test_other_effects_drive_nobody_away(house: House, clock: Clock, effect: str) -> None:
    house.node()
    house.pod(nodeName=NODE)
    taint(house, "a", effect=effect)
    assert TaintEviction(house.ctx, clock=clock).reconcile("all") is None
    assert not deleted(house)


def test_a_toleration_with_seconds_holds_for_these_from_when_the_taint_was_seen(house: House, clock: Clock) -> None:
    house.node()
    house.pod(nodeName=NODE, tolerations=[tolerating("a", 60), tolerating("b", 20), tolerating("c")])
    controller = TaintEviction(house.ctx, clock=clock)
    taint(house, "a", "c")
    assert controller.reconcile("all") == 60.0
    clock.now += 10
    taint(house, "a", "b", "c")
    assert controller.reconcile("all") == 10.0
    clock.now += 9
    assert controller.reconcile("all") == 1.0
    assert not deleted(house)
    clock.now += 1
    assert controller.reconcile("all") is None
    assert deleted(house)


def test_a_taint_that_goes_in_time_takes_the_eviction_back(house: House, clock: Clock) -> None:
    house.node()
    house.pod(nodeName=NODE, tolerations=[tolerating("a", 60)])
    controller = TaintEviction(house.ctx, clock=clock)
    taint(house, "a")
    controller.reconcile("all")
    clock.now += 50
    taint(house)
    assert controller.reconcile("all") is None
    assert told(house) == ["Cancelling deletion of Pod default/p"]
    taint(house, "a")
    assert controller.reconcile("all") == 60.0


def test_a_toleration_without_seconds_holds_for_ever_and_one_of_zero_not_at_all(house: House, clock: Clock) -> None:
    house.node()
    house.pod("stays", nodeName=NODE, tolerations=[tolerating("a")])
    house.pod("goes", nodeName=NODE, tolerations=[tolerating("a", 0)])
    taint(house, "a")
    assert TaintEviction(house.ctx, clock=clock).reconcile("all") is None
    assert (deleted(house, "stays"), deleted(house, "goes")) == (False, True)


def test_a_pod_whose_eviction_is_refused_keeps_no_other_waiting(
    house: House, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.node()
    for name in ("a-refused", "b-goes"):
        house.pod(name, nodeName=NODE, tolerations=[tolerating("a", 60)])
    house.pod("c-waits", nodeName=NODE, tolerations=[tolerating("a", 100)])
    taint(house, "a")
    controller = TaintEviction(house.ctx, clock=clock)
    assert controller.reconcile("all") == 60.0
    clock.now += 60
    update = internal.update

    def refusing(ctx: Any, key: str, namespace: str, name: str, *rest: Any, **options: Any) -> Object:
        if name == "a-refused":
            assert list(controller.sources["/nodes"]({"spec": {}}, False)) == ["all"], "meanwhile a node is looked at"
            raise StatusError(422, "Invalid", "no")
        return update(ctx, key, namespace, name, *rest, **options)

    with monkeypatch.context() as patched, pytest.raises(StatusError, match="no"):
        patched.setattr(internal, "update", refusing)
        controller.reconcile("all")
    assert [deleted(house, name) for name in ("a-refused", "b-goes", "c-waits")] == [False, True, False]
    clock.now += 10
    assert controller.reconcile("all") == 30.0, "its time began when the taint was seen"
    assert deleted(house, "a-refused")


@pytest.mark.parametrize("key", ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"])
def test_every_pod_stands_a_node_that_is_said_to_be_away_for_five_minutes(house: House, clock: Clock, key: str) -> None:
    house.node()
    house.pod(nodeName=NODE)
    taint(house, key)
    assert TaintEviction(house.ctx, clock=clock).reconcile("all") == 300.0


def test_it_looks_when_a_tainted_node_or_a_bound_pod_changes(house: House, clock: Clock) -> None:
    controller = TaintEviction(house.ctx, clock=clock)
    plain, tainted = {"spec": {}}, {"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}
    assert [list(controller.sources["/nodes"](node, False)) for node in (plain, tainted)] == [[], ["all"]]
    bound, free = {"spec": {"nodeName": NODE}}, {"spec": {}}
    assert [list(controller.sources["/pods"](pod, False)) for pod in (bound, free)] == [["all"], []]
