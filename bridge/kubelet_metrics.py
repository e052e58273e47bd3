"""The kubelet's own metrics of this node, under its names: what dashboards of a kubelet's /metrics look at.

Counted where the thing happens: runtime calls, relists, pods' steps and starts. Source: pkg/kubelet/metrics/metrics.go.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Listing
from bridge.startup import Started
from vkcri.errors import VkcriError
from vkcri.metrics import Metrics

_STARTS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_PULLS = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_STORAGE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
_MB, _GB = 1024**2, 1024**3
_SIZES = (
    (0, "0-10MB"),
    (10 * _MB, "10MB-100MB"),
    (100 * _MB, "100MB-500MB"),
    (500 * _MB, "500MB-1GB"),
    (_GB, "1GB-5GB"),
    (5 * _GB, "5GB-10GB"),
    (10 * _GB, "10GB-20GB"),
    (20 * _GB, "20GB-30GB"),
    (30 * _GB, "30GB-40GB"),
    (40 * _GB, "40GB-60GB"),
    (60 * _GB, "60GB-100GB"),
    (100 * _GB, "GT100GB"),
)
_MEASURED = (
    "measured from pod creation timestamp to when all its containers are reported as started and observed via watch"
)
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
_STATUSES = {
    "init_container": "initContainerStatuses",
    "container": "containerStatuses",
    "ephemeral_container": "ephemeralContainerStatuses",
}
"""Container type -> where a PodStatus has them."""


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
        self._sli_starts = metrics.histogram(
            "kubelet_pod_start_sli_duration_seconds",
            f"Duration in seconds to start a pod, excluding time to pull images and run init containers, {_MEASURED}",
            bounds=_STARTS,
        )
        self._total_starts = metrics.histogram(
            "kubelet_pod_start_total_duration_seconds",
            "Duration in seconds to start a pod since creation, including time to pull images and run init "
            f"containers, {_MEASURED}",
            bounds=_STARTS,
        )
        self._first_network_start: float | None = None
        metrics.gauges(
            "kubelet_first_network_pod_start_sli_duration_seconds",
            "Duration in seconds to start the first network pod, excluding time to pull images and run init "
            f"containers, {_MEASURED}",
            (),
            lambda: {} if self._first_network_start is None else {(): self._first_network_start},
        )
        self.containers_per_pod = metrics.histogram(
            "kubelet_containers_per_pod_count", "The number of containers per pod.", bounds=(1, 2, 4, 8, 16)
        )
        self.rejections = metrics.counter(
            "kubelet_admission_rejections_total",
            "Cumulative number pod admission rejections by the Kubelet.",
            "reason",
        )
        self.cgroup_seconds = metrics.histogram(
            "kubelet_cgroup_manager_duration_seconds",
            "Duration in seconds for cgroup manager operations. Broken down by method.",
            "operation_type",
        )
        self._sandbox_seconds = metrics.histogram(
            "kubelet_run_podsandbox_duration_seconds",
            "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
            "runtime_handler",
        )
        self._sandbox_errors = metrics.counter(
            "kubelet_run_podsandbox_errors_total",
            "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
            "runtime_handler",
        )
        self._pull_seconds = metrics.histogram(
            "kubelet_image_pull_duration_seconds",
            "Duration in seconds to pull an image.",
            "image_size_in_bytes",
            bounds=_PULLS,
        )
        self._storage_seconds = metrics.histogram(
            "storage_operation_duration_seconds",
            "Storage operation duration",
            *("migrated", "operation_name", "status", "volume_plugin"),
            bounds=_STORAGE,
        )
        self.started_pods = metrics.counter("kubelet_started_pods_total", "Cumulative number of pods started")
        self.failed_pods = metrics.counter(
            "kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods"
        )
        self.started_userns_pods = metrics.counter(
            "kubelet_started_user_namespaced_pods_total", "Cumulative number of pods with user namespaces started."
        )
        self.failed_userns_pods = metrics.counter(
            "kubelet_started_user_namespaced_pods_errors_total",
            "Cumulative number of errors when starting pods with user namespaces.",
        )
        self._terminated = metrics.counter(
            "kubelet_terminated_containers_total",
            "Cumulative number of container terminations.",
            *("container_type", "exit_code", "reason"),
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
        self.preemptions = metrics.counter(
            "kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", "preemption_signal"
        )

    def runtime_call(self, method: str, seconds: float, failed: bool) -> None:
        """One CRI call. method: CRI's own name, such as RunPodSandbox."""
        operation = operation_type(method)
        self._runtime_calls.add(operation)
        self._runtime_seconds.observe(seconds, operation)
        if failed:
            self._runtime_errors.add(operation)

    def pod_started(self, found: Started) -> None:
        """A pod's start is over, as the API server shows it."""
        self._total_starts.observe(found.total)
        if found.sli is not None:
            self._sli_starts.observe(found.sli)
            if self._first_network_start is None and not found.host_network:
                self._first_network_start = found.sli

    def reported(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A pod's status becomes another one: what is terminated in it and was not before has ended now."""
        for container_type, field in _STATUSES.items():
            held = {item.get("name"): item for item in before.get(field) or ()}
            for item in after.get(field) or ():
                end = (item.get("state") or {}).get("terminated")
                known = ((held.get(item.get("name")) or {}).get("state") or {}).get("terminated")
                if end is not None and known is None:
                    self._terminated.add(container_type, str(end.get("exitCode", 0)), str(end.get("reason") or ""))

    @contextmanager
    def running_sandbox(self, handler: str) -> Iterator[None]:
        """Around the start of a sandbox by that runtime handler; its failure counts as an error."""
        with self._sandbox_seconds.time(handler):
            try:
                yield
            except VkcriError:
                self._sandbox_errors.add(handler)
                raise

    def image_pulled(self, size: int, seconds: float) -> None:
        """One pull of an image of that many bytes."""
        label = next(label for least, label in reversed(_SIZES) if size >= least)
        self._pull_seconds.observe(seconds, label)

    def volume_mounted(self, plugin: str, seconds: float, failed: bool) -> None:
        """One set-up of a volume, or its renewal."""
        self._storage_seconds.observe(seconds, "false", "volume_mount", "fail-unknown" if failed else "success", plugin)

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
