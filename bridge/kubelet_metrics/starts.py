"""Starts of pods and containers: how many, how many failed, and how long a pod's took by the node's and by the API
server's clock."""

from bridge.startup import Started
from vkcri.metrics import Metrics

_STARTS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_MEASURED = (
    "measured from pod creation timestamp to when all its containers are reported as started and observed via watch"
)
CONTAINER_TYPES = {"container": "container", "init": "init_container", "ephemeral": "ephemeral_container"}


class StartMetrics:
    """Thread-safe. Counted into directly: `seconds` and `worker_seconds` of a pod; `pods`, `failed_pods` and of those
    with users of their own `userns_pods`, `failed_userns_pods`; `containers` by type, `failed_containers` by type and
    reason."""

    def __init__(self, metrics: Metrics) -> None:
        self.seconds = metrics.histogram(
            "kubelet_pod_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
            bounds=_STARTS,
        )
        self.worker_seconds = metrics.histogram(
            "kubelet_pod_worker_start_duration_seconds",
            "Duration in seconds from kubelet seeing a pod to starting a worker.",
        )
        self._sli = metrics.histogram(
            "kubelet_pod_start_sli_duration_seconds",
            f"Duration in seconds to start a pod, excluding time to pull images and run init containers, {_MEASURED}",
            bounds=_STARTS,
        )
        self._total = metrics.histogram(
            "kubelet_pod_start_total_duration_seconds",
            "Duration in seconds to start a pod since creation, including time to pull images and run init "
            f"containers, {_MEASURED}",
            bounds=_STARTS,
        )
        self._first_network: float | None = None
        metrics.gauges(
            "kubelet_first_network_pod_start_sli_duration_seconds",
            "Duration in seconds to start the first network pod, excluding time to pull images and run init "
            f"containers, {_MEASURED}",
            (),
            lambda: {} if self._first_network is None else {(): self._first_network},
        )
        self.pods = metrics.counter("kubelet_started_pods_total", "Cumulative number of pods started")
        self.failed_pods = metrics.counter(
            "kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods"
        )
        self.userns_pods = metrics.counter(
            "kubelet_started_user_namespaced_pods_total", "Cumulative number of pods with user namespaces started."
        )
        self.failed_userns_pods = metrics.counter(
            "kubelet_started_user_namespaced_pods_errors_total",
            "Cumulative number of errors when starting pods with user namespaces.",
        )
        self.containers = metrics.counter(
            "kubelet_started_containers_total", "Cumulative number of containers started", "container_type"
        )
        self.failed_containers = metrics.counter(
            "kubelet_started_containers_errors_total",
            "Cumulative number of errors when starting containers",
            "container_type",
            "code",
        )

    def pod_started(self, found: Started) -> None:
        """A pod's start is over, as the API server shows it."""
        self._total.observe(found.total)
        if found.sli is not None:
            self._sli.observe(found.sli)
            if self._first_network is None and not found.host_network:
                self._first_network = found.sli
