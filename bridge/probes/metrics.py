"""What the kubelet serves at /metrics/probes, by its names: prober_probe_total and prober_probe_duration_seconds.

Counted on the loop's thread, read on any. A pod's counters go with its probes.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Labels:
    """kind: startup, liveness or readiness."""

    kind: str
    container: str
    pod: str
    namespace: str
    uid: str


@dataclass
class _Counts:
    successful: int = 0
    failed: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * len(BUCKETS))


class Metrics:
    """started: when this process began, seconds since the epoch."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._lock = threading.Lock()
        self._counts: dict[Labels, _Counts] = {}

    def count(self, labels: Labels, *, passed: bool, seconds: float) -> None:
        """One probe. As in the kubelet, only what passed has a duration."""
        with self._lock:
            counts = self._counts.setdefault(labels, _Counts())
            if not passed:
                counts.failed += 1
                return
            counts.successful += 1
            counts.seconds += seconds
            for index, most in enumerate(BUCKETS):
                if seconds <= most:
                    counts.buckets[index] += 1

    def forget(self, uid: str) -> None:
        """The pod is not probed any more."""
        with self._lock:
            self._counts = {labels: counts for labels, counts in self._counts.items() if labels.uid != uid}

    def text(self) -> str:
        """Prometheus' text format."""
        with self._lock:
            lines = [*self._durations(), *self._totals()]
        lines += [
            "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.",
            "# TYPE process_start_time_seconds gauge",
            f"process_start_time_seconds {self._started:.2f}",
        ]
        return "\n".join(lines) + "\n"

    def _durations(self) -> Iterator[str]:
        name = "prober_probe_duration_seconds"
        measured = [(labels, counts) for labels, counts in self._counts.items() if counts.successful]
        if measured:
            yield f"# HELP {name} [ALPHA] Duration in seconds for a probe response."
            yield f"# TYPE {name} histogram"
        for labels, counts in measured:
            about = _about(labels)
            for most, number in zip(BUCKETS, counts.buckets, strict=True):
                yield f'{name}_bucket{{{about},le="{most:g}"}} {number}'
            yield f'{name}_bucket{{{about},le="+Inf"}} {counts.successful}'
            yield f"{name}_sum{{{about}}} {counts.seconds:g}"
            yield f"{name}_count{{{about}}} {counts.successful}"

    def _totals(self) -> Iterator[str]:
        name = "prober_probe_total"
        if self._counts:
            kinds = "liveness, readiness or startup probe"
            yield f"# HELP {name} [BETA] Cumulative number of a {kinds} for a container by result."
            yield f"# TYPE {name} counter"
        for labels, counts in self._counts.items():
            for result, number in (("failed", counts.failed), ("successful", counts.successful)):
                if number:
                    yield f'{name}{{{_about(labels)},pod_uid="{labels.uid}",result="{result}"}} {number}'


def _about(labels: Labels) -> str:
    """The labels that both metrics have. Names in Kubernetes need no escaping."""
    names = f'container="{labels.container}",namespace="{labels.namespace}",pod="{labels.pod}"'
    return f'{names},probe_type="{labels.kind.capitalize()}"'
