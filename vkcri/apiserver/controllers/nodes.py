"""Node lifecycle: a node whose Lease stands still for 40 s is Ready=Unknown.

As in Kubernetes' node lifecycle controller, what counts is when *this process* last saw a renewal, so that a clock that
jumps or a server that was away blames no node. Taints and evictions need no deciding on a guest with one node.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vkcri.apiserver import internal
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf

Object = dict[str, Any]
GRACE: Final = 40.0  # seconds, as --node-monitor-grace-period was until 1.32
_LEASES: Final = "coordination.k8s.io/leases"
_LEASE_NAMESPACE: Final = "kube-node-lease"
_CONDITIONS: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class NodeController:
    """Key: a node's name. `clock`: monotonic seconds."""

    name = "node-lifecycle"

    def __init__(self, ctx: RequestContext, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ctx = ctx
        self._clock = clock
        self._seen: dict[str, tuple[Any, float]] = {}
        self.sources: Mapping[str, KeysOf] = {
            "/nodes": lambda obj, _gone: [obj["metadata"]["name"]],
            _LEASES: lambda obj, _gone: (
                [obj["metadata"]["name"]] if obj["metadata"]["namespace"] == _LEASE_NAMESPACE else []
            ),
        }

    def all_keys(self) -> Iterable[str]:
        return [node["metadata"]["name"] for node in self._ctx.store.list("/nodes")[0]]

    def reconcile(self, key: str) -> float | None:
        """Note a renewal, or write Unknown once the grace is over; returns when it will be."""
        node = self._ctx.store.get("/nodes", "", key)
        if node is None:
            self._seen.pop(key, None)
            return None
        lease = self._ctx.store.get(_LEASES, _LEASE_NAMESPACE, key)
        renewed = ((lease or {}).get("spec") or {}).get("renewTime"), node["metadata"]["uid"]
        now = self._clock()
        if key not in self._seen or self._seen[key][0] != renewed:
            self._seen[key] = (renewed, now)
        left = self._seen[key][1] + GRACE - now
        if left > 0:
            return left + 0.1
        internal.update(self._ctx, "/nodes", "", key, self._unknown, subresource="status")
        return GRACE

    def _unknown(self, node: Object) -> Object | None:
        """Every condition that a kubelet keeps becomes Unknown; None where they are."""
        conditions = node.setdefault("status", {}).setdefault("conditions", [])
        changed = False
        for kind in _CONDITIONS:
            old = next((item for item in conditions if item.get("type") == kind), None)
            if old is not None and old.get("status") == "Unknown":
                continue
            changed = True
            now = self._ctx.now()
            never = old is None
            new = {
                "type": kind,
                "status": "Unknown",
                "reason": "NodeStatusNeverUpdated" if never else "NodeStatusUnknown",
                "message": "Kubelet never posted node status." if never else "Kubelet stopped posting node status.",
                "lastHeartbeatTime": node["metadata"]["creationTimestamp"]
                if old is None
                else old.get("lastHeartbeatTime", now),
                "lastTransitionTime": now,
            }
            if old is None:
                conditions.append(new)
            else:
                conditions[conditions.index(old)] = new
        return node if changed else None
