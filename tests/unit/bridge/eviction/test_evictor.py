"""Whom the evictor ends in a round, and what it asks of the runtime for it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bridge.actions import Eviction
from bridge.eviction.evictor import Evictor
from bridge.eviction.thresholds import thresholds
from bridge.stats.disk import Filesystem
from bridge.stats.summary import NodeUse, PodUse
from tests.unit.bridge.eviction.test_local import a_pod, container, fills, use
from tests.unit.bridge.stats.test_summary import node as node_use
from vkcri.errors import Conflict, NotFound, Refused, Unavailable, VkcriError

MESSAGE = 'Container app exceeded its local ephemeral storage limit "2Mi". '


@dataclass
class Pod:
    """A worker as the evictor sees it."""

    uid: str
    pod: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    willing: bool = True
    over: bool = False
    gone: bool = False
    evictions: list[Eviction] = field(default_factory=list)

    def evict(self, eviction: Eviction) -> bool:
        self.evictions.append(eviction)
        return self.willing


class Node:
    """Pods, what they take, what the node has left, and what was asked, said and counted. `relieved`: what is left once
    room was made."""

    def __init__(self, *workers: Pod, soft: str = "", **more: Any) -> None:
        self.workers = workers
        self.found: dict[str, PodUse] = {}
        self.left = self.relieved = Filesystem(1, 900, 1000, 100, 1000, 900)
        self.apart = False
        self.failure: VkcriError | None = None
        self.progress = 0
        self.asked = 0
        self.now = 100.0
        self.counted: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.reclaimed: list[str] = []
        hard = "" if soft else "nodefs.available<10%,imagefs.available<15%"
        self.evictor = Evictor(
            lambda: self.workers,
            self,
            self.counted.append,
            lambda reason, message: self.events.append((reason, message)),
            thresholds=thresholds(hard, soft, "nodefs.available=30s" if soft else "", ""),
            reclaim=(self.remove_containers, self.remove_images),
            clock=lambda: self.now,
            **more,
        )

    def look(self, seconds: float = 10.0) -> list[str]:
        """One round that much later: who is evicted by it."""
        self.now += seconds
        self.left = replace(self.left, time=int(self.now))
        return [worker.uid for worker in self.evictor.look(self.step)]

    def step(self) -> None:
        self.progress += 1

    def short(self, available: int = 50) -> None:
        self.left = self.relieved = Filesystem(1, available, 1000, 1000 - available, 1000, 900)

    def remove_containers(self, progress: Callable[[], object]) -> None:
        self.reclaimed.append("containers")
        progress()
        raise self.failure or Unavailable("one stays")

    def remove_images(self, progress: Callable[[], object]) -> None:
        self.reclaimed.append("images")
        progress()
        self.left = replace(self.relieved, time=int(self.now) + 1)

    def node(self, seconds: float) -> NodeUse:
        assert seconds > 0
        roomy = Filesystem(self.left.time, 900, 1000, 100, 1000, 900)
        return node_use(disk=self.left, images=roomy if self.apart else self.left, systems=())

    def pods(self, seconds: float) -> list[PodUse]:
        assert seconds > 0
        self.asked += 1
        if self.failure:
            raise self.failure
        return [replace(item, uid=uid) for uid, item in self.found.items()]

    def images_apart(self, seconds: float) -> bool:
        assert seconds > 0
        return self.apart


def small(uid: str, **more: Any) -> Pod:
    """A pod whose container may write 2Mi; the pod as a whole has room."""
    return Pod(uid, a_pod(container("app", "2Mi"), container("idle", "1Gi")), **more)


def test_nothing_is_asked_where_nobody_has_a_limit() -> None:
    node = Node(Pod("a", a_pod()), Pod("b", small("b").pod, status={"phase": "Failed"}))
    assert (node.evictor.look(), node.asked) == ([], 0)


def test_every_pod_over_a_limit_ends_at_once_and_is_counted() -> None:
    pods = [small("over"), small("within"), small("too"), small("unknown")]
    node = Node(*pods)
    node.found = {"over": use(fills(layer=3)), "within": use(fills(layer=1)), "too": use(fills(logs=3))}
    assert node.evictor.look() == [pods[0], pods[2]]
    assert [pod.evictions for pod in pods] == [[Eviction(MESSAGE, 1.0)], [], [Eviction(MESSAGE, 1.0)], []]
    assert node.counted == ["ephemeralcontainerfs.limit"] * 2


def test_a_pod_that_must_not_be_evicted_is_not_counted() -> None:
    node = Node(small("static", willing=False))
    node.found = {"static": use(fills(layer=3))}
    assert (node.evictor.look(), node.counted) == ([], [])


@pytest.mark.parametrize("kind", [Unavailable, NotFound, Refused, Conflict])
def test_a_runtime_that_does_not_answer_as_asked_leaves_it_to_the_next_round(kind: type[VkcriError]) -> None:
    node = Node(small("over"))
    node.failure, node.found = kind("an error in gathering metrics"), {"over": use(fills(layer=3))}
    assert node.evictor.look() == []
    node.failure = None
    assert len(node.evictor.look()) == 1


class TestAShortNode:
    def test_nothing_is_done_while_there_is_enough(self) -> None:
        node = Node(Pod("a", a_pod()))
        assert (node.look(), node.events, node.asked, list(node.evictor.conditions)) == ([], [], 0, [])

    def test_room_is_made_first_and_nobody_goes_where_that_helps(self) -> None:
        node = Node(Pod("a", a_pod()))
        node.short()
        node.relieved = Filesystem(1, 900, 1000, 100, 1000, 900)
        assert node.look() == []
        assert node.reclaimed == ["containers", "images"]
        assert node.events == [("EvictionThresholdMet", "Attempting to reclaim ephemeral-storage")]
        assert list(node.evictor.conditions) == ["DiskPressure"]
        assert node.look() == []
        node.look(300.0)
        assert list(node.evictor.conditions) == []

    def test_what_makes_room_may_fail_in_any_way_and_each_step_of_it_is_progress(self) -> None:
        node = Node(Pod("a", a_pod()))
        node.short()
        node.relieved = Filesystem(1, 900, 1000, 100, 1000, 900)
        node.failure = NotFound("a container is gone")
        before = node.progress
        assert (node.look(), node.reclaimed) == ([], ["containers", "images"])
        assert node.progress - before >= 4

    def test_one_pod_a_round_goes_the_one_that_takes_the_most_first(self) -> None:
        pods = [Pod(name, a_pod()) for name in ("small", "large", "ended")]
        pods[2].status = {"phase": "Succeeded"}
        node = Node(*pods)
        node.found = {"small": use(fills(layer=1)), "large": use(fills(layer=2)), "ended": use(fills(layer=9))}
        node.short()
        assert node.look() == ["large"]
        (eviction,) = pods[1].evictions
        assert (eviction.grace, eviction.disrupts) == (1.0, True)
        assert eviction.message == (
            "The node was low on resource: ephemeral-storage. Threshold quantity: 100, available: 50. "
            "Container app was using 2Mi, request is 0, has larger consumption of ephemeral-storage. "
        )
        assert eviction.notes["starved_resource"] == "ephemeral-storage"
        pods[1].over = True
        assert node.look() == ["small"]
        assert node.counted == ["nodefs.available"] * 2

    def test_the_next_goes_only_once_the_first_has_ended_or_has_had_its_time(self) -> None:
        pods = [Pod(name, a_pod()) for name in "abc"]
        node = Node(*pods)
        node.found = {"a": use(fills(layer=3)), "b": use(fills(layer=2)), "c": use(fills(layer=1))}
        node.short()
        assert (node.look(), node.look(1.0)) == (["a"], [])
        pods[0].willing = False
        assert node.look(38.0) == [], "30 s after the 10 that its end has"
        assert node.look(1.0) == ["b"]
        pods[1].over = True
        assert node.look(1.0) == ["c"]

    def test_a_long_grace_is_waited_for_one_and_a_half_times(self) -> None:
        pods = [Pod(name, a_pod(terminationGracePeriodSeconds=60)) for name in "ab"]
        node = Node(*pods, soft="nodefs.available<10%", most_grace=60.0)
        node.short()
        assert [node.look() for _ in range(4)][-1] == ["a"]
        pods[0].willing = False
        assert (node.look(119.0), node.look(1.0)) == ([], ["b"])

    def test_images_are_not_removed_for_a_device_that_they_do_not_lie_on(self) -> None:
        node = Node(Pod("a", a_pod()))
        node.apart = True
        node.short()
        assert (node.look(), node.reclaimed) == (["a"], [])

    def test_what_has_ended_or_is_wanted_by_nobody_is_no_candidate(self) -> None:
        node = Node(Pod("over", a_pod(), over=True), Pod("orphan", a_pod(), gone=True), Pod("wanted", a_pod()))
        node.found = {"over": use(fills(layer=9)), "orphan": use(fills(layer=9)), "wanted": use(fills(layer=1))}
        node.short()
        assert node.look() == ["wanted"]

    def test_a_pod_over_its_own_limit_goes_instead(self) -> None:
        over, other = small("over"), Pod("other", a_pod())
        node = Node(other, over)
        node.found = {"over": use(fills(layer=3)), "other": use(fills(layer=99))}
        node.short()
        assert (node.look(), node.reclaimed) == (["over"], [])

    def test_a_soft_threshold_waits_and_gives_the_grace_that_it_may(self) -> None:
        pods = [Pod("a", a_pod(terminationGracePeriodSeconds=40)), Pod("b", a_pod(terminationGracePeriodSeconds=90))]
        node = Node(*pods, soft="nodefs.available<10%", most_grace=60.0)
        node.short()
        assert (node.look(), node.look(), node.look()) == ([], [], [])
        assert list(node.evictor.conditions) == ["DiskPressure"]
        assert node.look() == ["a"]
        pods[0].over = True
        assert node.look() == ["b"]
        assert [pod.evictions[0].grace for pod in pods] == [40.0, 60.0]

    def test_where_nobody_may_go_nobody_does(self) -> None:
        node = Node(Pod("static", a_pod(), willing=False))
        node.short()
        assert (node.look(), node.counted) == ([], [])
