"""Who must make room for a critical pod, and that nobody does for another."""

from fractions import Fraction
from typing import Any

import pytest

from bridge.admission import NODE_SECONDS, Admission
from bridge.preemption import patience, preemptable, victims
from tests.unit.bridge.building import a_pod, spec

STATIC = {"kubernetes.io/config.source": "file"}
ROOM = {"cpu": "2", "memory": "100", "pods": "4"}


def a_burstable(memory: str, cpu: str = "0") -> dict[str, Any]:
    return a_pod(spec(resources={"requests": {"memory": memory, "cpu": cpu}}))


def guaranteed(memory: str) -> dict[str, Any]:
    return a_pod(
        spec(resources={"limits": {"memory": memory, "cpu": "1m"}, "requests": {"memory": memory, "cpu": "1m"}})
    )


def critical(pod: dict[str, Any] | None = None) -> dict[str, Any]:
    pod = pod or a_pod()
    pod["metadata"]["annotations"] = STATIC
    return pod


def chosen(missing: dict[str, int], **admitted: dict[str, Any]) -> list[str] | None:
    return victims(critical(), admitted, {name: Fraction(amount) for name, amount in missing.items()})


def test_best_effort_goes_before_burstable_and_guaranteed_goes_last() -> None:
    found = {"light": a_pod(), "middle": a_burstable("50"), "hard": guaranteed("50")}
    assert chosen({"pods": 1}, **found) == ["light"]
    assert chosen({"memory": 40}, **found) == ["middle"]
    assert chosen({"memory": 60}, **found) == ["middle", "hard"]
    assert chosen({"memory": 101}, **found) is None


def test_as_few_as_possible_go_and_of_two_the_smaller() -> None:
    found = {"a": a_burstable("10"), "b": a_burstable("30"), "c": a_burstable("40")}
    assert chosen({"memory": 25}, **found) == ["b"]
    assert chosen({"memory": 45}, **found) == ["c", "a"]


def test_each_resource_that_is_missing_weighs_alike() -> None:
    found = {"memory": a_burstable("50", "100m"), "cpu": a_burstable("1", "1"), "both": a_burstable("40", "900m")}
    assert chosen({"memory": 40, "cpu": 1}, **found) == ["both", "cpu"]


@pytest.mark.parametrize(
    ("mine", "its", "may"),
    [
        ({"annotations": STATIC}, {}, True),
        ({"annotations": STATIC}, {"annotations": STATIC}, False),
        ({"priority": 2000000000}, {"priority": 5}, True),
        ({"priority": 2000001000}, {"priority": 2000000000}, True),
        ({"priority": 2000000000}, {"annotations": STATIC}, False),
        ({"priority": 5}, {"priority": 4}, True),
        ({}, {}, False),
    ],
)
def test_who_may_end_whom(mine: dict[str, Any], its: dict[str, Any], may: bool) -> None:
    assert preemptable(made(mine), made(its)) is may


def made(fields: dict[str, Any]) -> dict[str, Any]:
    pod = a_pod()
    pod["metadata"]["annotations"] = fields.get("annotations", {})
    if "priority" in fields:
        pod["spec"]["priority"] = fields["priority"]
    return pod


class House:
    """An admission whose preempted pods are noted, and who is woken. now: its clock."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.woken: list[str] = []
        self.now = 1000.0
        self.admission = Admission(
            lambda: ROOM,
            dict,
            on_granted=self.woken.append,
            on_preempted=lambda uid, resource: self.ended.append((uid, resource)),
            clock=lambda: self.now,
        )

    def offer(self, uid: str, pod: dict[str, Any], created: str) -> str:
        """The reason of its refusal; "" where it is taken."""
        pod["metadata"].update(uid=uid, name=uid, creationTimestamp=created)
        self.admission.offer(uid, pod)
        refusal = self.admission.verdict(uid)
        return refusal.reason if refusal is not None else ""


def test_a_critical_pod_is_taken_and_the_others_room_is_free() -> None:
    house = House()
    assert house.offer("a", a_burstable("60"), "2026-01") == ""
    assert house.offer("b", a_burstable("30"), "2026-02") == ""
    assert house.offer("ordinary", a_burstable("20"), "2026-03") == "OutOfmemory"
    assert house.ended == []
    assert house.offer("static", critical(a_burstable("40")), "2026-04") == ""
    assert house.ended == [("b", "memory")]
    assert house.offer("b", a_burstable("30"), "2026-02") == "", "it is ending, and is not judged again"
    assert house.offer("late", a_burstable("5"), "2026-05") == "OutOfmemory"
    assert house.ended == [("b", "memory")]


def test_a_critical_pod_for_which_nothing_helps_ends_nobody() -> None:
    house = House()
    assert house.offer("a", critical(a_burstable("60")), "2026-01") == ""
    assert house.offer("b", a_burstable("30"), "2026-02") == ""
    pod = critical(a_burstable("80"))
    assert house.offer("big", pod, "2026-03") == "UnexpectedAdmissionError"
    refusal = house.admission.verdict("big")
    assert refusal is not None
    assert refusal.message.endswith("no set of running pods found to reclaim resources: [(res: memory, q: 40), ]")
    assert house.ended == []


def test_a_critical_pod_that_may_not_be_here_ends_nobody() -> None:
    house = House()
    house.admission = Admission(
        lambda: ROOM,
        lambda: {"metadata": {"name": "n", "labels": {}}},
        on_preempted=lambda uid, resource: house.ended.append((uid, resource)),
        clock=lambda: house.now,
    )
    assert house.offer("a", a_burstable("60"), "2026-01") == ""
    pod = critical(a_burstable("80"))
    pod["spec"]["nodeSelector"] = {"a": "b"}
    assert house.offer("astray", pod, "2026-02") == ""
    assert house.admission.room("astray") is not None, "the Node may be an old one"
    house.now += NODE_SECONDS
    refusal = house.admission.verdict("astray")
    assert refusal is not None
    assert refusal.reason == "NodeAffinity"
    assert house.ended == []


@pytest.mark.parametrize(
    ("grace", "most", "seconds"), [(0, 99, 10), (7, 99, 10), (30, 99, 45), (31, 99, 46), (600, 1, 10)]
)
def test_a_pods_end_is_waited_for_half_as_long_again_as_its_grace(grace: int, most: float, seconds: float) -> None:
    assert patience(a_pod(terminationGracePeriodSeconds=grace), most) == seconds


def crowded() -> House:
    """Two pods of 60 and 30 that have begun, of 100, and `static` of 60 that has preempted the first."""
    house = House()
    for uid, memory, created in (("large", "60", "2026-01"), ("small", "30", "2026-02")):
        assert house.offer(uid, a_burstable(memory), created) == ""
        assert house.admission.room(uid) is None
    assert house.offer("static", critical(a_burstable("60")), "2026-03") == ""
    assert house.ended == [("large", "memory")]
    return house


def test_who_preempts_begins_once_its_victim_has_ended() -> None:
    house = crowded()
    assert house.admission.room("static") == 1045.0
    house.admission.release("large")
    assert house.woken == ["static"]
    assert house.admission.room("static") is None


def test_a_victim_that_does_not_end_is_not_waited_for_for_ever() -> None:
    house = crowded()
    house.now = 1044.0
    assert house.admission.room("static") == 1045.0
    house.now = 1045.0
    assert house.admission.room("static") is None


def test_who_fits_beside_the_pods_that_end_waits_for_none_of_them() -> None:
    house = crowded()
    assert house.offer("fits", a_burstable("10"), "2026-04") == ""
    assert house.admission.room("fits") is None
    house.admission.release("large")
    assert house.admission.room("static") is None


def test_who_is_given_what_is_left_of_a_victims_room_waits_for_it_too() -> None:
    house = House()
    assert house.offer("large", a_burstable("90"), "2026-01") == ""
    assert house.offer("static", critical(a_burstable("40")), "2026-02") == ""
    assert house.offer("next", a_burstable("50"), "2026-03") == ""
    assert [house.admission.room(uid) for uid in ("static", "next")] == [1045.0, 1045.0]
    house.admission.forget("large")
    assert sorted(house.woken) == ["next", "static"]
    assert [house.admission.room(uid) for uid in ("static", "next")] == [None, None]


def test_a_resize_waits_for_a_victims_end() -> None:
    house = House()
    assert house.offer("large", a_burstable("50"), "2026-01") == ""
    assert house.offer("grows", a_burstable("30"), "2026-02") == ""
    assert house.offer("static", critical(a_burstable("40")), "2026-03") == ""
    assert house.ended == [("grows", "memory")]
    larger = a_burstable("55")
    larger["metadata"].update(uid="large", name="large")
    assert house.admission.resize("large", larger, "2026-04-01T00:00:00Z")[1] is not None
    house.admission.release("grows")
    assert sorted(house.woken) == ["large", "static"]
    assert house.admission.resize("large", larger, "2026-04-01T00:00:00Z")[1] is None


def test_nobody_is_refused_for_a_pod_whose_object_is_gone_but_waits_for_its_end() -> None:
    house = House()
    assert house.offer("gone", a_burstable("90"), "2026-01") == ""
    house.admission.leave("gone")
    assert house.offer("small", a_burstable("10"), "2026-02") == ""
    assert house.offer("next", a_burstable("90"), "2026-03") == ""
    assert [house.admission.room(uid) for uid in ("small", "next")] == [None, 1045.0]
    house.admission.release("gone")
    assert house.woken == ["next"]
    assert house.admission.room("next") is None
    assert house.ended == []


def test_a_port_of_the_node_is_free_once_who_had_it_has_ended() -> None:
    house = House()
    ports = [{"containerPort": 80, "hostPort": 80}]
    assert house.offer("gone", a_pod(spec(ports=ports)), "2026-01") == ""
    assert house.offer("refused", a_pod(spec(ports=ports)), "2026-02") == "NodePorts"
    house.admission.leave("gone")
    assert house.offer("next", a_pod(spec(ports=ports)), "2026-03") == ""
    assert house.admission.room("next") == 1045.0
    house.admission.forget("gone")
    assert house.admission.room("next") is None


def test_a_pod_that_is_there_again_before_it_has_ended_has_its_room_again() -> None:
    house = House()
    assert house.offer("back", a_burstable("90"), "2026-01") == ""
    house.admission.leave("back")
    assert house.offer("back", a_burstable("90"), "2026-01") == ""
    assert house.offer("next", a_burstable("20"), "2026-02") == "OutOfmemory"


def of_priority(priority: int, memory: str) -> dict[str, Any]:
    pod = a_burstable(memory)
    pod["spec"]["priority"] = priority
    return pod


def test_a_critical_pod_that_is_preempted_while_it_waits_holds_up_its_preemptor_no_longer_than_the_others() -> None:
    house = House()
    assert house.offer("large", a_burstable("60"), "2026-01") == ""
    assert house.offer("waits", of_priority(2_000_000_000, "60"), "2026-02") == ""
    assert house.offer("highest", of_priority(2_000_001_000, "70"), "2026-03") == ""
    assert house.ended == [("large", "memory"), ("waits", "memory")]
    house.admission.release("waits")
    assert house.admission.room("highest") == 1045.0
    house.admission.release("large")
    assert house.admission.room("highest") is None
