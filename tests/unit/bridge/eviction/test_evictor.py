"""Whom the evictor ends in a round, and what it asks of the runtime for it."""

from dataclasses import dataclass, field
from typing import Any

from bridge.actions import Eviction
from bridge.eviction.evictor import Evictor
from bridge.stats.summary import PodUse
from tests.unit.bridge.eviction.test_local import a_pod, container, fills, use
from vkcri.errors import Unavailable

MESSAGE = 'Container app exceeded its local ephemeral storage limit "2Mi". '


@dataclass
class Pod:
    """A worker as the evictor sees it."""

    uid: str
    pod: dict[str, Any]
    status: dict[str, Any] = field(default_factory=dict)
    willing: bool = True
    over: bool = False
    evictions: list[Eviction] = field(default_factory=list)

    def evict(self, eviction: Eviction) -> bool:
        self.evictions.append(eviction)
        return self.willing


class Node:
    """Pods, what they take, and what was asked and counted."""

    def __init__(self, *workers: Pod) -> None:
        self.workers = workers
        self.found: dict[str, PodUse] = {}
        self.asked = 0
        self.away = False
        self.counted: list[str] = []
        self.evictor = Evictor(lambda: self.workers, self, self.counted.append)

    def pods(self, seconds: float) -> list[PodUse]:
        assert seconds > 0
        self.asked += 1
        if self.away:
            raise Unavailable("the runtime is away")
        return [PodUse(**{**vars(item), "uid": uid}) for uid, item in self.found.items()]

    def images_apart(self, seconds: float) -> bool:
        assert seconds > 0
        return False


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


def test_a_runtime_that_is_away_leaves_it_to_the_next_round() -> None:
    node = Node(small("over"))
    node.away, node.found = True, {"over": use(fills(layer=3))}
    assert node.evictor.look() == []
    node.away = False
    assert len(node.evictor.look()) == 1
