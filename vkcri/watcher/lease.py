"""The node's Lease in kube-node-lease: the sign of life that the control plane believes, and that we believe of others.

One thread, `lease`. It renews every ten seconds while the Node is ours, whatever the runtime does, as the kubelet does.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from vkcri.api import times
from vkcri.backoff import Backoff
from vkcri.errors import Conflict, Invalid, NotFound, VkcriError
from vkcri.kube.client import Client
from vkcri.lifecycle import Process
from vkcri.watcher.metrics import Metrics

LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
RETRY = Backoff(first=0.2, factor=2.0, most=7.0, jitter=0.04)
COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
log = logging.getLogger(__name__)


class Lease:
    """Renews while `hold` has named an owner Node; `release` pauses it."""

    def __init__(self, process: Process, client: Client, node_name: str, metrics: Metrics) -> None:
        self._process = process
        self._client = client
        self._name = node_name
        self._metrics = metrics
        self._path = f"{COLLECTION}/{node_name}"
        self._owner_uid = ""
        self._wake = threading.Event()
        self._lease: dict[str, Any] | None = None
        self._said = ""

    def start(self) -> None:
        self._process.on_stop(self._wake.set)
        self._process.start_thread("lease", self._run)

    def hold(self, node_uid: str) -> None:
        """The Node of this UID is ours: renew at once and from now on."""
        if node_uid != self._owner_uid:
            self._owner_uid = node_uid
            self._wake.set()

    def release(self) -> None:
        """There is no Node of ours just now."""
        self._owner_uid = ""

    def read(self) -> dict[str, Any] | None:
        """The Lease of this name, whoever renews it; None for none."""
        try:
            return self._client.get(self._path)
        except NotFound:
            return None

    def _run(self) -> None:
        attempt = 0
        while not self._process.stopping.is_set():
            delay = RENEW_SECONDS
            if self._owner_uid:
                try:
                    with self._process.expect("the Lease's renewal", 30):
                        self._renew(self._owner_uid)
                    attempt, self._said = 0, ""
                except VkcriError as error:
                    delay = RETRY.delay(attempt)
                    attempt += 1
                    self._failed(error)
            self._wake.wait(delay)
            self._wake.clear()

    def _failed(self, error: VkcriError) -> None:
        self._metrics.count("lease_failures_total", error=type(error).__name__)
        self._lease = None  # read it again
        if str(error) != self._said:
            log.warning("the Lease of node %s was not renewed: %s; trying again", self._name, error)
        self._said = str(error)

    def _renew(self, owner_uid: str) -> None:
        began = time.time()
        lease = self._lease if self._lease is not None else self.read()
        wanted = renewed(lease, self._name, owner_uid, times.micros(times.of(began)))
        if lease is None:
            self._lease = self._client.create(COLLECTION, wanted, timeout=7)
        else:
            try:
                self._lease = self._client.update(self._path, wanted, timeout=7)
            except Conflict as error:
                raise Conflict(
                    f"somebody else writes the Lease too, perhaps another node of this name: {error}"
                ) from error
        self._metrics.observe("lease_renewal", time.time() - began)


def renewed(lease: Mapping[str, Any] | None, name: str, owner_uid: str, now: str) -> dict[str, Any]:
    """The Lease as it is to be written; `now` as a MicroTime. Its owner is the Node, so that it goes with it."""
    held = lease or {}
    metadata = {
        **(held.get("metadata") or {"name": name, "namespace": "kube-node-lease"}),
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner_uid}],
    }
    spec = {
        **(held.get("spec") or {}),
        "holderIdentity": name,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": now,
    }
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


class Pulse:
    """Whether another agent lives, from what it writes: a time at most 40 s off our clock, or one that was seen to
    change within the last 40 s, since two guests' clocks may differ."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self._seen: dict[str, tuple[str, float | None]] = {}

    def beats(self, name: str, stamp: str | None) -> bool:
        """name: which sign of life; stamp: its RFC 3339 time now, None for none."""
        if not stamp:
            return False
        before = self._seen.get(name)
        if before is None:
            self._seen[name] = (stamp, None)
        elif before[0] != stamp:
            self._seen[name] = (stamp, self._clock())
        try:
            fresh = abs(self._wall() - times.to_epoch(stamp)) < LEASE_SECONDS
        except Invalid:
            fresh = False
        changed = self._seen[name][1]
        return fresh or (changed is not None and self._clock() - changed < LEASE_SECONDS)
