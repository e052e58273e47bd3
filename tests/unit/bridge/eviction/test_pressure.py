"""When a node is short of something, for how long that is told, and whom it then takes."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.eviction.pressure import Observation, State, advance, observe, reached, refusal
from bridge.eviction.thresholds import (
    ALLOCATABLE_MEMORY,
    IMAGE_DISK,
    MEMORY,
    NODE_DISK,
    NODE_INODES,
    PID,
    Threshold,
    thresholds,
)
from bridge.stats.disk import Filesystem
from bridge.stats.shapes import Measured
from bridge.stats.summary import SystemUse
from bridge.stats.usage import Memory, Usage
from tests.unit.bridge.building import a_pod, spec
from tests.unit.bridge.stats.test_summary import TIME, node

TRANSITION = 300.0


def measured(working_set: int, limit: int | None, time: int = TIME) -> Measured:
    memory = Memory(
        usage=working_set, working_set=working_set, rss=0, swap=0, page_faults=0, major_page_faults=0, limit=limit
    )
    return Measured(Usage(time, 0, memory), 0)


def left(available: int, time: int = 1) -> dict[str, Observation]:
    return {MEMORY: Observation(available, 1000, time)}


def hard(*texts: str, reclaim: str = "") -> list[Threshold]:
    return [item for item in thresholds(",".join(texts), "", "", reclaim) if item.signal != ALLOCATABLE_MEMORY]


class TestObserve:
    def test_every_signal_from_a_node_that_was_measured(self) -> None:
        images = Filesystem(TIME + 1, 5, 10, 5, 0, 0)
        found = observe(
            replace(
                node(images=images, processes=99, processes_most=32768, hugepages=100),
                measured=measured(300, 1000),
                systems=(SystemUse("kubelet", 1, measured(1, 2)), SystemUse("pods", 1, measured(200, 900))),
            )
        )
        assert found == {
            MEMORY: Observation(600, 900, TIME),
            ALLOCATABLE_MEMORY: Observation(700, 900, TIME),
            NODE_DISK: Observation(600, 1000, TIME),
            NODE_INODES: Observation(20, 50, TIME, binary=False),
            IMAGE_DISK: Observation(5, 10, TIME + 1),
            PID: Observation(32669, 32768, TIME, binary=False),
        }

    def test_what_was_not_measured_is_left_out(self) -> None:
        bare = replace(node(disk=None, images=None, processes_most=0, systems=()), measured=measured(300, None))
        assert observe(bare) == {}


class TestReached:
    @pytest.mark.parametrize(("available", "expected"), [(100, False), (99, True), (0, True), (500, False)])
    def test_below_the_amount(self, available: int, expected: bool) -> None:
        assert bool(reached(hard("memory.available<100"), left(available))) is expected
        assert bool(reached(hard("memory.available<10%"), left(available))) is expected

    def test_a_signal_without_a_measure_says_nothing(self) -> None:
        assert reached(hard("nodefs.available<10%"), left(1)) == []

    def test_with_what_must_be_free_to_be_over(self) -> None:
        found = hard("memory.available<100", reclaim="memory.available=5%")
        assert reached(found, left(149)) == []
        assert reached(found, left(149), reclaimed=True) == found
        assert reached(found, left(150), reclaimed=True) == []


class TestAdvance:
    def test_a_node_with_enough_is_under_nothing(self) -> None:
        state, due = advance(State(), hard("memory.available<100"), left(100), 0.0, TRANSITION)
        assert (state.conditions, due) == ((), [])

    def test_a_hard_threshold_is_due_at_once_and_its_condition_outlives_it(self) -> None:
        limits = hard("memory.available<100")
        state, due = advance(State(), limits, left(99), 10.0, TRANSITION)
        assert (state.conditions, due) == (("MemoryPressure",), limits)
        state, due = advance(state, limits, left(500, 2), 20.0, TRANSITION)
        assert (state.conditions, due) == (("MemoryPressure",), [])
        state, _ = advance(state, limits, left(500, 3), 309.0, TRANSITION)
        assert state.conditions == ("MemoryPressure",)
        state, _ = advance(state, limits, left(500, 4), 310.0, TRANSITION)
        assert state.conditions == ()

    def test_a_soft_one_shows_at_once_and_is_due_once_it_lasted(self) -> None:
        limits = thresholds("", "memory.available<100", "memory.available=30s", "")
        state, due = advance(State(), limits, left(99), 10.0, TRANSITION)
        assert (state.conditions, due) == (("MemoryPressure",), [])
        state, due = advance(state, limits, left(99, 2), 39.0, TRANSITION)
        assert due == []
        state, due = advance(state, limits, left(99, 3), 40.0, TRANSITION)
        assert due == list(limits)
        state, due = advance(state, limits, left(100, 4), 50.0, TRANSITION)
        assert due == []
        state, due = advance(state, limits, left(99, 5), 60.0, TRANSITION)
        assert due == []

    def test_the_same_measure_is_acted_upon_once(self) -> None:
        limits = hard("memory.available<100")
        state, due = advance(State(), limits, left(99, 7), 0.0, TRANSITION)
        assert due == limits
        state, due = advance(state, limits, left(99, 7), 10.0, TRANSITION)
        assert due == []
        state, due = advance(state, limits, left(99, 8), 20.0, TRANSITION)
        assert due == limits

    def test_what_was_due_stays_until_its_reclaim_is_free(self) -> None:
        limits = hard("memory.available<100", reclaim="memory.available=50")
        state, _ = advance(State(), limits, left(99, 1), 0.0, TRANSITION)
        state, due = advance(state, limits, left(149, 2), 10.0, TRANSITION)
        assert due == limits
        state, due = advance(state, limits, left(150, 3), 20.0, TRANSITION)
        assert due == []
        _, due = advance(state, limits, left(149, 4), 30.0, TRANSITION)
        assert due == []

    def test_memory_comes_first_and_conditions_are_told_by_name(self) -> None:
        limits = hard("pid.available<100", "nodefs.available<100", "memory.available<100")
        seen = {item.signal: Observation(1, 1000, 1) for item in limits}
        state, due = advance(State(), limits, seen, 0.0, TRANSITION)
        assert due[0].signal == MEMORY
        assert state.conditions == ("DiskPressure", "MemoryPressure", "PIDPressure")


TOLERATES = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}
BURSTABLE = spec(resources={"requests": {"memory": "1Mi"}})


@pytest.mark.parametrize(
    ("pod", "conditions", "taken"),
    [
        (a_pod(), [], True),
        (a_pod(), ["MemoryPressure"], False),
        (a_pod(BURSTABLE), ["MemoryPressure"], True),
        (a_pod(tolerations=[TOLERATES]), ["MemoryPressure"], True),
        (a_pod(tolerations=[{"operator": "Exists"}]), ["MemoryPressure"], True),
        (a_pod(tolerations=[{**TOLERATES, "effect": "NoExecute"}]), ["MemoryPressure"], False),
        (a_pod(tolerations=[{"key": "other", "operator": "Exists"}]), ["MemoryPressure"], False),
        (a_pod(tolerations=[{"key": TOLERATES["key"], "operator": "Equal", "value": "x"}]), ["MemoryPressure"], False),
        (a_pod(BURSTABLE), ["DiskPressure"], False),
        (a_pod(BURSTABLE), ["DiskPressure", "MemoryPressure"], False),
        (a_pod(priority=2_000_000_000), ["DiskPressure"], True),
        (a_pod(priority=1_999_999_999), ["PIDPressure"], False),
    ],
)
def test_whom_a_node_under_pressure_takes(pod: dict[str, Any], conditions: list[str], taken: bool) -> None:
    words = "" if taken else f"The node had condition: [{' '.join(conditions)}]. "
    assert refusal(pod, conditions) == words
