"""The thread `eviction`: every ten seconds a look at what the node has left and what the pods take, and the end of pods
that take too much.

Source: the kubelet's eviction manager (pkg/kubelet/eviction/eviction_manager.go), its interval, graces, order, waits:
all that are over a limit of their own, else one for the node's sake, once nothing else could be removed. Pods are
measured only where there is something to judge. A runtime that does not answer, or not as asked, leaves it to the next
round.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from bridge.actions import Eviction
from bridge.eviction import local, pressure, ranking
from bridge.eviction.thresholds import RESOURCES, Threshold
from bridge.stats.summary import NodeUse, PodUse
from vkcri.api import pods
from vkcri.errors import VkcriError
from vkcri.lifecycle import Process

PERIOD = 10.0
CALL_SECONDS = 60.0
STEP_SECONDS = 600.0  # for what is asked or removed by one call; a round takes as long as there is something to remove
IMMEDIATE = 1.0
"""Seconds that the containers of a pod have which must go at once (immediateEvictionGracePeriodSeconds)."""
CLEANUP_SECONDS, CLEANUP_LOOK = 30.0, 1.0
"""How long the next look waits for the end of evicted pods, and how often it is looked whether they are."""
KILL_SECONDS, KILL_GRACES = 10.0, 1.5
"""How long a pod's end is waited for before that, at least and by its grace (killPodNow)."""
log = logging.getLogger(__name__)


class Worker(Protocol):
    """The part of bridge.worker.Worker that is used here."""

    uid: str

    @property
    def pod(self) -> Mapping[str, Any]: ...

    @property
    def status(self) -> Mapping[str, Any]: ...

    @property
    def over(self) -> bool: ...

    @property
    def gone(self) -> bool: ...

    def evict(self, eviction: Eviction) -> bool: ...


class Use(Protocol):
    """The part of bridge.stats.gather.Gatherer that is used here. Each raises Unavailable, or another VkcriError where
    the runtime's answer is one."""

    def node(self, seconds: float) -> NodeUse: ...

    def pods(self, seconds: float) -> list[PodUse]: ...

    def images_apart(self, seconds: float) -> bool: ...


class Evictor:
    """workers(): all pods'; count(signal): one more eviction; event(reason, message): a warning about the node;
    reclaim: what makes room on the disk of containers and images, in order; each is given what it is to call at each
    step, and raises VkcriError. transition: seconds that a condition outlives its cause; most_grace: seconds that a pod
    has at most which a soft threshold ends."""

    def __init__(
        self,
        workers: Callable[[], Iterable[Worker]],
        use: Use,
        count: Callable[[str], object],
        event: Callable[[str, str], object],
        *,
        thresholds: Sequence[Threshold] = (),
        transition: float = 300.0,
        most_grace: float = 0.0,
        reclaim: Sequence[Callable[[Callable[[], object]], object]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._use = use
        self._count = count
        self._event = event
        self._thresholds = thresholds
        self._transition = transition
        self._most_grace = most_grace
        self._reclaim = reclaim
        self._clock = clock
        self._state = pressure.State()
        self._ending: Worker | None = None
        self._ends_by = 0.0

    @property
    def conditions(self) -> Sequence[str]:
        """What the node is under: MemoryPressure, DiskPressure, PIDPressure. Any thread."""
        return self._state.conditions

    def start(self, process: Process) -> None:
        def loop() -> None:
            while not process.stopping.is_set():
                with process.expect("a look at what pods take", STEP_SECONDS) as expectation:
                    evicted = self.look(expectation.refresh)
                if not evicted:
                    process.wait(PERIOD)
                until = time.monotonic() + CLEANUP_SECONDS
                while not all(worker.over for worker in evicted) and time.monotonic() < until:
                    if process.wait(CLEANUP_LOOK):
                        return

        process.start_thread("eviction", loop)

    def look(self, progress: Callable[[], object] = lambda: None) -> list[Worker]:
        """One round: the pods that are evicted by it. progress() is called for each step of it."""
        try:
            due = self._judge_node()
            active = [worker for worker in self._workers() if _is_active(worker)]
            progress()
            return self._hold_limits(active) or (self._relieve(active, due, progress) if due else [])
        except VkcriError as error:
            log.info("what the node has and pods take is not known: %s", error)
            return []

    def _judge_node(self) -> list[Threshold]:
        """Bring the conditions up to date; the thresholds that something is to be done about."""
        if not self._thresholds:
            return []
        seen = pressure.observe(self._use.node(CALL_SECONDS))
        before = self._state.conditions
        self._state, due = pressure.advance(self._state, self._thresholds, seen, self._clock(), self._transition)
        if self._state.conditions != before:
            log.warning("the node is under: %s", ", ".join(self._state.conditions) or "nothing any more")
        return due

    def _hold_limits(self, active: list[Worker]) -> list[Worker]:
        """Evict every pod that is over a limit of its own."""
        limited = [worker for worker in active if local.limited(worker.pod)]
        if not limited:
            return []
        found = {use.uid: use for use in self._use.pods(CALL_SECONDS)}
        apart = self._use.images_apart(CALL_SECONDS)
        evicted = []
        for worker in limited:
            use = found.get(worker.uid)
            excess = local.excess(worker.pod, use, images_apart=apart) if use is not None else None
            if excess is not None and worker.evict(Eviction(excess.message, IMMEDIATE)):
                self._count(excess.signal)
                evicted.append(worker)
        return evicted

    def _relieve(self, active: list[Worker], due: list[Threshold], progress: Callable[[], object]) -> list[Worker]:
        """Make room, and where that is not enough evict the pod that comes first: at most one a round, and none while
        the one before has time to end, whose room is still to come."""
        if self._ending is not None and not self._ending.over and self._clock() < self._ends_by:
            return []
        threshold = due[0]
        resource = RESOURCES[threshold.signal]
        self._event("EvictionThresholdMet", f"Attempting to reclaim {resource}")
        apart = self._use.images_apart(CALL_SECONDS)
        if self._made_room(threshold, progress, apart=apart):
            return []
        progress()
        found = {use.uid: use for use in self._use.pods(CALL_SECONDS)}
        order = sorted(
            active,
            key=lambda worker: ranking.rank(worker.pod, found.get(worker.uid), threshold.signal, images_apart=apart),
        )
        for worker in order:
            text, notes = ranking.message(worker.pod, found.get(worker.uid), resource, due, self._state.seen)
            eviction = Eviction(text, self._grace(worker.pod, threshold), disrupts=True, notes=notes)
            if worker.evict(eviction):
                self._count(threshold.signal)
                self._ending = worker
                self._ends_by = self._clock() + CLEANUP_SECONDS + max(KILL_SECONDS, KILL_GRACES * eviction.grace)
                return [worker]
        log.warning("the node is short of %s, and there is no pod that may be evicted", resource)
        return []

    def _made_room(self, threshold: Threshold, progress: Callable[[], object], *, apart: bool) -> bool:
        """Remove unused containers and images where that helps. Whether nothing is short any more, the reclaim of each
        threshold included."""
        helps = threshold.signal.startswith("imagefs." if apart else ("imagefs.", "nodefs."))
        if not helps:
            return False
        for make_room in self._reclaim:
            try:
                make_room(progress)
            except VkcriError as error:
                log.warning("not all that is unused could be removed: %s", error)
            progress()
        seen = pressure.observe(self._use.node(CALL_SECONDS))
        return not pressure.reached(self._thresholds, seen, reclaimed=True)

    def _grace(self, pod: Mapping[str, Any], threshold: Threshold) -> float:
        return IMMEDIATE if threshold.hard else min(self._most_grace, float(pods.grace_seconds(pod)))


def _is_active(worker: Worker) -> bool:
    """Whether an end of the pod would give the node anything: it has not ended, and somebody still wants it
    (GetActivePods; what is being deleted counts, since it may take its time)."""
    return not (worker.over or worker.gone or pods.is_terminal(worker.status))
