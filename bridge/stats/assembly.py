"""The parts of this package joined: what is sampled on this machine, and who answers for it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bridge.cgroups import Cgroups
from bridge.runtime import Runtime
from bridge.stats.answers import StatsAnswers
from bridge.stats.gather import KUBELET, PODS, RUNTIME, Gatherer
from bridge.stats.processes import ProcessGroup, listening_at, locked_by, own_cgroup
from bridge.stats.reading import ROOT, CgroupReader
from bridge.stats.samples import Samples
from bridge.stats.volumes import VolumeMeter
from bridge.volumes import Volumes
from vkcri.api import pods
from vkcri.config import RuntimeSettings
from vkcri.lifecycle import Process
from vkcri.queue import Publisher

PROGRAMS = ("api-watcher", "cri-bridge", "log-server", "kube-proxy")
"""What does a kubelet's work here: the Summary's system container `kubelet`, together with kube-proxy."""


class Stats:
    """All of it. wanted(): the pods whose volumes are measured, find(uid): one of them; limited(pod): whether it is
    measured more often, since it is held to a limit by that."""

    def __init__(
        self,
        settings: RuntimeSettings,
        runtime: Runtime,
        cgroups: Cgroups,
        volumes: Volumes,
        *,
        wanted: Callable[[], Iterable[Mapping[str, Any]]],
        find: Callable[[str], Mapping[str, Any] | None],
        pause_image: Callable[[], str],
        limited: Callable[[Mapping[str, Any]], bool],
    ) -> None:
        locks = settings.instance.locks_dir
        self._cgroups = cgroups
        self._runtime = _RuntimeProcess(settings.runtime_socket)
        self._kubelet = ProcessGroup(lambda: locked_by(locks, PROGRAMS))
        self._daemon = ProcessGroup(self._runtime.alone)
        groups = {KUBELET: self._kubelet.usage, RUNTIME: self._daemon.usage}
        reader = CgroupReader(cgroups.hierarchies)
        self._samples = Samples(reader, self._names, groups)
        self._meter = VolumeMeter(wanted, volumes.measurable, limited=limited)
        self.gatherer = Gatherer(
            settings,
            runtime,
            cgroups,
            reader,
            self._samples,
            self._meter,
            hosts_file=volumes.hosts_file,
            pause_image=pause_image,
            image=lambda uid, container: image_of(find(uid), container),
            systems=self._systems,
        )
        self._answers = StatsAnswers(self.gatherer, lambda: self._samples.rounds)

    def serve(self, publisher: Publisher) -> None:
        self._answers.serve(publisher)

    def start(self, process: Process) -> None:
        self._samples.start(process)
        self._meter.start(process)

    def _names(self) -> list[str]:
        """Every cgroup that is sampled."""
        own = self._runtime.look()
        below = [name for names in self._cgroups.tree().values() for name in names]
        return [ROOT, *self._cgroups.levels(), *below, *([own] if own else [])]

    def _systems(self) -> dict[str, tuple[str, int]]:
        runtime = (self._runtime.cgroup, 0) if self._runtime.cgroup else (RUNTIME, self._daemon.since)
        return {PODS: (self._cgroups.pods_root, 0), KUBELET: (KUBELET, self._kubelet.since), RUNTIME: runtime}


def image_of(pod: Mapping[str, Any] | None, container: str) -> str:
    """The image that the pod's spec names; empty for a pod or container that is not wanted any more."""
    found = pods.container(pod, container) if pod is not None else None
    return str(found[1].get("image") or "") if found else ""


class _RuntimeProcess:
    """The process behind the CRI socket, found again when it has gone, and the cgroup that it may have to itself."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._pid: int | None = None
        self.cgroup = ""

    def look(self) -> str:
        """The cgroup's name; empty where the process shares one."""
        if self._pid is None or not Path(f"/proc/{self._pid}").exists():
            self._pid = listening_at(self._socket)
            self.cgroup = own_cgroup(self._pid) if self._pid else ""
        return self.cgroup

    def alone(self) -> list[int]:
        """The process by itself, where its cgroup does not tell."""
        return [self._pid] if self._pid and not self.cgroup else []
