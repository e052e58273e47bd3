"""One pod's resizes, between its worker, the register of what was granted, and its cgroups.

Called by the worker's steps (`grant`) and by the operation that carries a resize out (`carry_out`), so that the
worker's lock guards the memory. What is decided and said is resizing's and allocation's, which are pure.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from bridge import resizing
from bridge.act import Actor
from bridge.actions import Desired, ResizePod
from bridge.admission import Admission
from bridge.allocation import applied
from bridge.decide import ending
from bridge.guest import Failure, Guest
from bridge.lives import lives
from bridge.memory import Memory
from bridge.observe import Observed
from bridge.resizing import Resized
from vkcri.api import pods, times
from vkcri.errors import VkcriError


class Grants:
    """memory and lock are the worker's; wake_at(time) has it look again then (seconds since the epoch)."""

    def __init__(
        self,
        guest: Guest,
        admission: Admission,
        memory: Memory,
        lock: threading.Lock,
        wake_at: Callable[[float], object],
    ) -> None:
        self._guest = guest
        self._admission = admission
        self._memory = memory
        self._lock = lock
        self._wake_at = wake_at

    def grant(self, desired: Desired, observed: Observed, now: float) -> Desired:
        """The pod with the resources that the node grants it; what there is to say about a resize is said."""
        pod, stamp = desired.pod, times.seconds(times.of(now))
        with self._lock:
            prior, before = self._memory.prior(), self._memory.allocation
        if ending(desired) or pods.is_terminal(prior.status):
            return replace(desired, pod=applied(pod, before)) if before is not None else desired
        since = prior.notes.pending.since if prior.notes.pending else stamp
        allocation, refusal = self._admission.resize(pods.uid(pod), pod, since)
        granted = replace(desired, pod=applied(pod, allocation))
        if before is None and observed.sandboxes:
            self._find_out(granted.pod)
        with self._lock:
            self._memory.allocation, prior = allocation, self._memory.prior()
            notes, events = resizing.asked(prior.notes, pod, before, allocation, refusal, stamp)
            under_way = resizing.under_way(granted.pod, prior, lives(granted.pod, prior, observed))
            notes, more = resizing.looked(notes, granted.pod, stamp, under_way=under_way)
            self._memory.notes = notes
        if notes.pending is not None:
            self._wake_at(now + resizing.RETRY)
        self._say(granted.pod, [*events, *more])
        return granted

    def carry_out(self, actor: Actor, action: ResizePod, desired: Desired, observed: Observed) -> Resized:
        """Do it; a failure is said in the pod's condition and event before it is passed on."""
        with self._lock:
            prior = self._memory.prior()
        try:
            return actor.resize_pod(desired, action, observed, prior)
        except (Failure, VkcriError) as error:
            stamp = times.seconds(times.of(self._guest.clock()))
            with self._lock:
                self._memory.notes, events = resizing.failed(self._memory.notes, desired.pod, str(error), stamp)
            self._say(desired.pod, events)
            raise

    def _find_out(self, pod: Mapping[str, Any]) -> None:
        """After a restart: what the kernel holds the pod's cgroup to, which counts for its level again."""
        sized = self._guest.cgroups.read(pod)
        if sized is not None:
            self._guest.cgroups.count(pod)
            with self._lock:
                self._memory.pod_sized = sized

    def _say(self, pod: Mapping[str, Any], events: Iterable[resizing.Event]) -> None:
        for event in events:
            self._guest.event(pod, event.type, event.reason, event.message)
