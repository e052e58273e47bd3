"""All probes of all pods: run when they are due, their results kept for the pods' workers.

Everything happens on the wire's loop, one thread however many probes there are; `update`, `forget`, `results` and
`metrics` may be called on any thread. A result is data: a worker reads it in its next step, for which it is woken when
it has changed. Nothing here stops a container or writes a status. Lost when the process ends, and may be: what was last
reported stands until a probe has said something new (bridge.lives), and the probes of containers that ran before this
process begin spread over their period.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge.actions import Probed
from bridge.probes.checks import Check, Execute, Subject
from bridge.probes.metrics import ProbeMetrics
from bridge.probes.track import FIELDS, Target, Timing, Track
from bridge.probes.verdict import Verdict
from bridge.probes.view import View
from bridge.wire.client import Client
from bridge.wire.loop import Timer
from vkcri.api import pods

Warn = Callable[[Mapping[str, Any], str, str, str], None]
"""(pod, reason, message, container): record a Warning about a container."""
log = logging.getLogger(__name__)


class Prober:
    """wake(uid): the pod's results have changed. clock: seconds since the epoch, in which CRI tells starts."""

    def __init__(
        self,
        client: Client,
        execute: Execute,
        warn: Warn,
        wake: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.client = client
        self.metrics = ProbeMetrics(clock())
        self.execute = execute
        self.warn = warn
        self.clock = clock
        self.started = clock()
        self._wake = wake
        self._pods: dict[str, _Pod] = {}
        self._results: dict[str, Mapping[str, Probed]] = {}

    def update(self, uid: str, view: View) -> None:
        """How the pod is now."""
        self.client.loop.call(lambda: self._see(uid, view))

    def forget(self, uid: str) -> None:
        """Probe it no more: none of its containers runs."""
        self.client.loop.call(lambda: self._forget(uid))

    def results(self, uid: str) -> Mapping[str, Probed]:
        """Container id -> what its probes say, for the containers that are there now."""
        return self._results.get(uid, {})

    def _see(self, uid: str, view: View) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            pod = self._pods[uid] = _Pod(self, view)
        pod.see(view)
        self._publish(uid, pod)

    def _forget(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        self._results.pop(uid, None)
        if pod is not None:
            pod.cancel()
            name = pods.full_name(pod.view.pod)
            replaced = any(pods.full_name(other.view.pod) == name for other in self._pods.values())
            self.metrics.forget(pod.view.pod, replaced=replaced)

    def changed(self, uid: str) -> None:
        """A probe of the pod has another result."""
        pod = self._pods.get(uid)
        if pod is not None:
            self._publish(uid, pod)

    def _publish(self, uid: str, pod: "_Pod") -> None:
        results = pod.results()
        if results != self._results.get(uid, {}):
            self._results[uid] = results
            self._wake(uid)


class _Pod:
    """The probes of one pod."""

    def __init__(self, prober: Prober, view: View) -> None:
        self.view = view
        self._watches: list[_Watch] = []
        for target in view.targets:
            found = pods.container(view.pod, target.name)
            for name, kind in FIELDS.items():
                probe = found[1].get(name) if found else None
                if found and probe:
                    timing = Timing.of(probe)
                    track = Track(kind, timing, self._origin(prober, timing, target))
                    self._watches.append(_Watch(prober, self, track, found[1], probe))

    def see(self, view: View) -> None:
        self.view = view
        targets = {target.name: target for target in view.targets}
        for watch in self._watches:
            watch.see(targets.get(watch.container, Target(watch.container)))

    def results(self) -> dict[str, Probed]:
        found: dict[str, dict[str, bool | None]] = {}
        for watch in self._watches:
            if watch.target.id:
                found.setdefault(watch.target.id, {})[watch.track.kind] = watch.track.result
        return {container: Probed(**results) for container, results in found.items() if any_said(results)}

    def cancel(self) -> None:
        for watch in self._watches:
            watch.cancel()

    @staticmethod
    def _origin(prober: Prober, timing: Timing, target: Target) -> float:
        """When its ticks begin: now, or spread over a period where the container ran before this process did."""
        now = prober.client.loop.clock()
        if target.running and target.started_at < prober.started and prober.clock() - prober.started < timing.period:
            return now + random.random() * timing.period
        return now


def any_said(results: Mapping[str, bool | None]) -> bool:
    return any(result is not None for result in results.values())


class _Watch:
    """One probe of one container: its track, its timer and what is under way."""

    def __init__(
        self, prober: Prober, pod: _Pod, track: Track, spec: Mapping[str, Any], probe: Mapping[str, Any]
    ) -> None:
        self.track = track
        self.container = str(spec["name"])
        self.target = Target(self.container)
        self._prober = prober
        self._loop = prober.client.loop
        self._pod = pod
        self._spec = spec
        self._probe = probe
        self._timer: Timer | None = None
        self._check: Check | None = None

    def see(self, target: Target) -> None:
        prober, turn = self._prober, self.track.turn
        age = max(0.0, prober.clock() - target.started_at)
        self.target = target
        self.track.see(target, ending=self._pod.view.ending, now=self._loop.clock(), age=age)
        if self.track.turn != turn and self._check is not None:
            self._check.cancel()
            self._check = None
        self._plan()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._check is not None:
            self._check.cancel()

    def _plan(self) -> None:
        """Set the timer to when the track is due."""
        due = self.track.due(self._loop.clock())
        if self._timer is not None:
            if self._timer.when == due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = self._loop.at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        began = self._loop.clock()
        turn = self.track.begins(began)
        subject = Subject(self._probe, self._spec, self.target.id, self._pod.view.address, self.track.timing.timeout)
        self._check = Check(
            self._prober.client, self._prober.execute, subject, lambda verdict: self._ended(turn, began, verdict)
        )
        self._check.start()

    def _ended(self, turn: int, began: float, verdict: Verdict) -> None:
        """Plan the next one first, so that no trouble in telling of this one keeps it away."""
        self._check = None
        changed = self.track.ends(turn, verdict.passed)
        self._plan()
        try:
            self._tell(verdict, self._loop.clock() - began)
        finally:
            if changed:
                self._prober.changed(pods.uid(self._pod.view.pod))

    def _tell(self, verdict: Verdict, seconds: float) -> None:
        prober, pod = self._prober, self._pod.view.pod
        event = verdict.event(self.track.kind)
        if event is not None:
            log.debug("pod %s: %s: %s", pods.full_name(pod), self.container, event[1])
            prober.warn(pod, *event, self.container)
        if verdict.passed is not None:
            prober.metrics.count(pod, self.container, self.track.kind, passed=verdict.passed, seconds=seconds)
