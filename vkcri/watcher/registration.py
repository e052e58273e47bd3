"""Whose Node this is: found, made, adopted, or another agent's. Runs on the thread `node`.

    absent ── create ──▶ ours              our annotation ──▶ ours
    no sign of life for 40 s ── adopt ──▶ ours              else: another agent's, nothing is touched

A Node that we lose a race for is looked at again after ten seconds, when its winner has renewed the Lease.
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from vkcri.errors import Conflict, NotFound
from vkcri.kube.client import Client
from vkcri.watcher.lease import Lease, Pulse
from vkcri.watcher.nodestatus import ANNOTATION, Identity, new_node

COLLECTION = "/api/v1/nodes"
log = logging.getLogger(__name__)


class Registration:
    """claim() once no Node of ours is known."""

    def __init__(self, client: Client, lease: Lease, identity: Identity) -> None:
        self._client = client
        self._lease = lease
        self._identity = identity
        self._path = f"{COLLECTION}/{identity.name}"
        self._pulse = Pulse(time.monotonic, time.time)
        self._said = False

    def claim(self, status: Callable[[], Mapping[str, Any]]) -> dict[str, Any] | None:
        """Our Node, made with `status()` where there is none; None while it is another agent's. Raises VkcriError."""
        try:
            node = self._client.get(self._path)
        except NotFound:
            return self._create(status())
        if owner(node) != self._identity.instance_id:
            if self._lives(node):
                self._say_foreign()
                return None
            adopted = self._adopt(node)
            if adopted is None:
                return None
            node = adopted
        return node

    def _create(self, status: Mapping[str, Any]) -> dict[str, Any] | None:
        try:
            node = self._client.create(COLLECTION, new_node(self._identity, status))
        except Conflict:
            log.info("the Node %s was made by somebody else just now", self._identity.name)
            return None
        log.info("registered as node %s", self._identity.name)
        return node

    def _adopt(self, node: Mapping[str, Any]) -> dict[str, Any] | None:
        """Put our annotation on a Node that nobody keeps alive, unless it changed since we looked."""
        metadata = {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "annotations": {ANNOTATION: self._identity.instance_id},
        }
        try:
            adopted = self._client.patch(self._path, {"metadata": metadata})
        except (Conflict, NotFound):
            return None
        log.info("the Node %s was there and nobody kept it alive; it is ours now", self._identity.name)
        return adopted

    def _lives(self, node: Mapping[str, Any]) -> bool:
        """Whether an agent gave a sign of life in the last 40 s: a renewal, a heartbeat, or the Node's creation, after
        which its Lease is yet to come."""
        spec = (self._lease.read() or {}).get("spec") or {}
        conditions = (node.get("status") or {}).get("conditions") or []
        ready: dict[str, Any] = next((item for item in conditions if item.get("type") == "Ready"), {})
        stamps = {
            "lease": spec.get("renewTime"),
            "heartbeat": ready.get("lastHeartbeatTime"),
            "creation": node["metadata"].get("creationTimestamp"),
        }
        beats = [self._pulse.beats(name, stamp) for name, stamp in stamps.items()]  # each is to remember what it saw
        return any(beats)

    def _say_foreign(self) -> None:
        if not self._said:
            log.warning(
                "the Node %s belongs to another agent that renews its Lease: it is left alone and no pod is run here; "
                "set VKUBELET_NODE_NAME to another name, or stop that agent; looked at again every 10 s",
                self._identity.name,
            )
        self._said = True


def owner(node: Mapping[str, Any]) -> str | None:
    """The instance that a Node belongs to by its annotation; None where it has none."""
    found = ((node.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION)
    return str(found) if found else None
