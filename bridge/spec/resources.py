"""Requests and limits as CRI's LinuxContainerResources: shares, quota, memory, huge pages, oom_score_adj. Pure.

The arithmetic is the kubelet's (cm/helpers_linux.go, qos/policy.go), on cgroup v1's scale; runc converts for v2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec.context import CgroupFacts, PodContext
from vkcri.api import pods, quantities, resources

MIN_SHARES = 2
MAX_SHARES = 262144
PERIOD = 100_000  # microseconds
MIN_QUOTA = 1000
GUARANTEED_SCORE = -997
BEST_EFFORT_SCORE = 1000
_HUGE = "hugepages-"
_ZERO = Fraction(0)


@dataclass(frozen=True)
class Sizes:
    """What a cgroup is held to that can change in place: CPU shares, microseconds of CPU in each PERIOD, bytes of
    memory. None: not held to anything."""

    shares: int
    quota: int | None = None
    memory: int | None = None


def shares(amount: Fraction) -> int:
    """CPU shares of a request in CPUs; no request is the kernel's least."""
    return min(max(int(_millis(amount) * 1024 // 1000), MIN_SHARES), MAX_SHARES)


def quota(amount: Fraction) -> int:
    """Microseconds of CPU in each PERIOD; 0: unlimited."""
    return max(_millis(amount) * PERIOD // 1000, MIN_QUOTA) if amount else 0


def container_resources(pod: pods.Pod, container: dict[str, Any], ctx: PodContext) -> api_pb2.LinuxContainerResources:
    """For CreateContainer and UpdateContainerResources. A limit that the container lacks is the pod's, where it has
    one."""
    limits = resources.container_amounts(container, "limits")
    request, cpu_limit, memory = _amounts(pod, container)
    formed = _formed(request, cpu_limit, memory)
    formed.oom_score_adj = oom_score_adj(pod, container, quantities.value(ctx.capacity.get("memory", "0")))
    level = resources.pod_limits({"metadata": {}, "spec": _level_only(pod)})
    for size, limit in hugepage_limits({**level, **limits}, ctx.cgroups).items():
        formed.hugepage_limits.add(page_size=size, limit=limit)
    _set_cgroup_extras(formed, ctx.cgroups)
    return formed


def container_sizes(pod: pods.Pod, container: Mapping[str, Any]) -> Sizes:
    """What `container_resources` holds the container to."""
    request, cpu_limit, memory = _amounts(pod, container)
    return Sizes(shares(request), quota(cpu_limit) or None, _ceil(memory) or None)


def pod_sizes(pod: pods.Pod) -> Sizes:
    """What the pod's cgroup is held to: limits only where the whole pod is limited (ResourceConfigForPod)."""
    qos = pods.qos_class(pod)
    if qos == "BestEffort":
        return Sizes(MIN_SHARES)
    requests, limits = resources.pod_requests(pod), resources.pod_limits(pod)
    limited = {name: qos == "Guaranteed" or resources.limits_declared(pod, name) for name in ("cpu", "memory")}
    cpu = quota(limits.get("cpu", _ZERO)) if limited["cpu"] else 0
    memory = _ceil(limits.get("memory", _ZERO)) if limited["memory"] else 0
    return Sizes(shares(requests.get("cpu", _ZERO)), cpu or None, memory or None)


def _amounts(pod: pods.Pod, container: Mapping[str, Any]) -> tuple[Fraction, Fraction, Fraction]:
    """(CPU requested, CPU limit, memory limit) of a container; 0: none. A limit that it lacks is the pod's."""
    limits = resources.container_amounts(container, "limits")
    level = resources.pod_limits({"metadata": {}, "spec": _level_only(pod)})
    cpu_limit = limits.get("cpu") or level.get("cpu", _ZERO)
    requested = (container.get("resources") or {}).get("requests") or {}
    request = quantities.parse(requested["cpu"]) if "cpu" in requested else cpu_limit
    return request, cpu_limit, limits.get("memory") or level.get("memory", _ZERO)


def measured(pod: pods.Pod, container: Mapping[str, Any]) -> dict[str, list[str]]:
    """What a container is made with, by resource: [request, limit], with the pod's limit for one that it lacks."""
    requests = resources.container_amounts(container, "requests")
    _, cpu, memory = _amounts(pod, container)
    limits = {"cpu": cpu, "memory": memory}
    return {name: [quantities.format(requests.get(name, _ZERO)), quantities.format(limits[name])] for name in limits}


def millis_of_shares(amount: int) -> int:
    """Thousandths of a CPU for shares (SharesToMilliCPU)."""
    return -(-amount * 1000 // 1024)


def millis_of_quota(amount: int) -> int:
    """Thousandths of a CPU for microseconds in each PERIOD (QuotaToMilliCPU)."""
    return amount * 1000 // PERIOD


def sandbox_resources(pod: pods.Pod) -> api_pb2.LinuxContainerResources:
    """The pod's sums without its overhead, which CRI passes on to runtimes that size a virtual machine by them."""
    limits = resources.pod_limits(pod, overhead=False)
    requests = resources.pod_requests(pod, overhead=False)
    cpu_limit = limits.get("cpu", _ZERO)
    return _formed(requests.get("cpu", cpu_limit), cpu_limit, limits.get("memory", _ZERO))


def overhead_resources(pod: pods.Pod) -> api_pb2.LinuxContainerResources:
    overhead = pods.spec(pod).get("overhead")
    if not overhead:
        return api_pb2.LinuxContainerResources()
    cpu = quantities.parse(overhead.get("cpu", "0"))
    return _formed(cpu, cpu, quantities.parse(overhead.get("memory", "0")))


def hugepage_limits(limits: resources.Amounts, cgroups: CgroupFacts) -> dict[str, int]:
    """Bytes by page size ("2MB"), for every size that the guest has: 0 where nothing asks for any."""
    found = dict.fromkeys(cgroups.hugepages, 0)
    for name, amount in limits.items():
        if name.startswith(_HUGE):
            size = page_size(quantities.value(name.removeprefix(_HUGE)))
            if size in found:
                found[size] += int(amount)
    return found


def page_size(size: int) -> str:
    """Bytes as the kernel and CRI name a huge page size: 2MB, 1GB, 64KB."""
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def oom_score_adj(pod: pods.Pod, container: dict[str, Any], capacity: int) -> int:
    """By QoS class; between 3 and 999 for burstable containers, lower the more memory they request of the node's
    `capacity` bytes. A sidecar is never killed before the smallest regular container."""
    if pods.spec(pod).get("priorityClassName") == "system-node-critical":
        return GUARANTEED_SCORE
    qos = pods.qos_class(pod)
    if qos == "Guaranteed":
        return GUARANTEED_SCORE
    if qos == "BestEffort" or capacity <= 0:
        return BEST_EFFORT_SCORE if qos == "BestEffort" else BEST_EFFORT_SCORE - 1
    spare = _spare_per_container(pod)
    request = _memory_request(container) + spare
    if container in (pods.spec(pod).get("initContainers") or []) and pods.is_sidecar(container):
        request = max(request, min(map(_memory_request, pods.spec(pod).get("containers") or [{}])) + spare)
    return min(max(1000 - 1000 * request // capacity, 1000 + GUARANTEED_SCORE), BEST_EFFORT_SCORE - 1)


def _spare_per_container(pod: pods.Pod) -> int:
    """The pod-level memory request that no container claims, shared out evenly."""
    if not resources.has_pod_level(pod, "requests"):
        return 0
    counted = [
        item
        for kind, item in pods.all_containers(pod)
        if kind == "container" or (kind == "init" and pods.is_sidecar(item))
    ]
    level = resources.pod_requests({"metadata": {}, "spec": _level_only(pod)}).get("memory", _ZERO)
    left = int(level) - sum(_memory_request(item) for item in counted)
    return max(left, 0) // max(len(counted), 1)


def _memory_request(container: dict[str, Any]) -> int:
    return int(resources.container_amounts(container, "requests").get("memory", _ZERO))


def _level_only(pod: pods.Pod) -> dict[str, Any]:
    return {"resources": pods.spec(pod).get("resources") or {}}


def _formed(request: Fraction, limit: Fraction, memory: Fraction) -> api_pb2.LinuxContainerResources:
    formed = api_pb2.LinuxContainerResources(cpu_shares=shares(request), cpu_period=PERIOD, cpu_quota=quota(limit))
    formed.memory_limit_in_bytes = _ceil(memory)
    return formed


def _set_cgroup_extras(formed: api_pb2.LinuxContainerResources, cgroups: CgroupFacts) -> None:
    """No swap for containers, as a kubelet without LimitedSwap; on v2, the whole container dies of an OOM at once."""
    if cgroups.version == 2:
        formed.unified["memory.oom.group"] = "1"
        if cgroups.swap:
            formed.unified["memory.swap.max"] = "0"
    elif cgroups.swap:
        formed.memory_swap_limit_in_bytes = formed.memory_limit_in_bytes


def _millis(amount: Fraction) -> int:
    return _ceil(amount * 1000)


def _ceil(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)
