"""The thread `volume-stats`: how much each volume of each pod takes, counted every minute or two and kept.

Counting walks every file, so it never runs for a request (the kubelet's volumeStatsAggPeriod and its jitter). Where a
limit is held by these numbers, they are counted every ten seconds. A volume
that is gone, or cannot be read, has no numbers, and neither has one with so many files that a pod's time is over before
they are counted: whoever fills a volume takes no more of this thread than a share.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bridge.stats import disk
from bridge.stats.summary import VolumeUse
from vkcri.api import pods
from vkcri.lifecycle import Process

PERIOD = 60.0
LIMITED_PERIOD = 10.0
LOOK = 5.0
WALK_SECONDS = 60.0  # for all volumes of a pod
REST = 5  # times as long as its walk took is a pod's pause at least
STALL_SECONDS = 600.0  # beyond that, for the file system's answer about one file
log = logging.getLogger(__name__)
_Pod = Mapping[str, Any]


class VolumeMeter:
    """The newest numbers by pod UID. wanted(): the pods there are; measurable(pod): Volumes.measurable; limited(pod):
    whether something of the pod is held to a limit by them."""

    def __init__(
        self,
        wanted: Callable[[], Iterable[_Pod]],
        measurable: Callable[[_Pod], list[tuple[str, Path, bool]]],
        clock: Callable[[], float] = time.monotonic,
        *,
        limited: Callable[[_Pod], bool] = lambda _pod: False,
    ) -> None:
        self._wanted = wanted
        self._measurable = measurable
        self._clock = clock
        self._limited = limited
        self._lock = threading.Lock()
        self._found: dict[str, tuple[VolumeUse, ...]] = {}
        self._due: dict[str, float] = {}

    def start(self, process: Process) -> None:
        def loop() -> None:
            while not process.wait(LOOK):
                for pod in self.due():
                    with process.expect(f"the size of {pods.full_name(pod)}'s volumes", WALK_SECONDS + STALL_SECONDS):
                        self.measure(pod)

        process.start_thread("volume-stats", loop)

    def due(self) -> list[_Pod]:
        """The pods whose volumes are to be counted now; what was kept of others is forgotten."""
        wanted = {pods.uid(pod): pod for pod in self._wanted()}
        now = self._clock()
        with self._lock:
            for uid in self._due.keys() - wanted:
                del self._due[uid]
                self._found.pop(uid, None)
            return [pod for uid, pod in wanted.items() if self._due.get(uid, 0.0) <= now]

    def measure(self, pod: _Pod) -> None:
        """Count one pod's volumes."""
        found, began, volumes = [], self._clock(), self._measurable(pod)
        for name, path, local in volumes:
            try:
                taken = disk.taken_by(path, lambda: self._check(began))
                found.append(VolumeUse(name, disk.filesystem(path), taken, local))
            except OSError as error:
                log.debug("volume %s of %s: %s", name, pods.full_name(pod), error)
        uid, now = pods.uid(pod), self._clock()
        with self._lock:
            self._found[uid] = tuple(found)
            if volumes or not _may_get_some(pod):  # else they are being set up: look again soon
                period = LIMITED_PERIOD if self._limited(pod) else PERIOD * (1 + random.random())
                self._due[uid] = now + max(period, REST * (now - began))

    def _check(self, began: float) -> None:
        if self._clock() - began > WALK_SECONDS:
            raise TimeoutError(f"not counted within {WALK_SECONDS:g} s")

    def latest(self, uid: str) -> tuple[VolumeUse, ...]:
        """The pod's volumes, none before they were counted."""
        with self._lock:
            return self._found.get(uid, ())


def _may_get_some(pod: _Pod) -> bool:
    """Whether it has volumes that may not be set up yet: later none comes, a hostPath is never measured."""
    return bool(pods.spec(pod).get("volumes")) and pods.status(pod).get("phase", "Pending") == "Pending"
