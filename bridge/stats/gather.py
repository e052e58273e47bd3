"""What runs, joined with what was measured of it: the parts that Summary and cAdvisor's page are made of.

Called for a request, by one thread at a time for each page, and by the threads `eviction` and `image-gc`. It asks CRI
what runs (and, for the whole Summary, for what only CRI knows), takes samples as they are, and reads what is cheap to
read: logs' sizes, traffic, process numbers.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge import host
from bridge.cgroups import Cgroups
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.stats import disk, inventory, reading
from bridge.stats.cadvisor import CgroupUse, Machine
from bridge.stats.disk import Filesystem, Taken
from bridge.stats.inventory import Box, Running, Stock
from bridge.stats.reading import ROOT, CgroupReader
from bridge.stats.samples import Samples
from bridge.stats.shapes import Measured
from bridge.stats.summary import ContainerUse, NodeUse, PodUse, SystemUse
from bridge.stats.usage import Usage, rate
from bridge.stats.volumes import VolumeMeter
from vkcri.api import quantities
from vkcri.config import RuntimeSettings
from vkcri.errors import Unavailable

KUBELET, RUNTIME, PODS = "kubelet", "runtime", "pods"
"""The Summary's names of the system containers."""
_Stats = Mapping[str, cri.ContainerStats]
_Tree = Mapping[str, tuple[str, ...]]


class Gatherer:
    """systems(): system container -> (the name of its samples, when they began in nanoseconds since the epoch, 0 for a
    cgroup's own time). pause_image(): the sandboxes' image; image(uid, container): the name of a container's, where CRI
    knows a digest. hosts_file(uid): the pod's hosts file. The seconds that a method takes are all that CRI has for
    it."""

    def __init__(
        self,
        settings: RuntimeSettings,
        runtime: Runtime,
        cgroups: Cgroups,
        reader: CgroupReader,
        samples: Samples,
        meter: VolumeMeter,
        *,
        hosts_file: Callable[[str], Path],
        pause_image: Callable[[], str],
        image: Callable[[str, str], str],
        systems: Callable[[], Mapping[str, tuple[str, int]]],
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._cgroups = cgroups
        self._reader = reader
        self._samples = samples
        self._meter = meter
        self._hosts_file = hosts_file
        self._pause_image = pause_image
        self._image = image
        self._systems = systems
        self._seen_in_cri: dict[str, Usage] = {}
        self._lock = threading.Lock()  # of that

    def boxes(self, seconds: float) -> list[Box]:
        """What runs now. Raises Unavailable."""
        return self._boxes(Stock(self._runtime, seconds))

    def whole(self, seconds: float) -> tuple[NodeUse, list[PodUse]]:
        """For the whole Summary. Raises Unavailable."""
        stock, layers = Stock(self._runtime, seconds), _Layers()
        pods = self._pods(stock, layers)
        return self._whole_node(layers, stock), pods

    def pods(self, seconds: float) -> list[PodUse]:
        """The pods of the whole Summary. Raises Unavailable."""
        return self._pods(Stock(self._runtime, seconds), _Layers())

    def node(self, seconds: float) -> NodeUse:
        """The node of the whole Summary. Raises Unavailable."""
        return self._whole_node(_Layers(), Stock(self._runtime, seconds))

    def image_disk(self, seconds: float) -> Filesystem | None:
        """The file system that images lie on; None where the runtime does not tell. Raises Unavailable."""
        images = _images(Stock(self._runtime, seconds))
        return _Layers().of(images[0]) if images else None

    def images_apart(self, seconds: float) -> bool:
        """Whether images and writable layers lie on another device than the node's own files; not known, not so (the
        kubelet's HasDedicatedImageFs). Raises Unavailable."""
        images = _images(Stock(self._runtime, seconds))
        try:
            return images is not None and _device(images[0]) != _device(self._settings.instance.state_dir)
        except OSError:
            return False

    def brief(self, seconds: float) -> tuple[NodeUse, list[PodUse]]:
        """CPU and memory alone. CRI's stats are asked for only where a container has no cgroup that can be read. Raises
        Unavailable."""
        stock = Stock(self._runtime, seconds)
        found, tree = self._boxes(stock), self._cgroups.tree()
        by_id = ids(tree)
        missing = any(item.id not in by_id for box in found for item in box.containers)
        stats = self._stats(stock) if missing else {}
        return self._node(), [self._brief_pod(box, tree, by_id, stats) for box in found if box.containers]

    def cgroups(self, seconds: float) -> list[CgroupUse]:
        """Every cgroup of this node, the root first. Raises Unavailable."""
        found, tree = self.boxes(seconds), self._cgroups.tree()
        by_id = ids(tree)
        uses = [self._cgroup(ROOT, filesystems=_root_filesystems(self._settings.instance.state_dir))]
        uses += [self._cgroup(level) for level in self._cgroups.levels()]
        for box in found:
            pod = {"namespace": box.namespace, "pod": box.pod}
            own = by_id.get(box.id, "")
            traffic = self._reader.traffic(own) if own else None
            uses.append(self._cgroup(tree.get(box.uid, ("",))[0], **pod))
            pause = {"name": box.id, "image": self._pause_image(), "created": box.created}
            uses.append(self._cgroup(own, traffic=traffic, **pause, **pod))
            for item in box.containers:
                image = self._image(box.uid, item.name) or item.image
                made = {"name": item.id, "image": image, "container": item.name, "created": item.created}
                uses.append(self._cgroup(by_id.get(item.id, ""), **made, **pod))
        return [use for use in uses if use is not None]

    def histories(self, seconds: float) -> dict[str, Any]:
        """{"node": HISTORY, "pods": {UID: {CONTAINER: HISTORY}}}, HISTORY [[seconds since the epoch, nanocores, bytes
        of working set], ...], oldest first. Raises Unavailable."""
        by_id = ids(self._cgroups.tree())
        pods: dict[str, dict[str, Any]] = {}
        for box in self.boxes(seconds):
            found = {item.name: self._samples.history(by_id.get(item.id, "")) for item in box.containers}
            pods.setdefault(box.uid, {}).update(found)
        return {"node": self._samples.history(ROOT), "pods": pods}

    def _pods(self, stock: Stock, layers: "_Layers") -> list[PodUse]:
        found, stats, tree = self._boxes(stock), self._stats(stock), self._cgroups.tree()
        return [self._pod(box, tree, stats, layers) for box in found if box.containers]

    def _boxes(self, stock: Stock) -> list[Box]:
        return inventory.boxes(stock, self._settings.instance.cri_label)

    def _stats(self, stock: Stock) -> dict[str, cri.ContainerStats]:
        found = inventory.container_stats(stock, self._settings.instance.cri_label)
        with self._lock:
            self._seen_in_cri = {key: value for key, value in self._seen_in_cri.items() if key in found}
        return found

    def _brief_pod(
        self,
        box: Box,
        tree: _Tree,
        by_id: Mapping[str, str],
        stats: _Stats,
    ) -> PodUse:
        containers = [
            ContainerUse(item.name, item.created, self._measured(item, by_id, stats)) for item in box.containers
        ]
        own = tree.get(box.uid)
        measured = self._samples.measured(own[0]) if own else None
        return PodUse(box.namespace, box.pod, box.uid, box.created, containers, measured)

    def _pod(
        self,
        box: Box,
        tree: _Tree,
        stats: _Stats,
        layers: "_Layers",
    ) -> PodUse:
        by_id = ids(tree)
        pod = self._brief_pod(box, tree, by_id, stats)
        logs = self._settings.instance.pod_logs_dir / f"{box.namespace}_{box.pod}_{box.uid}"
        containers = []
        for use, item in zip(pod.containers, box.containers, strict=True):
            found = inventory.layer(stats[item.id]) if item.id in stats else None
            pids = self._reader.processes(by_id[item.id]) if item.id in by_id else []
            containers.append(
                replace(
                    use,
                    processes=len(pids),
                    layers=layers.of(found[0]) if found else None,
                    rootfs=found[1] if found else None,
                    logs=_taken(disk.taken_by_files, logs / item.name),
                )
            )
        return replace(
            pod,
            containers=containers,
            traffic=self._reader.traffic(by_id[box.id]) if box.id in by_id else None,
            volumes=self._meter.latest(box.uid),
            files=(_taken(disk.taken_by_files, logs), _taken(disk.taken_by, self._hosts_file(box.uid))),
        )

    def _measured(self, item: Running, by_id: Mapping[str, str], stats: _Stats) -> Measured | None:
        """By the container's cgroup, else by what CRI says."""
        if item.id in by_id:
            return self._samples.measured(by_id[item.id])
        usage = inventory.usage(stats[item.id]) if item.id in stats else None
        if usage is None:
            return None
        said = stats[item.id].cpu.usage_nano_cores.value
        with self._lock:
            before, self._seen_in_cri[item.id] = self._seen_in_cri.get(item.id), usage
        return Measured(usage, said or rate(before, usage))

    def _node(self) -> NodeUse:
        measured = self._samples.measured(ROOT)
        if measured is None:
            raise Unavailable("failed to get root cgroup stats: its files cannot be read")
        capacity = host.capacity(self._settings.instance.state_dir, self._settings.max_pods)
        return NodeUse(
            name=self._settings.node_name,
            booted=reading.boot_time(),
            measured=measured,
            hugepages=sum(quantities.value(size) for name, size in capacity.items() if name.startswith("hugepages-")),
            systems=[use for name in (KUBELET, RUNTIME, PODS) if (use := self._system(name)) is not None],
        )

    def _whole_node(self, layers: "_Layers", stock: Stock) -> NodeUse:
        images = _images(stock)
        running, most = host.processes()
        return replace(
            self._node(),
            traffic=self._reader.traffic(ROOT),
            disk=disk.filesystem(self._settings.instance.state_dir),
            images=layers.of(images[0]) if images else None,
            images_taken=images[1] if images else None,
            processes=running,
            processes_most=most,
        )

    def _system(self, name: str) -> SystemUse | None:
        samples, started = self._systems().get(name, ("", 0))
        measured = self._samples.measured(samples) if samples else None
        return None if measured is None else SystemUse(name, started or self._reader.created(samples), measured)

    def _cgroup(self, path: str, /, **more: Any) -> CgroupUse | None:
        """None for a cgroup that is not there."""
        measured = self._samples.measured(path) if path else None
        if measured is None:
            return None
        started = self._reader.created(path)
        own = {"created": started, **more}
        pids, found = self._reader.processes(path), self._reader.detail(path)
        return CgroupUse(path, measured.usage, found, len(pids), started=started, **own)


class _Layers:
    """File systems by mount point, each asked once for one answer."""

    def __init__(self) -> None:
        self._found: dict[str, Filesystem | None] = {}

    def of(self, mountpoint: str) -> Filesystem | None:
        if mountpoint not in self._found:
            try:
                self._found[mountpoint] = disk.filesystem(mountpoint)
            except OSError:
                self._found[mountpoint] = None  # the runtime's path is not one of this mount namespace
        return self._found[mountpoint]


def ids(tree: _Tree) -> dict[str, str]:
    """A container's or sandbox's id -> its cgroup."""
    return {name.rpartition("/")[2]: name for own in tree.values() for name in own[1:]}


def _taken(count: Callable[[Path], Taken], path: Path) -> Taken | None:
    try:
        return count(path)
    except OSError:
        return None  # nothing was logged, or the pod has no hosts file of ours


def _images(stock: Stock) -> tuple[str, Taken] | None:
    """(mount point, what is taken) of the first image file system. Raises Unavailable."""
    for item in stock.images().image_filesystems:
        return item.fs_id.mountpoint, Taken(item.timestamp, item.used_bytes.value, item.inodes_used.value)
    return None


def _device(path: str | Path) -> int:
    return os.stat(path).st_dev


def _root_filesystems(folder: Path) -> dict[str, Filesystem]:
    """The file system of the node's own files, by its device."""
    number = folder.stat().st_dev
    return {device_name(f"{os.major(number)}:{os.minor(number)}"): disk.filesystem(folder)}


def device_name(numbers: str) -> str:
    """/dev/NAME of MAJOR:MINOR; empty for a device that has none."""
    try:
        return f"/dev/{Path(f'/sys/dev/block/{numbers}').resolve(strict=True).name}"
    except OSError:
        return ""


def machine() -> Machine:
    """What /metrics/cadvisor says of the machine."""
    info = host.node_info("")
    memory, swap = reading.machine_memory()
    return Machine(os.cpu_count() or 1, memory, swap, info["machineID"], info["systemUUID"], info["bootID"])
