"""How long a pod took to start, as Kubernetes' indicator of pod startup has it: from its creation until the API server
shows all its containers started, without the pulls of images and the run of init containers. Pure.

Source: pkg/kubelet/util/pod_startup_latency_tracker.go. Fed by one pod's worker and by the pulls for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vkcri.api import pods, times

Pod = Mapping[str, Any]
_STATELESS = frozenset(("secret", "configMap", "downwardAPI", "emptyDir", "projected"))


@dataclass(frozen=True)
class Started:
    """Seconds since the creation; `sli` without pulls and init containers, None for a pod that does not count: one with
    a volume which outlives it."""

    total: float
    sli: float | None
    host_network: bool


class Startup:
    """One pod's start. A pod that had begun before it was first seen here, or that had no place at first, has none; nor
    has one that CRI alone still knows, whose creation nobody can tell."""

    def __init__(self, pod: Pod) -> None:
        status = pods.status(pod)
        created = pod["metadata"].get("creationTimestamp")
        self._awaited = bool(created) and not status.get("startTime") and not _unschedulable(status)
        self._pulls: list[tuple[float, float]] = []

    def pulled(self, began: float, ended: float) -> None:
        """An image was pulled for it in that time, seconds since the epoch. Of no use once its start is over."""
        if self._awaited:
            self._pulls.append((began, ended))

    def seen(self, pod: Pod, now: float) -> Started | None:
        """The API server shows the pod like this now. Once, when all its containers have started: how long it took."""
        status = pods.status(pod)
        if not self._awaited:
            return None
        if pods.is_terminal(status) or _unschedulable(status):
            self._end()
            return None
        if not _all_started(pod):
            return None
        pulls = self._end()
        total = now - times.to_epoch(pod["metadata"]["creationTimestamp"])
        counts = all(_STATELESS & set(volume) for volume in pods.spec(pod).get("volumes") or ())
        sli = total - together(pulls) - _init_seconds(status) if counts else None
        return Started(total, sli, pods.host_network(pod))

    def _end(self) -> Sequence[tuple[float, float]]:
        """Nothing is awaited any more; the pulls until now."""
        self._awaited = False
        pulls, self._pulls = self._pulls, []
        return pulls


def together(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds that are in any of these times."""
    seconds, until = 0.0, float("-inf")
    for began, ended in sorted(spans):
        seconds += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return seconds


def _all_started(pod: Pod) -> bool:
    statuses = pods.status(pod).get("containerStatuses") or ()
    running = [item for item in statuses if ((item.get("state") or {}).get("running") or {}).get("startedAt")]
    return len(running) == len(pods.spec(pod).get("containers") or ())


def _init_seconds(status: Mapping[str, Any]) -> float:
    ends = [(item.get("state") or {}).get("terminated") or {} for item in status.get("initContainerStatuses") or ()]
    spans = [(end["startedAt"], end["finishedAt"]) for end in ends if end.get("startedAt") and end.get("finishedAt")]
    return sum(times.to_epoch(ended) - times.to_epoch(began) for began, ended in spans)


def _unschedulable(status: Mapping[str, Any]) -> bool:
    return any(
        item.get("type") == "PodScheduled" and item.get("status") == "False" for item in status.get("conditions") or ()
    )
