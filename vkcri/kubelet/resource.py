"""/metrics/resource: a Summary's CPU, memory and swap as the kubelet's resource metrics, with samples' times. Pure.

Source: pkg/kubelet/metrics/collectors/resource_metrics.go. metrics-server and the horizontal autoscaler live on these.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from vkcri.api import times
from vkcri.api.exposition import Family, Kind, Sample, labels

_SECOND, _MILLISECOND = 1_000_000_000, 1_000_000  # in nanoseconds
Stats = Mapping[str, Any]  # NodeStats, PodStats or ContainerStats
_ABOUT: dict[str, tuple[Kind, str]] = {
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the container in core-seconds"),
    "container_memory_working_set_bytes": ("gauge", "Current working set of the container in bytes"),
    "container_start_time_seconds": ("gauge", "Start time of the container since unix epoch in seconds"),
    "container_swap_limit_bytes": (
        "gauge",
        "Current amount of the container swap limit in bytes. Reported only on non-windows systems",
    ),
    "container_swap_usage_bytes": (
        "gauge",
        "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
    ),
    "node_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the node in core-seconds"),
    "node_memory_working_set_bytes": ("gauge", "Current working set of the node in bytes"),
    "node_swap_usage_bytes": (
        "gauge",
        "Current swap usage of the node in bytes. Reported only on non-windows systems",
    ),
    "pod_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed by the pod in core-seconds"),
    "pod_memory_working_set_bytes": ("gauge", "Current working set of the pod in bytes"),
    "pod_swap_usage_bytes": (
        "gauge",
        "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
    ),
}
_ERRORS = {"resource_scrape_error": "1 if there was an error while getting container metrics, 0 otherwise"}


def families(summary: Mapping[str, Any] | None) -> list[Family]:
    """The page of a Summary whose times have nanoseconds; None: it could not be had."""
    found: dict[str, list[Sample]] = {name: [] for name in _ABOUT}
    if summary is not None:
        _add(found, "node", "", summary["node"])
        for pod in summary.get("pods") or ():
            _add_pod(found, pod)
    pages = [Family(name, *_ABOUT[name], samples) for name, samples in found.items()]
    failed = Sample(float(summary is None))
    return [*pages, *(Family(name, "gauge", about, [failed]) for name, about in _ERRORS.items())]


def _add_pod(found: dict[str, list[Sample]], pod: Stats) -> None:
    reference = pod["podRef"]
    where = {"namespace": reference["namespace"], "pod": reference["name"]}
    for container in pod.get("containers") or ():
        own = labels({"container": container["name"], **where})
        started = times.parse(container["startTime"]) / _SECOND
        if started > 0:
            found["container_start_time_seconds"].append(Sample(started, own))
        _add(found, "container", own, container)
        _add_swap_limit(found, own, container.get("swap") or {})
    _add(found, "pod", labels(where), pod)


def _add(found: dict[str, list[Sample]], what: str, own: str, stats: Stats) -> None:
    """CPU, memory and swap of one thing, as far as they are there."""
    for name, part, key, unit in (
        ("cpu_usage_seconds_total", "cpu", "usageCoreNanoSeconds", _SECOND),
        ("memory_working_set_bytes", "memory", "workingSetBytes", 1),
        ("swap_usage_bytes", "swap", "swapUsageBytes", 1),
    ):
        values = stats.get(part) or {}
        if key in values:
            found[f"{what}_{name}"].append(Sample(values[key] / unit, own, _millis(values)))


def _add_swap_limit(found: dict[str, list[Sample]], own: str, swap: Stats) -> None:
    if "swapAvailableBytes" in swap:
        limit = swap["swapAvailableBytes"] + swap.get("swapUsageBytes", 0)
        found["container_swap_limit_bytes"].append(Sample(limit, own, _millis(swap)))


def _millis(values: Stats) -> int:
    return times.parse(values["time"]) // _MILLISECOND


def volume_families(summary: Mapping[str, Any]) -> Iterable[Family]:
    """kubelet_volume_stats_* of volumes that stand for a claim, each claim once, and the size of containers' logs.

    Source: metrics/collectors/volume_stats.go and log_metrics.go."""
    claims: dict[str, Mapping[str, Any]] = {}
    logs = []
    for pod in summary.get("pods") or ():
        for volume in pod.get("volume") or ():
            if claim := volume.get("pvcRef"):
                own = labels({"namespace": claim["namespace"], "persistentvolumeclaim": claim["name"]})
                claims.setdefault(own, volume)
        reference = pod["podRef"]
        for container in pod.get("containers") or ():
            if "usedBytes" in (container.get("logs") or {}):
                names = {"uid": reference["uid"], "namespace": reference["namespace"], "pod": reference["name"]}
                own = labels({**names, "container": container["name"]})
                logs.append(Sample(container["logs"]["usedBytes"], own))
    for name, key, about in _VOLUMES:
        samples = [Sample(volume[key], own) for own, volume in claims.items()]
        yield Family(f"kubelet_volume_stats_{name}", "gauge", about, samples)
    about = "Bytes used by the container's logs on the filesystem."
    yield Family("kubelet_container_log_filesystem_used_bytes", "gauge", about, logs)


_VOLUMES = (
    ("capacity_bytes", "capacityBytes", "Capacity in bytes of the volume"),
    ("available_bytes", "availableBytes", "Number of available bytes in the volume"),
    ("used_bytes", "usedBytes", "Number of used bytes in the volume"),
    ("inodes", "inodes", "Maximum number of inodes in the volume"),
    ("inodes_free", "inodesFree", "Number of free inodes in the volume"),
    ("inodes_used", "inodesUsed", "Number of used inodes in the volume"),
)
