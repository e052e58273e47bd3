"""Whether the node is short of something, for how long, and whom it takes no more: what was measured held against the
thresholds. Pure.

Source: synchronize, Admit and makeSignalObservations of the kubelet's eviction manager. A condition is told until it
has not been seen for the transition period, and what was reached once counts until `reclaim` is free, too.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bridge.eviction.thresholds import (
    ALLOCATABLE_MEMORY,
    CONDITIONS,
    IMAGE_DISK,
    IMAGE_INODES,
    MEMORY,
    NODE_DISK,
    NODE_INODES,
    PID,
    RESOURCES,
    Threshold,
)
from bridge.stats.disk import Filesystem
from bridge.stats.shapes import Measured
from bridge.stats.summary import NodeUse, SystemUse
from vkcri.api import pods, quantities

PODS = "pods"
_TAINT: Final = "node.kubernetes.io/memory-pressure"


@dataclass(frozen=True)
class Observation:
    """What is left of how much, when that was (nanoseconds since the epoch)."""

    available: int
    capacity: int
    time: int
    binary: bool = True

    @property
    def printed(self) -> str:
        """What is left, as the kubelet prints it."""
        return quantities.format(self.available, binary=self.binary)


Observations = Mapping[str, Observation]


@dataclass(frozen=True)
class State:
    """What a round leaves to the next. first: since when a threshold is reached; last: when a condition was seen last
    (monotonic seconds). met: the thresholds that were due; conditions: those that hold."""

    first: Mapping[Threshold, float] = field(default_factory=dict)
    last: Mapping[str, float] = field(default_factory=dict)
    met: tuple[Threshold, ...] = ()
    seen: Observations = field(default_factory=dict)
    conditions: tuple[str, ...] = ()


def observe(node: NodeUse) -> dict[str, Observation]:
    """Signal -> what is left; without what was not measured."""
    found = {MEMORY: _memory(node.measured, node.hugepages)}
    kubepods = next((item for item in node.systems if item.name == PODS), None)
    found[ALLOCATABLE_MEMORY] = _memory(kubepods.measured) if isinstance(kubepods, SystemUse) else None
    for on, size, inodes in ((node.disk, NODE_DISK, NODE_INODES), (node.images, IMAGE_DISK, IMAGE_INODES)):
        if isinstance(on, Filesystem):
            found[size] = Observation(on.available, on.capacity, on.time)
            if on.inodes:  # some file systems have no fixed number, and say 0
                found[inodes] = Observation(on.inodes_free, on.inodes, on.time, binary=False)
    if node.processes_most:
        left, time = node.processes_most - node.processes, node.measured.usage.time
        found[PID] = Observation(left, node.processes_most, time, binary=False)
    return {signal: item for signal, item in found.items() if item is not None}


def _memory(measured: Measured, taken: int = 0) -> Observation | None:
    """Of a cgroup with a limit, as the Summary shows it. taken: bytes that nobody can have, such as huge pages."""
    used = measured.usage.memory
    if used.limit is None:
        return None
    available = max(0, used.limit - used.working_set - taken)
    return Observation(available, available + used.working_set, measured.usage.time)


def reached(thresholds: Iterable[Threshold], seen: Observations, *, reclaimed: bool = False) -> list[Threshold]:
    """The thresholds below which the node is; with `reclaimed`, those whose reclaim is not free yet, too."""
    found = []
    for item in thresholds:
        left = seen.get(item.signal)
        if left is not None:
            more = item.reclaim.of(left.capacity) if reclaimed else 0
            if left.available < item.least.of(left.capacity) + more:
                found.append(item)
    return found


def advance(
    state: State, thresholds: Iterable[Threshold], seen: Observations, now: float, transition: float
) -> tuple[State, list[Threshold]]:
    """The next state, and the thresholds that something is to be done about now, memory's first: those that lasted
    their grace and were measured anew since the last round. transition: seconds that a condition outlives its cause."""
    short = list(dict.fromkeys([*reached(thresholds, seen), *reached(state.met, seen, reclaimed=True)]))
    first = {item: state.first.get(item, now) for item in short}
    last = {**state.last, **dict.fromkeys((CONDITIONS[item.signal] for item in short), now)}
    conditions = tuple(sorted(name for name, when in last.items() if now - when < transition or when == now))
    due = [item for item in short if now - first[item] >= item.grace]
    fresh = [item for item in due if item.signal not in state.seen or _newer(seen, state.seen, item.signal)]
    fresh.sort(key=lambda item: RESOURCES[item.signal] != "memory")
    return State(first, last, tuple(due), seen, conditions), fresh


def _newer(seen: Observations, before: Observations, signal: str) -> bool:
    return seen[signal].time > before[signal].time


def refusal(pod: Mapping[str, Any], conditions: Collection[str]) -> str:
    """Why a node under these conditions does not take the pod; empty where it does. Under memory pressure alone it
    takes whoever has requests or tolerates that."""
    if not conditions or pods.is_critical(pod):
        return ""
    if set(conditions) == {"MemoryPressure"} and (pods.qos_class(pod) != "BestEffort" or _tolerates(pod)):
        return ""
    return f"The node had condition: [{' '.join(conditions)}]. "


def _tolerates(pod: Mapping[str, Any]) -> bool:
    """Whether a toleration meets the taint node.kubernetes.io/memory-pressure:NoSchedule, which has no value."""
    for item in pods.spec(pod).get("tolerations") or []:
        if item.get("effect") not in (None, "", "NoSchedule") or item.get("key") not in (None, "", _TAINT):
            continue
        if item.get("operator") == "Exists" or (item.get("key") == _TAINT and not item.get("value")):
            return True
    return False
