"""What the operations of all pods share: the guest's parts, how one is told to stop, and how one fails.

`Guest` is made once (bridge.assembly) and handed to every worker; `Scope` belongs to one operation, whose thread and
whose worker both use it.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bridge.actions import Problem
from bridge.cgroups import Cgroups
from bridge.cluster import Cluster
from bridge.images import Images
from bridge.kubelet_metrics import KubeletMetrics
from bridge.probes.prober import Prober
from bridge.runtime import Runtime
from bridge.spec import Features, Finding
from bridge.userns import UserNamespaces
from bridge.volumes import Volumes
from vkcri.api import pods
from vkcri.config import RuntimeSettings
from vkcri.metrics import Metrics
from vkcri.queue.events import EventRecorder, node_reference, pod_reference

NORMAL, WARNING = "Normal", "Warning"


class Failure(Exception):
    """An action failed in a way that the pod's status shows. `retry`: seconds until it is tried again, None: by the
    worker's back-off."""

    def __init__(self, problem: Problem | None, message: str, retry: float | None = None) -> None:
        super().__init__(message)
        self.problem = problem
        self.retry = retry


class Cancelled(Exception):
    """The operation was told to stop before it had changed anything."""


class Scope:
    """How an operation is told to stop, and how it tells that it gets on where nobody knows how long it takes
    (`progress`). Between its steps it looks (`check`); a wait that touches nothing of the pod,
    such as a pull, may be left behind (`waiting`): then it is as if it had ended, and it never goes on."""

    def __init__(self) -> None:
        self.progress: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._cancelled = False
        self._waits = False

    def cancel(self) -> bool:
        """Tell it to stop. Returns whether it may be left behind at once; else it ends soon by itself."""
        with self._lock:
            self._cancelled = True
            return self._waits

    def check(self) -> None:
        """Raises Cancelled once it was told to stop."""
        with self._lock:
            if self._cancelled:
                raise Cancelled

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait that may be left behind."""
        with self._lock:
            if self._cancelled:
                raise Cancelled
            self._waits = True
        try:
            yield
        finally:
            with self._lock:
                self._waits = False
                cancelled = self._cancelled
            if cancelled:
                raise Cancelled


@dataclass
class Guest:
    """What all pods' actions share."""

    settings: RuntimeSettings
    runtime: Runtime
    cluster: Cluster
    volumes: Volumes
    cgroups: Cgroups
    images: Images
    recorder: EventRecorder
    prober: Prober
    features: Callable[[str], Features] = Features
    users: UserNamespaces | None = None
    trouble: Callable[[], str] = str
    network_error: Callable[[], str] = str
    clock: Callable[[], float] = time.time
    owners: dict[str, str] = field(default_factory=dict)
    """Container or sandbox id -> pod UID, from before its first event until it is collected or the pod is forgotten."""
    making: set[str] = field(default_factory=set)
    """UIDs of the pods whose sandbox is being made: nobody knows its id before the runtime answers."""
    starts: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(4))
    metrics: KubeletMetrics = field(default_factory=lambda: KubeletMetrics(Metrics()))

    def event(
        self, pod: Mapping[str, Any], type_: str, reason: str, message: str, container: str | None = None
    ) -> None:
        """Record an event about the pod, or about a container in it."""
        field = pods.container_field(pod, container) if container is not None else ""
        reference = pod_reference(dict(pod), container, field)
        self.recorder.event(reference, type_, reason, message)

    def node_event(self, reason: str, message: str, at: datetime | None = None) -> None:
        """Record a warning about the node. at: when it was, if not now."""
        self.recorder.event(node_reference(self.settings.node_name), WARNING, reason, message, at=at)

    def findings(self, pod: Mapping[str, Any], found: Sequence[Finding], container: str | None = None) -> None:
        for item in found:
            if item.of_node:
                self.node_event(item.reason, item.message)
            else:
                self.event(pod, item.type, item.reason, item.message, container)
