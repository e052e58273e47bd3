"""Node lifecycle: a node whose Lease stands still for 40 s is Ready=Unknown; its taints say what its conditions say.

As in Kubernetes' node lifecycle controller, what counts is when *this process* last saw a renewal, so that a clock that
jumps or a server that was away blames no node. Nobody is evicted for it (evictions.py says why).
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
# (condition, status) -> the key of the taint NoSchedule that says so
_TAINTS: Final = {
    ("Ready", "False"): "node.kubernetes.io/not-ready",
    ("Ready", "Unknown"): "node.kubernetes.io/unreachable",
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_CORDONED: Final = "node.kubernetes.io/unschedulable"
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
        if taints(node) != ((node.get("spec") or {}).get("taints") or []):
            node = internal.update(self._ctx, "/nodes", "", key, _with_taints)
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


def taints(node: Object) -> list[Object]:
    """The node's taints as they should be: those of others in their order, then what its conditions say. A node whose
    agent has said nothing yet keeps what it was created with."""
    spec = node.get("spec") or {}
    given = spec.get("taints") or []
    said = {(item.get("type"), item.get("status")) for item in (node.get("status") or {}).get("conditions") or []}
    if not any(kind == "Ready" for kind, _ in said):
        said.add(("Ready", "False"))
    wanted = [key for condition, key in _TAINTS.items() if condition in said]
    wanted += [_CORDONED] if spec.get("unschedulable") else []
    ours = {*_TAINTS.values(), _CORDONED}
    kept = [item for item in given if not _is_ours(item, ours) or item["key"] in wanted]
    there = {item["key"] for item in kept if _is_ours(item, ours)}
    return kept + [{"key": key, "effect": "NoSchedule"} for key in wanted if key not in there]


def _is_ours(taint: Mapping[str, Any], keys: set[str]) -> bool:
    return taint.get("effect") == "NoSchedule" and taint.get("key") in keys


def _with_taints(node: Object) -> Object:
    found = taints(node)
    node.setdefault("spec", {})["taints"] = found
    return node
