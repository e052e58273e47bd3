"""What the node has granted a pod of its resources, which lags behind what the pod asks for while a resize is pending.

Pure; the kubelet's allocation manager. Only cpu and memory of containers, of init containers and of the pod itself can
be resized. Nothing is stored: after a restart the allocation is read back from the pod's status, whose
allocatedResources are the granted requests and whose resources are what containers run with. A resize of limits that
was being carried out when the process ended, with a newer one pending, is thereby taken to be as far as it had come.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from vkcri.api import pods, quantities, resources, times

Pod = Mapping[str, Any]
Resources = Mapping[str, Any]
PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"
DEFERRED = "Deferred"
_RESIZABLE = ("cpu", "memory")
_PARTS = ("requests", "limits")
_LISTS = {"containers": "containerStatuses", "initContainers": "initContainerStatuses"}


@dataclass(frozen=True)
class Allocation:
    """Resources (requests and limits) by container name, and the pod's own."""

    containers: Mapping[str, Resources] = field(default_factory=dict)
    pod: Resources = field(default_factory=dict)


def allocation_of(pod: Pod) -> Allocation:
    """All that the pod asks for."""
    found = {item["name"]: _plain(item.get("resources")) for item in _containers(pod)}
    return Allocation(found, _plain(pods.spec(pod).get("resources")))


def applied(pod: Pod, allocation: Allocation) -> Pod:
    """The pod as the node grants it; the pod itself where it has all that it asks for."""
    if allocation == allocation_of(pod):
        return pod
    spec = dict(pods.spec(pod))
    for kind in _LISTS:
        if spec.get(kind):
            spec[kind] = [
                {**item, "resources": allocation.containers.get(item["name"], item.get("resources") or {})}
                for item in spec[kind]
            ]
    if allocation.pod or spec.get("resources"):
        spec["resources"] = allocation.pod
    return {**pod, "spec": spec}


def remembered(pod: Pod, status: Mapping[str, Any]) -> Allocation:
    """What had been granted when that status was written."""
    asked = allocation_of(pod)
    known = {item.get("type"): item for item in status.get("conditions") or []}
    generation = pod["metadata"].get("generation")
    if IN_PROGRESS in known and PENDING not in known and known[IN_PROGRESS].get("observedGeneration") == generation:
        return asked
    told = {item.get("name"): item for name in _LISTS.values() for item in status.get(name) or []}
    containers = {name: _granted(wanted, told.get(name) or {}) for name, wanted in asked.containers.items()}
    return Allocation(containers, _granted_to_pod(pod, asked.pod, status))


def increases(pod: Pod, allocation: Allocation) -> bool:
    """Whether the pod asks for larger requests than it was granted."""
    asked, granted = resources.pod_requests(pod), resources.pod_requests(applied(pod, allocation))
    return any(asked.get(name, 0) > granted.get(name, 0) for name in _RESIZABLE)


def order(pod: Pod, allocation: Allocation, since: str) -> tuple[bool, int, bool, int]:
    """By what pending resizes are looked at: those that ask for no more, then by priority, the guaranteed ones first,
    the longest waiting. since: when it was first deferred, RFC 3339, "" for a new one."""
    waiting = times.parse(since) if since else 2**63
    priority = int(pods.spec(pod).get("priority") or 0)
    return increases(pod, allocation), -priority, pods.qos_class(pod) != "Guaranteed", waiting


def _containers(pod: Pod) -> list[Mapping[str, Any]]:
    return [item for kind in _LISTS for item in pods.spec(pod).get(kind) or []]


def _plain(given: Resources | None) -> dict[str, Any]:
    """Without empty parts, so that equal resources are equal values."""
    return {part: dict(amounts) for part, amounts in (given or {}).items() if part in _PARTS and amounts}


def _granted(asked: Resources, told: Mapping[str, Any]) -> dict[str, Any]:
    """One container's, by its status; what it asks for where its status says nothing."""
    has = told.get("resources")
    if has is None:
        return dict(asked)
    requests = told.get("allocatedResources") or has.get("requests") or {}
    return _joined(asked, {"requests": requests, "limits": has.get("limits") or {}})


def _granted_to_pod(pod: Pod, asked: Resources, status: Mapping[str, Any]) -> dict[str, Any]:
    """The pod's own, whose status has the overhead in it."""
    has, requests = status.get("resources"), status.get("allocatedResources")
    if not asked or has is None or requests is None:
        return dict(asked)
    overhead = {name: quantities.parse(text) for name, text in (pods.spec(pod).get("overhead") or {}).items()}
    told = {"requests": requests, "limits": has.get("limits") or {}}
    net = {part: {name: _less(text, overhead.get(name)) for name, text in told[part].items()} for part in _PARTS}
    listed = {part: {name: text for name, text in net[part].items() if name in asked.get(part, {})} for part in _PARTS}
    return _joined(asked, listed)


def _less(text: Any, overhead: Fraction | None) -> Any:
    return quantities.format(quantities.parse(text) - overhead, binary=True) if overhead else text


def _joined(asked: Resources, granted: Resources) -> dict[str, Any]:
    """The granted cpu and memory among everything else that is asked for, in the pod's own words where they agree."""
    found: dict[str, Any] = {}
    for part in _PARTS:
        wanted = asked.get(part) or {}
        amounts = {name: text for name, text in wanted.items() if name not in _RESIZABLE}
        for name in _RESIZABLE:
            if name in granted[part]:
                text = granted[part][name]
                same = name in wanted and quantities.parse(wanted[name]) == quantities.parse(text)
                amounts[name] = wanted[name] if same else text
        if amounts:
            found[part] = amounts
    return found
