"""The thread `eviction`: every ten seconds a look at what the pods take, and the end of those that take too much.

Source: the kubelet's eviction manager (pkg/kubelet/eviction/eviction_manager.go), its interval, graces and waits. CRI
is asked only where there is something to judge. A runtime that does not answer leaves it to the next round.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from bridge.actions import Eviction
from bridge.eviction import local
from bridge.stats.summary import PodUse
from vkcri.api import pods
from vkcri.errors import Unavailable
from vkcri.lifecycle import Process

PERIOD = 10.0
CALL_SECONDS = 60.0
IMMEDIATE = 1.0
"""Seconds that the containers of a pod have which must go at once (immediateEvictionGracePeriodSeconds)."""
CLEANUP_SECONDS, CLEANUP_LOOK = 30.0, 1.0
"""How long the next look waits for the end of evicted pods, and how often it is looked whether they are."""
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

    def evict(self, eviction: Eviction) -> bool: ...


class Use(Protocol):
    """The part of bridge.stats.gather.Gatherer that is used here. Each raises Unavailable."""

    def pods(self, seconds: float) -> list[PodUse]: ...

    def images_apart(self, seconds: float) -> bool: ...


class Evictor:
    """workers(): all pods'; count(signal): one more eviction."""

    def __init__(self, workers: Callable[[], Iterable[Worker]], use: Use, count: Callable[[str], object]) -> None:
        self._workers = workers
        self._use = use
        self._count = count

    def start(self, process: Process) -> None:
        def loop() -> None:
            while not process.stopping.is_set():
                with process.expect("a look at what pods take", 3 * CALL_SECONDS):
                    evicted = self.look()
                if not evicted:
                    process.wait(PERIOD)
                until = time.monotonic() + CLEANUP_SECONDS
                while not all(worker.over for worker in evicted) and time.monotonic() < until:
                    if process.wait(CLEANUP_LOOK):
                        return

        process.start_thread("eviction", loop)

    def look(self) -> list[Worker]:
        """One round: the pods that are evicted by it."""
        active = [worker for worker in self._workers() if not pods.is_terminal(worker.status)]
        try:
            return self._hold_limits(active)
        except Unavailable as error:
            log.info("what pods take is not known: %s", error)
            return []

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
