"""The kubelet's Summary of a node and its pods, whole or of CPU and memory alone. Pure.

Source: pkg/kubelet/server/stats/summary.go and pkg/kubelet/stats. A pod is listed while one of its containers runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bridge.stats import shapes
from bridge.stats.disk import Filesystem, Taken
from bridge.stats.network import Traffic
from bridge.stats.shapes import Measured, Shape, stamp

BRIEF = ("cpu", "memory", "swap")
"""What only_cpu_and_memory leaves."""


@dataclass(frozen=True)
class ContainerUse:
    """A container that runs. `created` in nanoseconds since the epoch; `rootfs` is its writable layer on `layers`."""

    name: str
    created: int
    measured: Measured | None
    processes: int = 0
    layers: Filesystem | None = None
    rootfs: Taken | None = None
    logs: Taken | None = None


@dataclass(frozen=True)
class VolumeUse:
    """One volume. `local`: it counts as the pod's ephemeral storage; `claim`: the claim that it stands for."""

    name: str
    on: Filesystem
    taken: Taken
    local: bool
    claim: str = ""


@dataclass(frozen=True)
class PodUse:
    """A pod by its sandbox, `created` with it. `files`: what else it has on the node's disk (its log folder's own
    files, its hosts file)."""

    namespace: str
    name: str
    uid: str
    created: int
    containers: Sequence[ContainerUse]
    measured: Measured | None = None
    traffic: Traffic | None = None
    volumes: Sequence[VolumeUse] = ()
    files: Sequence[Taken | None] = ()


@dataclass(frozen=True)
class SystemUse:
    """A system container: pods, kubelet, runtime."""

    name: str
    started: int
    measured: Measured


@dataclass(frozen=True)
class NodeUse:
    """The node. `disk` is the file system that the kubelet's own files lie on, `images` the runtime's; limits are of
    processes (threads) on the whole machine; `hugepages` in bytes."""

    name: str
    booted: int
    measured: Measured
    traffic: Traffic | None = None
    disk: Filesystem | None = None
    images: Filesystem | None = None
    images_taken: Taken | None = None
    processes: int = 0
    processes_most: int = 0
    hugepages: int = 0
    systems: Sequence[SystemUse] = field(default_factory=tuple)


def summary(node: NodeUse, pods: Iterable[PodUse]) -> Shape:
    """The whole of it."""
    return {"node": _node(node), "pods": [_pod(pod, node.disk) for pod in pods]}


def ephemeral_storage(pod: PodUse) -> Taken | None:
    """What the pod takes of the node's disks: writable layers, logs, local volumes, its hosts file; None where nothing
    is known."""
    parts = [part for item in pod.containers for part in (item.rootfs, item.logs)]
    parts += [item.taken for item in pod.volumes if item.local]
    return shapes.sum_of([*parts, *pod.files])


def brief(node: NodeUse, pods: Iterable[PodUse]) -> Shape:
    """CPU and memory alone: what only_cpu_and_memory=true answers and /metrics/resource is made of."""
    return {
        "node": {
            "nodeName": node.name,
            "systemContainers": [_system(item, BRIEF) for item in node.systems],
            "startTime": stamp(node.booted),
            **_chosen(_measured_node(node), BRIEF),
        },
        "pods": [
            {
                "podRef": _reference(pod),
                "startTime": stamp(pod.created),
                "containers": [_brief_container(item) for item in pod.containers],
                **_chosen(_pod_resources(pod), BRIEF),
            }
            for pod in pods
        ],
    }


def _node(node: NodeUse) -> Shape:
    shape: Shape = {
        "nodeName": node.name,
        "systemContainers": [_system(item, (*BRIEF, "io")) for item in node.systems],
        "startTime": stamp(node.booted),
        **_chosen(_measured_node(node), ("cpu", "memory", "io")),
    }
    if node.traffic is not None:
        shape["network"] = shapes.traffic(node.traffic)
    if node.disk is not None:
        taken = Taken(node.disk.time, node.disk.used, node.disk.inodes - node.disk.inodes_free)
        shape["fs"] = shapes.fs(node.disk, taken)
    if node.images_taken is not None:
        images = shapes.fs(node.images, node.images_taken)
        shape["runtime"] = {"imageFs": images, "containerFs": dict(images)}
    shape["rlimit"] = {
        "time": stamp(node.measured.usage.time),
        "maxpid": node.processes_most,
        "curproc": node.processes,
    }
    shape["swap"] = shapes.swap(node.measured.usage)
    return shape


def _measured_node(node: NodeUse) -> Shape:
    """The root cgroup, whose available memory has no room for what huge pages took (HugepageAwareEviction)."""
    shape = shapes.resources(node.measured)
    if node.hugepages and "availableBytes" in shape["memory"]:
        shape["memory"]["availableBytes"] = max(0, shape["memory"]["availableBytes"] - node.hugepages)
    return shape


def _pod(pod: PodUse, disk: Filesystem | None) -> Shape:
    shape: Shape = {
        "podRef": _reference(pod),
        "startTime": stamp(pod.created),
        "containers": [_container(item, disk) for item in pod.containers],
        **_chosen(_pod_resources(pod), ("cpu", "memory", "io")),
    }
    if pod.traffic is not None:
        shape["network"] = shapes.traffic(pod.traffic)
    if pod.volumes:
        shape["volume"] = [_volume(item, pod.namespace) for item in pod.volumes]
    shape["ephemeral-storage"] = shapes.fs(disk, ephemeral_storage(pod))
    shape["process_stats"] = {"process_count": sum(item.processes for item in pod.containers)}
    return shape | _chosen(_pod_resources(pod), ("swap",))


def _container(item: ContainerUse, disk: Filesystem | None) -> Shape:
    measured = shapes.resources(item.measured) if item.measured is not None else {}
    shape = {"name": item.name, "startTime": stamp(item.created), **_chosen(measured, ("cpu", "memory", "io"))}
    if item.rootfs is not None:
        shape["rootfs"] = shapes.fs(item.layers, item.rootfs)
    if item.logs is not None:
        shape["logs"] = shapes.fs(disk, item.logs)
    return shape | _chosen(measured, ("swap",))


def _brief_container(item: ContainerUse) -> Shape:
    measured = shapes.resources(item.measured) if item.measured is not None else {}
    return {"name": item.name, "startTime": stamp(item.created), **_chosen(measured, BRIEF)}


def _system(item: SystemUse, wanted: Sequence[str]) -> Shape:
    return {
        "name": item.name,
        "startTime": stamp(item.started),
        **_chosen(shapes.resources(item.measured), wanted),
    }


def _volume(item: VolumeUse, namespace: str) -> Shape:
    shape = {**shapes.fs(item.on, item.taken), "name": item.name}
    if item.claim:
        shape["pvcRef"] = {"name": item.claim, "namespace": namespace}
    return shape


def _pod_resources(pod: PodUse) -> Shape:
    """The pod's own cgroup, else its containers together."""
    measured = pod.measured or shapes.together(item.measured for item in pod.containers if item.measured is not None)
    return shapes.resources(measured) if measured is not None else {}


def _reference(pod: PodUse) -> Shape:
    return {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid}


def _chosen(shape: Shape, wanted: Sequence[str]) -> Shape:
    return {name: shape[name] for name in wanted if name in shape}
