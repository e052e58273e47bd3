"""The Node: registered, kept alive, its status brought to the API server; topic `node`.

One thread, `node`: every ten seconds, and as soon as the provider reports or the Node changes. Nothing else of
api-watcher begins before the Node is ours (vkcri.watcher.registration), so that no other agent's pods run twice. A Node
that is deleted is registered again. One that another instance of vkcri took over ends this process, after topic `node`
was emptied so that the provider begins no container any more (what runs, runs on); its next start finds out whether
that instance lives, and publishes nothing until it does not.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from vkcri.api import times
from vkcri.backoff import Backoff
from vkcri.errors import Invalid, NotFound, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.reflector import Callbacks, Item, Reflector
from vkcri.lifecycle import Process
from vkcri.queue import Change, Publisher, Subscription
from vkcri.queue.events import EventRecorder, node_reference
from vkcri.queue.notices import Notices
from vkcri.watcher import nodestatus
from vkcri.watcher.access import Access
from vkcri.watcher.lease import Lease
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.nodestatus import Identity, Report
from vkcri.watcher.registration import COLLECTION, Registration, owner
from vkcri.watcher.versions import is_newer, version

TOPIC = "node"
CHECK_SECONDS = 10.0
FAREWELL_SECONDS = 0.5  # the deletion reaches the subscribers, who are on this guest
RETRY = Backoff(first=0.2, factor=2.0, most=10.0)
_EVENTS = {  # condition -> (reason while it is well, reason while it is not), as the kubelet's
    "Ready": ("NodeReady", "NodeNotReady"),
    "MemoryPressure": ("NodeHasSufficientMemory", "NodeHasInsufficientMemory"),
    "DiskPressure": ("NodeHasNoDiskPressure", "NodeHasDiskPressure"),
    "PIDPressure": ("NodeHasSufficientPID", "NodeHasInsufficientPID"),
}
_REFUSED = "this user may not watch this node's Node: what others change in it is seen minutes late"
log = logging.getLogger(__name__)


class NodeTaken(Exception):
    """Another instance's annotation is on our Node."""


class Node:
    """Calls `registered` once, on its own thread, when the Node is ours for the first time."""

    def __init__(
        self,
        process: Process,
        client: Client,
        publisher: Publisher,
        notices: Notices,
        identity: Identity,
        lease: Lease,
        registration: Registration,
        metrics: Metrics,
        *,
        access: Access,
        registered: Callable[[], None],
    ) -> None:
        self._process = process
        self._client = client
        self._publisher = publisher
        self._notices = notices
        self._identity = identity
        self._lease = lease
        self._registration = registration
        self._metrics = metrics
        self._registered = registered
        self._path = f"{COLLECTION}/{identity.name}"
        self._recorder = EventRecorder(publisher, "vkcri", identity.name)
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._node: dict[str, Any] | None = None
        self._began = False
        self._beaten: float | None = None
        self._unkept: frozenset[str] = frozenset()
        self._said = ""
        self._cordoned = False
        self._listening_since = time.monotonic()
        self._reported_at: float | None = None
        self.reports = Subscription(process.instance.queue_socket("provider"), "node-status", self._reported)
        callbacks = Callbacks(
            self._replace,
            lambda item: self._seen(item.parsed),
            lambda _: self._forget(),
            lambda error: access.failed(TOPIC, error, _REFUSED),
            lambda: access.given(TOPIC),
        )
        params = {"fieldSelector": f"metadata.name={identity.name}"}
        self.reflector = Reflector(client, COLLECTION, callbacks, params)

    def start(self) -> None:
        self._process.on_stop(self._wake.set)
        self.reports.start(self._process)
        self._process.start_thread("node", self._run)

    # On the reflector's thread

    def _replace(self, items: list[Item]) -> None:
        if items:
            self._seen(items[0].parsed)
        else:
            self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._node = None
        self._lease.release()
        self._publisher.delete(TOPIC, self._identity.name)
        log.warning("the Node %s was deleted: registering it again", self._identity.name)
        self._wake.set()

    def _seen(self, node: dict[str, Any]) -> None:
        """A copy of the Node, read or answered: the newest one counts."""
        with self._lock:
            held = version(self._node or {})
            if self._node is not None and not is_newer(version(node), held):
                return
            self._node = node
        self._wake.set()

    # On the subscription's thread

    def _reported(self, change: Change) -> None:
        if change.value is None:
            return
        late = 0.0
        if self._reported_at is None:  # a snapshot may be older than its arrival
            late = max(0.0, _age(json.loads(change.value).get("reported")) or 0.0)
        self._reported_at = time.monotonic() - late
        self._wake.set()

    # On the thread `node`

    def _run(self) -> None:
        attempt = 0
        while not self._process.stopping.is_set():
            self._wake.clear()
            try:
                with self._process.expect("the Node's registration and status", 120):
                    self._step()
            except NodeTaken as error:
                self._give_up(error)
                return
            except VkcriError as error:
                self._failed(error)
                self._process.wait(max(RETRY.delay(attempt), getattr(error, "retry_after", None) or 0.0))
                attempt += 1
            else:
                attempt, self._said = 0, ""
                self._wake.wait(CHECK_SECONDS)

    def _give_up(self, error: NodeTaken) -> None:
        """Nothing new is begun in this Node's name. supervisord starts the process again."""
        log.critical("%s; the process ends, and waits for that instance's end when it starts again", error)
        self._lease.release()
        self._publisher.delete(TOPIC, self._identity.name)
        self._process.wait(FAREWELL_SECONDS)
        self._process.stop()

    def _failed(self, error: VkcriError) -> None:
        self._metrics.count("node_failures_total", error=type(error).__name__)
        if str(error) != self._said:
            log.warning("node %s: %s; trying again", self._identity.name, error)
        self._said = str(error)

    def _step(self) -> None:
        """One look at everything. Raises VkcriError to be called again soon."""
        with self._lock:
            node = self._node
        if node is None:
            node = self._registration.claim(lambda: self._desired({}))
            if node is None:
                return
            self._seen(node)
        if owner(node) not in (None, self._identity.instance_id):
            raise NodeTaken(f"the Node {self._identity.name} was taken over by another instance, {owner(node)}")
        self._lease.hold(node["metadata"]["uid"])
        self._check_taint(node)
        try:
            node = self._keep(node)
        except NotFound:
            self._forget()
            return
        self._tell_schedulable(node)
        self._publisher.replace(TOPIC, {self._identity.name: json.dumps(node, separators=(",", ":")).encode()})
        if not self._began:
            self._began = True
            self._event("Normal", "Starting", "Starting vkcri.")
            self._process.start_thread("watch-node", lambda: self.reflector.run(self._process))
            self._registered()

    def _check_taint(self, node: Mapping[str, Any]) -> None:
        cure = nodestatus.taint_cure(self._identity, node)
        if cure:
            message = "the Node's taint is not as configured, and a node may change it at its registration only"
            self._notices.put("taint", message, cure)
        else:
            self._notices.clear("taint")

    def _keep(self, node: dict[str, Any]) -> dict[str, Any]:
        """Patch what differs; the Node as it is then."""
        metadata = nodestatus.metadata_patch(self._identity, node)
        if metadata:
            node = self._client.patch(self._path, {"metadata": metadata})
            self._seen(node)
        held = node.get("status") or {}
        wanted = self._desired(held)
        beat = self._beaten is None or time.monotonic() - self._beaten >= nodestatus.HEARTBEAT_SECONDS
        patch = nodestatus.status_patch(wanted, held, beat=beat, unkept=self._unkept)
        if patch:
            began = time.monotonic()
            node = self._client.patch(f"{self._path}/status", {"status": patch})
            self._metrics.observe("node_patch", time.monotonic() - began)
            self._beaten = began
            self._seen(node)
            left = nodestatus.status_patch(wanted, node.get("status") or {}, beat=False)
            self._unkept = frozenset(left) - {"conditions"}
            self._tell(held, wanted)
        return node

    def _desired(self, held: Mapping[str, Any]) -> dict[str, Any]:
        return nodestatus.desired(self._identity, self._report(), held, times.seconds(times.of(time.time())))

    def _report(self) -> Report:
        raw = self.reports.get("node")
        value: dict[str, Any] | None = json.loads(raw) if raw is not None else None
        since = self._reported_at if self._reported_at is not None else self._listening_since
        return Report(value, time.monotonic() - since, _age((value or {}).get("relisted")))

    def _tell(self, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Events for conditions that changed and for a reboot, with the kubelet's reasons."""
        name = self._identity.name
        booted, boot = ((status.get("nodeInfo") or {}).get("bootID") or "" for status in (held, wanted))
        if booted and boot and booted != boot:
            self._event("Warning", "Rebooted", f"Node {name} has been rebooted, boot id: {boot}")
        before = {item.get("type"): item.get("status") for item in held.get("conditions") or []}
        for condition in wanted["conditions"]:
            kind, status = condition["type"], condition["status"]
            if status == before.get(kind) or status == "Unknown":
                continue
            well = (status == "True") == (kind == "Ready")
            reason = _EVENTS[kind][0 if well else 1]
            self._event("Normal", reason, f"Node {name} status is now: {reason}")
            if kind == "Ready":
                log.info("node %s is %s: %s", name, "Ready" if well else "not Ready", condition["message"])

    def _tell_schedulable(self, node: Mapping[str, Any]) -> None:
        """An event once somebody has cordoned the node, or taken that back."""
        cordoned = bool((node.get("spec") or {}).get("unschedulable"))
        if cordoned != self._cordoned:
            self._cordoned = cordoned
            reason = "NodeNotSchedulable" if cordoned else "NodeSchedulable"
            self._event("Normal", reason, f"Node {self._identity.name} status is now: {reason}")

    def _event(self, type_: str, reason: str, message: str) -> None:
        self._recorder.event(node_reference(self._identity.name), type_, reason, message)


def _age(stamp: Any) -> float | None:
    """Seconds since an RFC 3339 time by the wall clock; None where there is none."""
    try:
        return time.time() - times.to_epoch(str(stamp)) if stamp else None
    except Invalid:
        return None
