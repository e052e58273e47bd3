"""Which pod a node ends first that is short of something, and what it says of it. Pure.

Source: the rank functions and evictionMessage in pkg/kubelet/eviction/helpers.go: who takes more than it has asked for
comes first, then the lowest priority, then who takes the most beyond its request. A pod whose use is not known comes
before all.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from bridge.eviction.pressure import Observations
from bridge.eviction.thresholds import IMAGE_DISK, IMAGE_INODES, PID, RESOURCES, Threshold
from bridge.stats import shapes
from bridge.stats.disk import Taken
from bridge.stats.summary import ContainerUse, PodUse
from vkcri.api import pods, quantities, resources

Pod = Mapping[str, Any]
STARVED, OFFENDERS, OFFENDERS_USAGE = "starved_resource", "offending_containers", "offending_containers_usage"
OFFENDING_POD, OFFENDING_POD_USAGE = "offending_pod", "offending_pod_usage"
"""Annotations of the event."""


def rank(pod: Pod, use: PodUse | None, signal: str, *, images_apart: bool) -> tuple[Any, ...]:
    """What pods are sorted by; the least goes first. images_apart: images and writable layers have a file system of
    their own, so that only its signals look at layers, and only the others at logs and volumes."""
    priority = int(pods.spec(pod).get("priority") or 0)
    resource = RESOURCES[signal]
    if use is None:
        return (False, priority, 0) if signal == PID else (False, False, priority, 0)
    if signal == PID:
        return True, priority, -sum(item.processes for item in use.containers)
    if resource == "memory":
        taken, asked = _memory(use), _request(pod, "memory")
        return True, taken <= asked, priority, asked - taken
    taken = _disk(use, signal, images_apart)
    # whoever takes inodes is measured by its request of bytes, as with the kubelet: it has no other
    return True, taken <= _request(pod, resource), priority, _request(pod, "ephemeral-storage") - taken


def message(
    pod: Pod, use: PodUse | None, resource: str, due: Iterable[Threshold], seen: Observations
) -> tuple[str, dict[str, str]]:
    """The status' message and the event's annotations."""
    text = f"The node was low on resource: {resource}. "
    for threshold in due:
        if RESOURCES[threshold.signal] == resource and threshold.signal in seen:
            left = seen[threshold.signal]
            text += f"Threshold quantity: {threshold.least.printed(left.capacity)}, available: {left.printed}. "
            break
    if use is None:
        return text, {}
    notes: dict[str, str] = {}
    level = ((pods.spec(pod).get("resources") or {}).get("requests") or {}).get(resource)
    if resource == "memory" and level is not None:
        taken = quantities.format(_memory(use), binary=True)
        text += _larger("Pod", pods.name(pod), taken, quantities.canonical(level), resource)
        notes = {OFFENDING_POD: pods.name(pod), OFFENDING_POD_USAGE: taken}
    offenders = {}
    for item in use.containers:
        found = pods.container(pod, item.name)
        taken_by = _container(item, resource)
        if found is None or found[0] == "ephemeral" or taken_by is None:
            continue
        request = str(((found[1].get("resources") or {}).get("requests") or {}).get(resource, "0"))
        if taken_by > quantities.parse(request):
            offenders[item.name] = quantities.format(taken_by, binary=True)
            text += _larger("Container", item.name, offenders[item.name], quantities.canonical(request), resource)
    notes |= {OFFENDERS: ",".join(offenders), OFFENDERS_USAGE: ",".join(offenders.values()), STARVED: resource}
    return text, notes


def _larger(kind: str, name: str, taken: str, request: str, resource: str) -> str:
    return f"{kind} {name} was using {taken}, request is {request}, has larger consumption of {resource}. "


def _request(pod: Pod, name: str) -> Fraction:
    return resources.pod_requests(pod).get(name, Fraction(0))


def _memory(use: PodUse) -> int:
    measured = use.measured or shapes.together(item.measured for item in use.containers if item.measured is not None)
    return measured.usage.memory.working_set if measured is not None else 0


def _disk(use: PodUse, signal: str, images_apart: bool) -> int:
    """Bytes or inodes on the file system that the signal is of."""
    parts: list[Taken | None] = []
    of_images = signal in (IMAGE_DISK, IMAGE_INODES)
    if not images_apart or of_images:
        parts += [item.rootfs for item in use.containers]
    if not images_apart or not of_images:
        parts += [item.logs for item in use.containers]
        parts += [item.taken for item in use.volumes if item.local]
    total = shapes.sum_of(parts)
    if total is None:
        return 0
    return total.inodes if RESOURCES[signal] == "inodes" else total.bytes


def _container(item: ContainerUse, resource: str) -> int | None:
    """None for what is not measured of a container."""
    if resource == "memory":
        return item.measured.usage.memory.working_set if item.measured is not None else None
    if resource == "ephemeral-storage" and item.rootfs is not None and item.logs is not None:
        return item.rootfs.bytes + item.logs.bytes
    return None
