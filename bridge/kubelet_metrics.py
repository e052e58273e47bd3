"""The kubelet's own metrics of this node, under its names: what dashboards of a kubelet's /metrics look at.

Counted where the thing happens: runtime calls, relists, pods' steps and starts. Source: pkg/kubelet/metrics/metrics.go.
"""

import re
from collections.abc import Callable, Mapping

from bridge.metrics import Metrics
from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Listing

_STARTS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_OPERATIONS = tuple(0.005 * 2.5**power for power in range(14))
_WORD = re.compile(r"(?<!^)(?=[A-Z])")
_NAMES = {"update_container_resources": "update_container"}  # the kubelet's word, which is not the method's
_STATES: dict[int, str] = {
    api_pb2.CONTAINER_CREATED: "created",
    api_pb2.CONTAINER_RUNNING: "running",
    api_pb2.CONTAINER_EXITED: "exited",
    api_pb2.CONTAINER_UNKNOWN: "unknown",
}
CONTAINER_TYPES = {"container": "container", "init": "init_container", "ephemeral": "ephemeral_container"}


class KubeletMetrics:
    """What the bridge's parts count into. Thread-safe."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._runtime_calls = metrics.counter(
            "kubelet_runtime_operations_total",
            "Cumulative number of runtime operations by operation type.",
            "operation_type",
        )
        self._runtime_seconds = metrics.histogram(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            "operation_type",
            bounds=_OPERATIONS,
        )
        self._runtime_errors = metrics.counter(
            "kubelet_runtime_operations_errors_total",
            "Cumulative number of runtime operation errors by operation type.",
            "operation_type",
        )
        self._relists = metrics.histogram(
            "kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG."
        )
        self._relist_intervals = metrics.histogram(
            "kubelet_pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG."
        )
        self._last_relist: float | None = None
        self.pod_starts = metrics.histogram(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            bounds=_STARTS,
        )
        self.worker_starts = metrics.histogram(
            "kubelet_pod_worker_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod to starting a worker.",
        )
        self.steps = metrics.histogram(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod: one step of its worker, which waits for nothing.",
            "operation_type",
        )
        self.started_pods = metrics.counter("kubelet_started_pods_total", "Cumulative number of pods started")
        self.failed_pods = metrics.counter(
            "kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods"
        )
        self.started_containers = metrics.counter(
            "kubelet_started_containers_total", "Cumulative number of containers started", "container_type"
        )
        self.failed_containers = metrics.counter(
            "kubelet_started_containers_errors_total",
            "Cumulative number of errors when starting containers",
            "container_type",
            "code",
        )
        self.removed_images = metrics.counter(
            "kubelet_image_garbage_collected_total",
            "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
            "reason",
        )
        self.evictions = metrics.counter(
            "kubelet_evictions", "Cumulative number of pod evictions by eviction signal", "eviction_signal"
        )

    def runtime_call(self, method: str, seconds: float, failed: bool) -> None:
        """One CRI call. method: CRI's own name, such as RunPodSandbox."""
        operation = operation_type(method)
        self._runtime_calls.add(operation)
        self._runtime_seconds.observe(seconds, operation)
        if failed:
            self._runtime_errors.add(operation)

    def relisted(self, began: float, seconds: float) -> None:
        """One reading of the runtime that began then (any clock, always the same one)."""
        if self._last_relist is not None:
            self._relist_intervals.observe(began - self._last_relist)
        self._last_relist = began
        self._relists.observe(seconds)

    def describe_node(
        self,
        name: str,
        cgroup_version: int,
        listing: Callable[[], Listing],
        relisted: Callable[[], float | None],
        desired: Callable[[], Mapping[bool, int]],
    ) -> None:
        """The gauges. listing(): the runtime's last reading, relisted(): when that was, desired(): how many pods there
        are to be, by whether they are static."""
        metrics = self._metrics
        metrics.gauges(
            "kubelet_node_name", "The node's name. The count is always 1.", ("node",), lambda: {(name,): 1.0}
        )
        metrics.gauge("kubelet_cgroup_version", "cgroup version on the hosts.", lambda: float(cgroup_version))
        metrics.gauge(
            "kubelet_running_pods",
            "Number of pods that have a running pod sandbox",
            lambda: float(running_pods(listing())),
        )
        metrics.gauges(
            "kubelet_running_containers",
            "Number of containers currently running",
            ("container_state",),
            lambda: containers_by_state(listing()),
        )
        metrics.gauge(
            "kubelet_pleg_last_seen_seconds",
            "Timestamp in seconds when PLEG was last seen active.",
            lambda: relisted() or 0.0,
        )
        metrics.gauges(
            "kubelet_desired_pods",
            "The number of pods the kubelet is being instructed to run. static is true if the pod is not from the "
            "apiserver.",
            ("static",),
            lambda: {("true" if static else "",): float(count) for static, count in desired().items()},
        )


def operation_type(method: str) -> str:
    """The kubelet's word for a CRI method: RunPodSandbox is run_podsandbox."""
    found = _WORD.sub("_", method).lower().replace("pod_sandbox", "podsandbox")
    return _NAMES.get(found, found)


def running_pods(listing: Listing) -> int:
    """Pods that have a sandbox which is ready."""
    ready = api_pb2.SANDBOX_READY
    return sum(any(box.is_sandbox and box.state == ready for box in boxes) for boxes in listing.values())


def containers_by_state(listing: Listing) -> dict[tuple[str, ...], float]:
    """(state,) -> containers of ours in it."""
    found: dict[tuple[str, ...], float] = {}
    for boxes in listing.values():
        for box in boxes:
            if not box.is_sandbox:
                key = (_STATES.get(box.state, "unknown"),)
                found[key] = found.get(key, 0.0) + 1
    return found
