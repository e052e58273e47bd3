"""The parts of the whole program, made and joined; nothing here decides anything.

What knows of pods (the roster) comes last and is called by what comes first, so those callbacks look it up when they
are called. Nothing calls before `start`.
"""

import threading
from datetime import UTC, datetime
from math import inf

from bridge import oom, preemption
from bridge.actions import Eviction
from bridge.admission import Admission
from bridge.answers import Answers
from bridge.cgroups import Cgroups
from bridge.cluster import Cluster
from bridge.collect import Collector
from bridge.configz import kubelet_configuration
from bridge.events import STARTED, Hint, Hints
from bridge.eviction import local
from bridge.eviction.evictor import Evictor
from bridge.eviction.thresholds import Threshold, reserved, settings_thresholds
from bridge.guest import WARNING, Guest
from bridge.imagegc import ImageCollector, Policy
from bridge.images import Images
from bridge.images_local import SHELL_IMAGE
from bridge.kernellog import KernelLog
from bridge.kubelet_metrics import KubeletMetrics
from bridge.logrotation import LogRotation
from bridge.node import NodeStatus
from bridge.prepare import Preparation
from bridge.probes.prober import Prober
from bridge.pulled import PullRecords
from bridge.relist import Relist
from bridge.roster import Roster
from bridge.runtime import Runtime
from bridge.schedule import Scheduler
from bridge.spec.sysctls import allowlist
from bridge.stats.assembly import Stats
from bridge.userns import UserNamespaces
from bridge.volumes import Volumes
from bridge.wire.client import Client
from bridge.wire.loop import Loop
from bridge.worker import Worker
from vkcri.api.pods import Pod
from vkcri.config import RuntimeSettings
from vkcri.lifecycle import Process
from vkcri.metrics import Metrics
from vkcri.queue import Publisher, Subscription
from vkcri.queue.events import EventRecorder

TOPICS = ("pod-status", "node-status", "events")


class Bridge:
    """The whole program, joined and not yet started."""

    def __init__(self, process: Process, settings: RuntimeSettings) -> None:
        instance = settings.instance
        self._process = process
        self._settings = settings
        limits = settings_thresholds(settings)
        self.publisher = Publisher(instance.queue_socket("provider"), TOPICS)
        self.metrics = Metrics()
        self.metrics.count_process()
        self._counts = KubeletMetrics(self.metrics)
        self.runtime = Runtime(settings.runtime_endpoint, self._counts.runtime.called)
        self.scheduler = Scheduler()
        self.cluster = Cluster(
            settings,
            lambda: self.roster.wake_all(),
            lambda key: self.roster.object_changed(key),
            lambda: self.preparation.node_changed(),
        )
        self.preparation = Preparation(
            settings, self.runtime, self.cluster.node, self._prepared, lambda: bool(self.guest.making)
        )
        self.relist = self._make_relist()
        self.hints = Hints(self.runtime, self._hint, wanted=settings.runtime_events)
        self.node = NodeStatus(
            settings,
            self.runtime,
            self.publisher,
            lambda: self.relist.relisted,
            self.preparation.trouble,
            network=self.preparation.network_trouble,
            pressures=lambda: self.evictor.conditions,
            reserved=lambda capacity: reserved(limits, capacity),
        )
        self.wire = Client(Loop())
        self.prober = self._make_prober()
        self.guest = self._make_guest()
        self.admission = self._make_admission()
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
        self.stats = self._make_stats()
        self.image_collector = self._make_image_collector()
        self.collector = self._make_collector()
        self.evictor = self._make_evictor(limits)
        self.kernel_log = KernelLog(self._system_oom)
        self._serve()

    def start(self) -> None:
        process = self._process
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
            self.collector,
            self.image_collector,
            self.evictor,
            self.rotation,
            self.kernel_log,
        ):
            part.start(process)
        process.start_thread("announce", self._announce, may_end=True)

    def _make_relist(self) -> Relist:
        return Relist(
            self.runtime,
            self._settings.instance.cri_label,
            lambda changed, found: self.roster.runtime_changed(changed, found),
            events=lambda: self.hints.live,
            observe=self._counts.runtime.relisted,
        )

    def _make_prober(self) -> Prober:
        return Prober(
            self.wire,
            self.runtime.exec_later,
            lambda pod, reason, message, container: self.guest.event(pod, WARNING, reason, message, container),
            lambda uid: self.roster.wake(uid),
        )

    def _make_guest(self) -> Guest:
        settings = self._settings
        recorder = EventRecorder(self.publisher, "kubelet", settings.node_name)
        return Guest(
            settings=settings,
            runtime=self.runtime,
            cluster=self.cluster,
            volumes=Volumes(
                settings,
                self.cluster.object,
                self.cluster.token,
                node=self.cluster.node,
                observe=self._counts.resources.volume_mounted,
            ),
            cgroups=Cgroups(settings),
            images=Images(
                self.runtime,
                recorder,
                records=PullRecords(settings.instance.state_dir / "pulled-images.json"),
                observe=self._pulled,
            ),
            recorder=recorder,
            prober=self.prober,
            features=self.node.features,
            users=UserNamespaces(settings.instance, lambda: self.relist.listing),
            trouble=self.preparation.trouble,
            network_error=self.node.network_error,
            starts=threading.BoundedSemaphore(settings.parallel_starts),
            metrics=self._counts,
        )

    def _pulled(self, uid: str, size: int, seconds: float) -> None:
        """An image was pulled for that pod in the seconds before now."""
        self._counts.resources.image_pulled(size, seconds)
        if (worker := self.roster.worker(uid)) is not None:
            now = self.guest.clock()
            worker.startup.pulled(now - seconds, now)

    def _make_admission(self) -> Admission:
        return Admission(
            lambda: self.node.allocatable,
            self.cluster.node,
            lambda: self.node.features().supplemental_groups_policy,
            on_granted=lambda uid: self.roster.wake(uid),
            on_preempted=self._preempt,
            pressures=lambda: self.evictor.conditions,
            allowed_sysctls=allowlist(self._settings.allowed_unsafe_sysctls),
        )

    def _preempt(self, uid: str, resource: str) -> None:
        """The pod ends, with its own grace, for a critical one that lacks this resource."""
        eviction = Eviction(
            preemption.MESSAGE, inf, disrupts=True, reason=preemption.REASON, disruption=preemption.DISRUPTION
        )
        if self.roster.evict(uid, eviction):
            self._counts.node.preemptions.add(resource)

    def _make_stats(self) -> Stats:
        return Stats(
            self._settings,
            self.runtime,
            self.guest.cgroups,
            self.guest.volumes,
            wanted=lambda: [worker.pod for worker in self.roster.workers()],
            find=lambda uid: worker.pod if (worker := self.roster.worker(uid)) else None,
            pause_image=lambda: self.preparation.pause_image,
            limited=local.limited,
        )

    def _make_evictor(self, limits: tuple[Threshold, ...]) -> Evictor:
        settings = self._settings
        return Evictor(
            self.roster.workers,
            self.stats.gatherer,
            self._counts.node.evictions.add,
            self.guest.node_event,
            thresholds=limits,
            transition=settings.eviction_pressure_transition_period,
            most_grace=settings.eviction_max_pod_grace_period,
            reclaim=(self.collector.delete_unused, self.image_collector.delete_unused),
        )

    def _make_image_collector(self) -> ImageCollector:
        settings = self._settings
        return ImageCollector(
            self.runtime,
            self.stats.gatherer.image_disk,
            lambda: (self.preparation.pause_image, SHELL_IMAGE),
            Policy(
                settings.image_gc_high_threshold,
                settings.image_gc_low_threshold,
                settings.image_minimum_gc_age,
                settings.image_maximum_gc_age,
            ),
            self.guest.node_event,
            self._counts.resources.removed_images.add,
        )

    def _system_oom(self, message: str, when: float) -> None:
        self.guest.node_event(oom.SYSTEM_OOM, message, datetime.fromtimestamp(when, UTC))

    def _make_collector(self) -> Collector:
        guest = self.guest
        return Collector(
            self.runtime,
            self.relist,
            self.roster,
            guest.volumes,
            guest.cgroups,
            self._settings.instance.pod_logs_dir,
            lambda box: guest.owners.pop(box, None),
        )

    def _serve(self) -> None:
        """What the other processes may ask for."""
        settings, publisher = self._settings, self.publisher
        Answers(self.runtime, self.roster, settings.instance.cri_label).serve(publisher)
        self.stats.serve(publisher)
        publisher.serve("configz", lambda _body, _left: kubelet_configuration(settings, self.cluster.dns()))
        publisher.serve("probe-metrics", lambda _body, _left: {"text": self.prober.metrics.text()})
        publisher.set_metrics(self.metrics.text)
        self._counts.node.describe(
            settings.node_name,
            self.guest.cgroups.facts.version,
            lambda: self.relist.listing,
            lambda: self.relist.relisted,
            self.roster.desired,
        )

    def _prepared(self) -> None:
        """The runtime has become ready for pods: what it says of itself is read before they try again."""
        self.node.ask()
        self.roster.try_all()

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
        """Runs on the events' thread. An id that nobody knows may be a stranger's, or of a sandbox that is being made:
        that one's worker hears of it as soon as it is there."""
        worker = self.roster.worker(self.guest.owners.get(hint.id) or self.relist.owner(hint.id) or "")
        if worker is not None:
            worker.hint(hint)
        elif hint.kind != STARTED or not self.guest.making:
            self.relist.ask()
