"""What the kubelet serves at /metrics/probes, by its names: prober_probe_total and prober_probe_duration_seconds.

Counted on the loop's thread, read on any. A pod's series go with its probes.
"""

from collections.abc import Mapping
from typing import Any

from vkcri.api import pods
from vkcri.metrics import Metrics


class ProbeMetrics:
    """started: when this process began, seconds since the epoch."""

    def __init__(self, started: float) -> None:
        self._metrics = Metrics()
        about = "Start time of the process since unix epoch in seconds."
        self._metrics.gauge("process_start_time_seconds", about, lambda: started)
        self._seconds = self._metrics.histogram(
            "prober_probe_duration_seconds",
            "Duration in seconds for a probe response.",
            *("container", "namespace", "pod", "probe_type"),
        )
        self._total = self._metrics.counter(
            "prober_probe_total",
            "Cumulative number of a liveness, readiness or startup probe for a container by result.",
            *("container", "namespace", "pod", "probe_type", "pod_uid", "result"),
        )

    def count(self, pod: Mapping[str, Any], container: str, kind: str, *, passed: bool, seconds: float) -> None:
        """One probe. kind: startup, liveness or readiness. As in the kubelet, only what passed has a duration."""
        about = (container, pods.namespace(pod), pods.name(pod), kind.capitalize())
        self._total.add(*about, pods.uid(pod), "successful" if passed else "failed")
        if passed:
            self._seconds.observe(seconds, *about)

    def forget(self, pod: Mapping[str, Any], *, replaced: bool = False) -> None:
        """It is not probed any more. replaced: another pod of its name is, whose durations have the same labels."""
        self._total.forget(lambda labels: labels[4] == pods.uid(pod))
        if not replaced:
            self._seconds.forget(lambda labels: labels[1:3] == (pods.namespace(pod), pods.name(pod)))

    def text(self) -> str:
        """Prometheus' text format."""
        return self._metrics.text()
