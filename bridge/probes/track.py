"""One probe of one container: when it is due, and what results in a row mean. Pure; the kubelet's prober worker.

    new container --> waits: for its delay, for start-up, for its next tick --> under way --> counted --> waits ...
                                                                                              +--> on hold

Ticks come every period from `origin` on, whatever the container does, so that probes of many pods are spread as the
pods were. A readiness probe also comes at once when its container has started. On hold until there is a new container:
after a liveness failure, and after a start-up that succeeded or failed. Times are monotonic seconds.

In one thing this is not the kubelet: results in a row do not carry over from a container to the next.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["startup", "readiness", "liveness"]
FIELDS: Mapping[str, Kind] = {
    "startupProbe": "startup",
    "readinessProbe": "readiness",
    "livenessProbe": "liveness",
}
_ROUNDING = 1e-6  # of a period: a probe that begins exactly on its tick has had that tick


@dataclass(frozen=True)
class Target:
    """A container as its probes see it. id: of its newest run in CRI, empty before the first. started: its startup
    probe has succeeded, or it has none. started_at: seconds since the epoch."""

    name: str
    id: str = ""
    running: bool = False
    started: bool = False
    started_at: float = 0.0


@dataclass(frozen=True)
class Timing:
    """Seconds, and how many results in a row count."""

    delay: float = 0.0
    timeout: float = 1.0
    period: float = 10.0
    successes: int = 1
    failures: int = 3

    @classmethod
    def of(cls, probe: Mapping[str, Any]) -> "Timing":
        """Of a Probe; a field that is absent or 0 has Kubernetes' default."""
        return cls(
            delay=float(probe.get("initialDelaySeconds") or 0),
            timeout=float(probe.get("timeoutSeconds") or 1),
            period=float(probe.get("periodSeconds") or 10),
            successes=int(probe.get("successThreshold") or 1),
            failures=int(probe.get("failureThreshold") or 3),
        )


class Track:
    """`result`: True or False once enough results in a row have said so of this container, else None. `turn`: which
    container this is about, the first, the second, ...; a result of an earlier turn is nobody's."""

    def __init__(self, kind: Kind, timing: Timing, origin: float) -> None:
        self.kind = kind
        self.timing = timing
        self.result: bool | None = None
        self.turn = 0
        self._origin = origin
        self._target = Target("")
        self._earliest = origin
        self._last: bool | None = None
        self._in_a_row = 0
        self._at_once = False
        self._held = False
        self._under_way = False

    def see(self, target: Target, *, ending: bool, now: float, age: float) -> bool:
        """How the container is now. ending: the pod is; then liveness and start-up are not probed any more and count as
        good, while readiness goes on. age: seconds since the container's start. Whether `result` has changed."""
        before = self.result
        if target.id != self._target.id:
            self._renew(now, age)
        elif self.kind == "readiness" and target.started and not self._target.started:
            self._at_once = True
        self._target = target
        if ending and self.kind != "readiness":
            self._held = True
            if target.id:
                self.result = True
        return self.result is not before

    def due(self, now: float) -> float | None:
        """When to probe, which may be past; None: not before something changes."""
        target = self._target
        if self._under_way or self._held or not target.running:
            return None
        if target.started == (self.kind == "startup"):
            return None
        if self._at_once:
            return max(self._earliest, self._origin, now)
        periods = math.ceil((self._earliest - self._origin) / self.timing.period - _ROUNDING)
        return self._origin + max(0, periods) * self.timing.period

    def begins(self, now: float) -> int:
        """A probe is under way; the turn to give back to `ends`."""
        self._under_way = True
        if self._at_once:  # the next tick is a whole period after it
            self._at_once, self._origin = False, now
        done = math.floor((now - self._origin) / self.timing.period + _ROUNDING)
        self._earliest = self._origin + (done + 1) * self.timing.period
        return self.turn

    def ends(self, turn: int, passed: bool | None) -> bool:
        """It is over; passed None: it said nothing, which counts for nothing. Whether `result` has changed."""
        if turn != self.turn:
            return False
        self._under_way = False
        if passed is None or self._held:
            return False
        self._in_a_row = self._in_a_row + 1 if passed is self._last else 1
        self._last = passed
        if self._in_a_row < (self.timing.successes if passed else self.timing.failures):
            return False
        self._held = self.kind == "startup" or (self.kind == "liveness" and not passed)
        before, self.result = self.result, passed
        return passed is not before

    def _renew(self, now: float, age: float) -> None:
        """Another container: nothing is known of it."""
        self.turn += 1
        self.result = self._last = None
        self._in_a_row = 0
        self._held = self._under_way = False
        self._at_once = self.kind == "readiness"
        self._earliest = now + max(0.0, self.timing.delay - age)
