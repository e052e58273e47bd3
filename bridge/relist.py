"""One reading of CRI for all pods, again and again: the truth that wakes workers.

One thread, `relist`: every second, every ten while a stream of runtime events is open. It lists what carries our label,
compares with the reading before, and says which pods have changed. It reads no details; workers do, each of its own
pod.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import names
from vkcri.errors import VkcriError
from vkcri.lifecycle import Process

PERIOD = 1.0
PERIOD_WITH_EVENTS = 10.0
READING_SECONDS = 150.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Box:
    """A sandbox or container of ours as a list shows it. `name`: the container's; empty for a sandbox."""

    id: str
    uid: str
    name: str
    sandbox_id: str
    state: int
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def is_sandbox(self) -> bool:
        return not self.name


Listing = dict[str, frozenset[Box]]
"""Pod UID -> its sandboxes and containers."""


class Runtime(Protocol):
    """The RPCs that relisting needs."""

    def list_pod_sandbox(self, request: api_pb2.ListPodSandboxRequest, /) -> api_pb2.ListPodSandboxResponse: ...
    def list_containers(self, request: api_pb2.ListContainersRequest, /) -> api_pb2.ListContainersResponse: ...


def listing(runtime: Runtime, cri_label: str) -> Listing:
    """All that carries our label. Raises Unavailable."""
    ours = {names.INSTANCE: cri_label}
    sandboxes = runtime.list_pod_sandbox(
        api_pb2.ListPodSandboxRequest(filter=api_pb2.PodSandboxFilter(label_selector=ours))
    ).items
    containers = runtime.list_containers(
        api_pb2.ListContainersRequest(filter=api_pb2.ContainerFilter(label_selector=ours))
    ).containers
    found: dict[str, set[Box]] = {}
    for sandbox in sandboxes:
        uid = sandbox.labels.get(names.POD_UID, "")
        labels, annotations = dict(sandbox.labels), dict(sandbox.annotations)
        box = Box(sandbox.id, uid, "", sandbox.id, int(sandbox.state), sandbox.created_at, labels, annotations)
        found.setdefault(uid, set()).add(box)
    for item in containers:
        uid, name = item.labels.get(names.POD_UID, ""), item.labels.get(names.CONTAINER_NAME) or item.metadata.name
        labels, annotations = dict(item.labels), dict(item.annotations)
        box = Box(item.id, uid, name, item.pod_sandbox_id, int(item.state), item.created_at, labels, annotations)
        found.setdefault(uid, set()).add(box)
    found.pop("", None)
    return {uid: frozenset(boxes) for uid, boxes in found.items()}


class Relist:
    """The newest reading. on_change(uids, listing) is called on the relist thread, after the first reading with all of
    them; it must be quick. events(): whether a stream of runtime events is open. observe(began, seconds) is told how
    long a reading took."""

    def __init__(
        self,
        runtime: Runtime,
        cri_label: str,
        on_change: Callable[[set[str], Listing], None],
        *,
        events: Callable[[], bool] = bool,
        clock: Callable[[], float] = time.time,
        observe: Callable[[float, float], None] = lambda _began, _seconds: None,
    ) -> None:
        self._runtime = runtime
        self._cri_label = cri_label
        self._on_change = on_change
        self._events = events
        self._clock = clock
        self._observe = observe
        self._lock = threading.Lock()
        self._listing: Listing = {}
        self._owners: dict[str, str] = {}
        self._asked = threading.Event()
        self._failing = ""
        self.relisted: float | None = None

    @property
    def listing(self) -> Listing:
        """The last reading; empty before the first (`relisted` is None then)."""
        with self._lock:
            return self._listing

    def owner(self, box_id: str) -> str | None:
        """The UID of the pod whose sandbox or container has that id, as of the last reading."""
        with self._lock:
            return self._owners.get(box_id)

    def ask(self) -> None:
        """Read soon: an event names something that no reading has shown."""
        self._asked.set()

    def start(self, process: Process) -> None:
        process.on_stop(self._asked.set)

        def loop() -> None:
            while not process.stopping.is_set():
                with process.expect("a reading of the runtime", READING_SECONDS):
                    self.read()
                self._asked.wait(PERIOD_WITH_EVENTS if self._events() and not self._failing else PERIOD)
                self._asked.clear()

        process.start_thread("relist", loop)

    def read(self) -> bool:
        """Read once and tell what has changed. False where the runtime does not answer."""
        began = time.monotonic()
        try:
            found = listing(self._runtime, self._cri_label)
            self._observe(began, time.monotonic() - began)
        except VkcriError as error:
            if str(error) != self._failing:
                log.warning("the runtime cannot be read: %s", error)
            self._failing = str(error)
            return False
        if self._failing:
            log.info("the runtime answers again")
        self._failing = ""
        with self._lock:
            before, self._listing = self._listing, found
            self._owners = {box.id: uid for uid, boxes in found.items() for box in boxes}
            first, self.relisted = self.relisted is None, self._clock()
        changed = {uid for uid in {*before, *found} if before.get(uid) != found.get(uid)}
        if changed or first:
            self._on_change(changed, found)
        return True
