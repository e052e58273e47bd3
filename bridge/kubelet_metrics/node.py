"""The node as a whole: what it has, what runs there and ends, how its workers do, and whom it refuses or evicts."""

from collections.abc import Callable, Mapping
from typing import Any

from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Listing
from vkcri.metrics import Metrics

_STATES: dict[int, str] = {
    api_pb2.CONTAINER_CREATED: "created",
    api_pb2.CONTAINER_RUNNING: "running",
    api_pb2.CONTAINER_EXITED: "exited",
    api_pb2.CONTAINER_UNKNOWN: "unknown",
}
_STATUSES = {
    "init_container": "initContainerStatuses",
    "container": "containerStatuses",
    "ephemeral_container": "ephemeralContainerStatuses",
}
"""Container type -> where a PodStatus has them."""


class NodeMetrics:
    """Thread-safe. Counted into directly: `steps` of workers by operation, `containers_per_pod`, `rejections` by
    reason, `evictions` and `preemptions` by signal."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.steps = metrics.histogram(
            "kubelet_pod_worker_duration_seconds",
            "Duration in seconds to sync a single pod: one step of its worker, which waits for nothing.",
            "operation_type",
        )
        self.containers_per_pod = metrics.histogram(
            "kubelet_containers_per_pod_count", "The number of containers per pod.", bounds=(1, 2, 4, 8, 16)
        )
        self.rejections = metrics.counter(
            "kubelet_admission_rejections_total",
            "Cumulative number pod admission rejections by the Kubelet.",
            "reason",
        )
        self.evictions = metrics.counter(
            "kubelet_evictions", "Cumulative number of pod evictions by eviction signal", "eviction_signal"
        )
        self.preemptions = metrics.counter(
            "kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", "preemption_signal"
        )
        self._terminated = metrics.counter(
            "kubelet_terminated_containers_total",
            "Cumulative number of container terminations.",
            *("container_type", "exit_code", "reason"),
        )

    def reported(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """A pod's status becomes another one: what is terminated in it and was not before has ended now."""
        for container_type, field in _STATUSES.items():
            held = {item.get("name"): item for item in before.get(field) or ()}
            for item in after.get(field) or ():
                end = (item.get("state") or {}).get("terminated")
                known = ((held.get(item.get("name")) or {}).get("state") or {}).get("terminated")
                if end is not None and known is None:
                    self._terminated.add(container_type, str(end.get("exitCode", 0)), str(end.get("reason") or ""))

    def describe(
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
