"""cri-bridge: pods from the queue into a CRI runtime, and their status back. The parts are made and joined here.

Survives the absence of the runtime and of api-watcher, at the start too: it waits for nothing, reports the node as not
ready with the reason, and takes up what it finds. When settings.provider names another module or file, that one's
main() runs in our place: it speaks the same queue.
"""

import importlib
import importlib.util
import logging
import sys
import threading
from pathlib import Path
from types import ModuleType

from bridge.admission import Admission
from bridge.answers import Answers
from bridge.cgroup_driver import refuse_systemd
from bridge.cgroups import Cgroups
from bridge.cluster import Cluster
from bridge.collect import Collector
from bridge.configz import kubelet_configuration
from bridge.events import Hint, Hints
from bridge.guest import WARNING, Guest
from bridge.images import Images
from bridge.kubelet_metrics import KubeletMetrics
from bridge.logrotation import LogRotation
from bridge.metrics import Metrics
from bridge.node import NodeStatus
from bridge.prepare import Preparation
from bridge.probes.prober import Prober
from bridge.pulled import PullRecords
from bridge.relist import Relist
from bridge.rival import refuse_rival
from bridge.roster import Roster
from bridge.runtime import Runtime
from bridge.schedule import Scheduler
from bridge.stats.assembly import Stats
from bridge.userns import UserNamespaces
from bridge.volumes import Volumes
from bridge.wire.client import Client
from bridge.wire.loop import Loop
from bridge.worker import Worker
from vkcri.api.pods import Pod
from vkcri.config import RuntimeSettings, load
from vkcri.errors import ConfigError, Refused, Unavailable
from vkcri.lifecycle import Process, program_main
from vkcri.queue import Publisher, Subscription
from vkcri.queue.events import EventRecorder

PROGRAM = "cri-bridge"
PROJECT = Path(__file__).resolve().parent.parent
TOPICS = ("pod-status", "node-status", "events")
log = logging.getLogger(__name__)


class Bridge:
    """The whole program, joined and not yet started."""

    def __init__(self, process: Process, settings: RuntimeSettings) -> None:
        instance = settings.instance
        self._process = process
        self._settings = settings
        self.publisher = Publisher(instance.queue_socket("provider"), TOPICS)
        self.metrics = Metrics()
        counts = KubeletMetrics(self.metrics)
        self.runtime = Runtime(settings.runtime_endpoint, counts.runtime_call)
        self.scheduler = Scheduler()
        self.cluster = Cluster(settings, lambda: self.roster.wake_all(), lambda key: self.roster.object_changed(key))
        self.preparation = Preparation(settings, self.runtime, self.cluster.node, lambda: self.roster.try_all())
        self.relist = Relist(
            self.runtime,
            instance.cri_label,
            lambda changed, found: self.roster.runtime_changed(changed, found),
            events=lambda: self.hints.live,
            observe=counts.relisted,
        )
        self.hints = Hints(self.runtime, self._hint)
        self.node = NodeStatus(
            settings, self.runtime, self.publisher, lambda: self.relist.relisted, self.preparation.trouble
        )
        recorder = EventRecorder(self.publisher, "kubelet", settings.node_name)
        self.wire = Client(Loop())
        self.prober = Prober(
            self.wire,
            self.runtime.exec_later,
            lambda pod, reason, message, container: self.guest.event(pod, WARNING, reason, message, container),
            lambda uid: self.roster.wake(uid),
        )
        self.guest = Guest(
            settings=settings,
            runtime=self.runtime,
            cluster=self.cluster,
            volumes=Volumes(settings, self.cluster.object, self.cluster.token, node=self.cluster.node),
            cgroups=Cgroups(settings),
            images=Images(
                self.runtime, recorder, records=PullRecords(settings.instance.state_dir / "pulled-images.json")
            ),
            recorder=recorder,
            prober=self.prober,
            features=self.node.features,
            users=UserNamespaces(instance, lambda: self.relist.listing),
            trouble=self.preparation.trouble,
            network_error=self.node.network_error,
            starts=threading.BoundedSemaphore(settings.parallel_starts),
            metrics=counts,
        )
        self.admission = Admission(
            lambda: self.node.allocatable,
            self.cluster.node,
            lambda: self.node.features().supplemental_groups_policy,
            on_granted=lambda uid: self.roster.wake(uid),
        )
        self.pods = Subscription(
            instance.queue_socket("watcher"),
            "pods",
            lambda change: self.roster.pod_changed(change),
            on_synced=lambda source: self.roster.pods_synced(source),
        )
        self.rotation = LogRotation(
            self.runtime,
            lambda: self.roster.running_logs(),
            most_bytes=settings.container_log_bytes,
            most_files=settings.container_log_max_files,
        )
        self.roster = Roster(self._worker, self.admission, self.pods.synced, self.guest.clock)
        Answers(self.runtime, self.roster, instance.cri_label).serve(self.publisher)
        self.stats = Stats(
            settings,
            self.runtime,
            self.guest.cgroups,
            self.guest.volumes,
            wanted=lambda: [worker.pod for worker in self.roster.workers()],
            find=lambda uid: worker.pod if (worker := self.roster.worker(uid)) else None,
            pause_image=lambda: self.preparation.pause_image,
        )
        self.stats.serve(self.publisher)
        self.publisher.serve("configz", lambda _body, _left: kubelet_configuration(settings, self.cluster.dns()))
        self.publisher.set_metrics(self.metrics.text)
        counts.describe_node(
            settings.node_name,
            self.guest.cgroups.facts.version,
            lambda: self.relist.listing,
            lambda: self.relist.relisted,
            lambda: self.roster.desired(),
        )
        self.publisher.serve("probe-metrics", lambda _body, _seconds: {"text": self.prober.metrics.text()})

    def start(self) -> None:
        process, instance = self._process, self._settings.instance
        self.publisher.mark_synced("events")
        self.publisher.start(process)
        self.scheduler.start(process)
        for part in (
            self.wire,
            self.relist,
            self.hints,
            self.preparation,
            self.node,
            self.cluster,
            self.pods,
            self.stats,
            self.rotation,
        ):
            part.start(process)
        process.start_thread("announce", self._announce, may_end=True)
        guest = self.guest
        collector = Collector(
            self.runtime,
            self.relist,
            self.roster,
            guest.volumes,
            guest.cgroups,
            instance.pod_logs_dir,
            lambda box: guest.owners.pop(box, None),
        )
        collector.start(process)

    def _worker(self, pod: Pod) -> Worker:
        return Worker(
            self.guest, self._process, self.scheduler, self.admission, self.publisher, pod, self.roster.forget
        )

    def _announce(self) -> None:
        """Mark pod-status as synced once every wanted pod has one; runs on a thread that ends with that."""
        while not self._process.wait(0.2):
            if self.roster.complete() and all(self.publisher.get("pod-status", uid) for uid in self.roster.wanted()):
                self.publisher.mark_synced("pod-status")
                return

    def _hint(self, hint: Hint) -> None:
        """Runs on the events' thread. An id that nobody knows may be a stranger's, or of a pod that begins just now."""
        worker = self.roster.worker(self.guest.owners.get(hint.id) or self.relist.owner(hint.id) or "")
        if worker is None:
            self.relist.ask()
        else:
            worker.hint(hint)


def run(process: Process, settings: RuntimeSettings) -> None:
    """Kubernetes pods in a CRI runtime."""
    refuse_rival(settings)
    log.info("runtime %s, node %s", settings.runtime_endpoint, settings.node_name)
    Bridge(process, settings).start()
    process.stopping.wait()


def check(settings: RuntimeSettings) -> str:
    """What --check says besides the settings."""
    if settings.provider:
        _provider(settings.provider)
        return f"provider {settings.provider}"
    refuse_rival(settings)
    _check_driver(settings)
    return f"runtime {settings.runtime_endpoint}"


def _check_driver(settings: RuntimeSettings) -> None:
    """Raises ConfigError where the runtime's cgroup driver is not ours; one that is away is not judged."""
    if not settings.runtime_socket.exists():
        return
    runtime = Runtime(settings.runtime_endpoint)
    try:
        refuse_systemd(runtime)
    except Unavailable:
        return
    except Refused as error:
        raise ConfigError(str(error)) from error
    finally:
        runtime.close()


def cleanup(settings: RuntimeSettings) -> None:
    """What --cleanup removes."""
    from bridge.cleanup import cleanup as remove

    remove(settings)


def main() -> None:
    """The console script: cri-bridge, or the provider that the configuration names."""
    if len(sys.argv) == 1:
        try:
            provider = load(RuntimeSettings).provider
            other = _provider(provider) if provider else None
        except ConfigError:
            other = None  # the program below says it, and ends as programs do
        if other is not None:
            other.main()
            return
    program_main(PROGRAM, RuntimeSettings, run, check=check, cleanup=cleanup)()


def _provider(name: str) -> ModuleType:
    """The module of another provider, by dotted name or by file, the latter relative to the project: supervisord runs
    in /. Raises ConfigError."""
    try:
        if not name.endswith(".py"):
            module = importlib.import_module(name)
        else:
            spec = importlib.util.spec_from_file_location(Path(name).stem, PROJECT / name)
            if spec is None or spec.loader is None:
                raise ConfigError(f"provider={name!r}: no Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(f"provider={name!r}: {error}; set VKCRI_PROVIDER to a module or file with main()") from error
    if not callable(getattr(module, "main", None)):
        raise ConfigError(f"provider={name!r} has no function main()")
    return module


if __name__ == "__main__":
    main()
