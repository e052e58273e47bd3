"""What runs now, from CRI's lists, and what CRI alone knows of it: writable layers, and the use of a container whose
cgroup cannot be read here.

Source: criStatsProvider (removeTerminatedPods, removeTerminatedContainers): of a pod's sandboxes the ready ones, else
the newest; only containers that run.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.spec import names
from bridge.stats.disk import Taken
from bridge.stats.usage import Memory, Usage
from vkcri.errors import Unavailable, VkcriError

_A = TypeVar("_A")


@dataclass(frozen=True)
class Running:
    """A container that runs. `created` in nanoseconds since the epoch."""

    id: str
    name: str
    image: str
    created: int


@dataclass(frozen=True)
class Box:
    """A sandbox with the containers that run in it."""

    id: str
    namespace: str
    pod: str
    uid: str
    created: int
    ready: bool
    containers: tuple[Running, ...]


class Stock:
    """The RPCs that taking stock needs, for one answer: all of them together have these seconds. Raises Unavailable,
    whatever the runtime's error was: one may answer to a list that something in it is not found, which was removed
    meanwhile (containerd does, to ListContainerStats)."""

    def __init__(self, runtime: Runtime, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._clock = clock
        self._until = clock() + seconds

    def sandboxes(self, request: cri.ListPodSandboxRequest) -> cri.ListPodSandboxResponse:
        return self._ask(lambda left: self._runtime.list_pod_sandbox(request, seconds=left))

    def containers(self, request: cri.ListContainersRequest) -> cri.ListContainersResponse:
        return self._ask(lambda left: self._runtime.list_containers(request, seconds=left))

    def stats(self, request: cri.ListContainerStatsRequest) -> cri.ListContainerStatsResponse:
        return self._ask(lambda left: self._runtime.list_container_stats(request, seconds=left))

    def images(self) -> cri.ImageFsInfoResponse:
        return self._ask(lambda left: self._runtime.image_fs_info(cri.ImageFsInfoRequest(), seconds=left))

    def _ask(self, call: Callable[[float], _A]) -> _A:
        left = self._until - self._clock()
        if left <= 0:
            raise Unavailable("the runtime has taken all the time that the request had")
        try:
            return call(left)
        except Unavailable:
            raise
        except VkcriError as error:
            raise Unavailable(str(error)) from error


def boxes(stock: Stock, cri_label: str) -> list[Box]:
    """Our sandboxes that count, by namespace and name. Raises Unavailable."""
    ours = {names.INSTANCE: cri_label}
    listed = stock.sandboxes(cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(label_selector=ours)))
    running = cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)
    chosen = cri.ContainerFilter(label_selector=ours, state=running)
    containers: dict[str, list[Running]] = {}
    for item in stock.containers(cri.ListContainersRequest(filter=chosen)).containers:
        name = item.labels.get(names.CONTAINER_NAME) or item.metadata.name
        found = Running(item.id, name, item.image.image, item.created_at)
        containers.setdefault(item.pod_sandbox_id, []).append(found)
    made = [_box(item, containers.get(item.id, ())) for item in _counted(listed.items)]
    return sorted(made, key=lambda box: (box.namespace, box.pod, box.created))


def container_stats(stock: Stock, cri_label: str) -> dict[str, cri.ContainerStats]:
    """CRI's stats of our containers by id. Raises Unavailable."""
    chosen = cri.ContainerStatsFilter(label_selector={names.INSTANCE: cri_label})
    answer = stock.stats(cri.ListContainerStatsRequest(filter=chosen))
    return {item.attributes.id: item for item in answer.stats}


def layer(stats: cri.ContainerStats) -> tuple[str, Taken] | None:
    """(mount point, what is taken) of the writable layer; None where the runtime says nothing of it."""
    found = stats.writable_layer
    if not found.timestamp:
        return None
    return found.fs_id.mountpoint, Taken(found.timestamp, found.used_bytes.value, found.inodes_used.value)


def usage(stats: cri.ContainerStats) -> Usage | None:
    """A sample as CRI gives it; None without one."""
    if not stats.cpu.timestamp or not stats.memory.timestamp:
        return None
    memory, working_set = stats.memory, stats.memory.working_set_bytes.value
    limited = memory.HasField("available_bytes") and memory.available_bytes.value
    found = Memory(
        usage=memory.usage_bytes.value,
        working_set=working_set,
        rss=memory.rss_bytes.value,
        swap=stats.swap.swap_usage_bytes.value,
        page_faults=memory.page_faults.value,
        major_page_faults=memory.major_page_faults.value,
        limit=memory.available_bytes.value + working_set if limited else None,
    )
    return Usage(stats.cpu.timestamp, stats.cpu.usage_core_nano_seconds.value, found)


def _counted(sandboxes: Iterable[cri.PodSandbox]) -> list[cri.PodSandbox]:
    pods: dict[tuple[str, str], list[cri.PodSandbox]] = {}
    for item in sorted(sandboxes, key=lambda item: item.created_at):
        pods.setdefault((item.metadata.namespace, item.metadata.name), []).append(item)
    found = []
    for items in pods.values():
        ready = [item for item in items if item.state == cri.SANDBOX_READY]
        found += ready or items[-1:]
    return found


def _box(item: cri.PodSandbox, containers: Sequence[Running]) -> Box:
    return Box(
        id=item.id,
        namespace=item.metadata.namespace,
        pod=item.metadata.name,
        uid=item.metadata.uid,
        created=item.created_at,
        ready=item.state == cri.SANDBOX_READY,
        containers=tuple(sorted(containers, key=lambda found: found.created)),
    )
