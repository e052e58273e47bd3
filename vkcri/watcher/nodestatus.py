"""The Node as we want it: labels, taint, status; and what to patch so that the API server's copy becomes it. Pure.

The provider's `node-status` says what the machine and the runtime are; this module adds what only api-watcher knows
(addresses, the kubelet port, whether the provider still speaks) and Kubernetes' rules: a condition's transition time
moves with its status only, heartbeats are no change, conditions of other owners stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vkcri.api import resources
from vkcri.watcher.podpatch import plain

ANNOTATION = "vkcri/instance"
SILENT_SECONDS = 40.0
RELIST_SECONDS = 180.0
HEARTBEAT_SECONDS = 300.0
MOST_IMAGES = 50  # as the kubelet's nodeStatusMaxImages
OWN_CONDITIONS = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
_COPIED = ("capacity", "allocatable", "nodeInfo", "runtimeHandlers", "features")
_MAPS = ("capacity", "allocatable", "nodeInfo", "daemonEndpoints", "features")
_LISTS = ("images", "runtimeHandlers", "declaredFeatures")
_DECLARED = ("ExtendWebSocketsToKubelet",)
"""What log-server does for whatever provider, so that an API server need not: vkcri.kubelet.translate."""


@dataclass(frozen=True)
class Identity:
    """What we call the node and how it is reached. taint: {key, value, effect} or None; taint_key: the one that is
    ours, wanted or not."""

    name: str
    instance_id: str
    address: str
    kubelet_port: int
    architecture: str
    taint: Mapping[str, str] | None
    version: str
    taint_key: str = ""


@dataclass(frozen=True)
class Report:
    """The newest `node-status`: its value (None before the first), the seconds since it came (or since we began to
    listen), the age of its last full relist in seconds (None where it says nothing)."""

    value: Mapping[str, Any] | None
    age: float
    relist_age: float | None = None


def labels(identity: Identity) -> dict[str, str]:
    """As the kubelet sets them, the two beta ones included."""
    return {
        "beta.kubernetes.io/arch": identity.architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": identity.architecture,
        "kubernetes.io/hostname": identity.name,
        "kubernetes.io/os": "linux",
    }


def new_node(identity: Identity, status: Mapping[str, Any]) -> dict[str, Any]:
    """The Node to register."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": identity.name,
            "labels": labels(identity),
            "annotations": {ANNOTATION: identity.instance_id},
        },
        "spec": {"taints": [dict(identity.taint)]} if identity.taint else {},
        "status": dict(status),
    }


def metadata_patch(identity: Identity, node: Mapping[str, Any]) -> dict[str, Any]:
    """What our labels and our annotation lack at the API server; {} for nothing."""
    found = node.get("metadata") or {}
    patch: dict[str, Any] = {}
    for field, wanted in (("labels", labels(identity)), ("annotations", {ANNOTATION: identity.instance_id})):
        held = found.get(field) or {}
        missing = {key: value for key, value in wanted.items() if held.get(key) != value}
        if missing:
            patch[field] = missing
    return patch


def taint_cure(identity: Identity, node: Mapping[str, Any]) -> str | None:
    """The kubectl line that makes a registered Node's taint what is configured: a node may not do that itself
    (NodeRestriction)."""
    key = identity.taint_key
    taints = (node.get("spec") or {}).get("taints") or []
    held = [taint for taint in taints if taint.get("key") == key]
    wanted = identity.taint
    if wanted is None:
        removals = " ".join(f"{key}:{taint.get('effect')}-" for taint in held)
        return f"kubectl taint nodes {identity.name} {removals}" if held else None
    if any((taint.get("value") or "", taint.get("effect")) == (wanted["value"], wanted["effect"]) for taint in held):
        return None
    return f"kubectl taint nodes {identity.name} --overwrite {key}={wanted['value']}:{wanted['effect']}"


def desired(identity: Identity, report: Report, prior: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The Node's status. prior: the API server's copy of it, {} for none; now: an RFC 3339 time."""
    value = report.value or {}
    status: dict[str, Any] = {field: value[field] for field in _COPIED if value.get(field)}
    advertised = _advertised(prior)
    for field in ("capacity", "allocatable"):
        if advertised and field in status:
            status[field] = {**advertised, **status[field]}
    if status.get("nodeInfo") and not status["nodeInfo"].get("kubeletVersion"):
        status["nodeInfo"] = {**status["nodeInfo"], "kubeletVersion": identity.version}
    if value:
        status["declaredFeatures"] = sorted({*(value.get("declaredFeatures") or ()), *_DECLARED})
    if value.get("images"):
        images = sorted(value["images"], key=lambda image: -int(image.get("sizeBytes") or 0))
        status["images"] = images[:MOST_IMAGES]
    status["addresses"] = [
        {"type": "InternalIP", "address": identity.address},
        {"type": "Hostname", "address": identity.name},
    ]
    status["daemonEndpoints"] = {"kubeletEndpoint": {"Port": identity.kubelet_port}}
    status["conditions"] = _conditions(report, prior.get("conditions") or [], now)
    return status


def _advertised(prior: Mapping[str, Any]) -> dict[str, Any]:
    """The extended resources that others have written into the Node's capacity, an administrator by a patch: they
    stay, and pods may have all of them."""
    held = prior.get("capacity") or {}
    return {name: amount for name, amount in held.items() if resources.is_extended(name) and amount is not None}


def _is_unheard(report: Report, prior: list[Mapping[str, Any]]) -> bool:
    """Whether nothing speaks yet against what the API server has: we have only just begun to listen."""
    return report.value is None and report.age <= SILENT_SECONDS and bool(prior)


def status_patch(
    desired: Mapping[str, Any], held: Mapping[str, Any], *, beat: bool, unkept: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The strategic merge patch from held to desired; {} where only heartbeats differ and no `beat` is due. unkept:
    fields that this API server is too old to keep, sent with a beat only."""
    patch: dict[str, Any] = {}
    for field in _LISTS:
        if field in desired and plain(desired[field]) != plain(held.get(field)):
            patch[field] = desired[field]
    for field in _MAPS:
        old, new = held.get(field) or {}, desired.get(field)
        if new is not None:
            changed = {key: value for key, value in new.items() if plain(old.get(key)) != plain(value)}
            gone = dict.fromkeys(key for key in old if key not in new and plain(old[key]) is not None)
            patch |= {field: {**changed, **gone}} if changed or gone else {}
    if not beat:
        patch = {field: value for field, value in patch.items() if field not in unkept}
    if _addresses(desired) - _addresses(held) or _of_our_types(held) - _addresses(desired):
        foreign = [item for item in held.get("addresses") or [] if item.get("type") not in ("InternalIP", "Hostname")]
        patch["addresses"] = [*desired["addresses"], *foreign, {"$patch": "replace"}]
    changed_conditions = [
        item for item in desired["conditions"] if _content(item) != _content(_held(held, item["type"]))
    ]
    if patch or changed_conditions or beat:
        patch["conditions"] = desired["conditions"]
    return patch


def _conditions(report: Report, prior: list[Mapping[str, Any]], now: str) -> list[dict[str, Any]]:
    source = prior if _is_unheard(report, prior) else (report.value or {}).get("conditions") or []
    told = {item.get("type"): item for item in source}
    held = {item.get("type"): item for item in prior}
    conditions = []
    for kind in OWN_CONDITIONS:
        found = dict(told.get(kind) or {"type": kind, "status": "Unknown", "reason": "NotReported", "message": ""})
        if kind == "Ready" and source is not prior:
            found = ready(report, found)
        elif kind not in told:
            found["message"] = "the runtime provider has not reported this"
        same = held.get(kind, {}).get("status") == found.get("status")
        since = held.get(kind, {}).get("lastTransitionTime") if same else None
        conditions.append(
            {
                "type": kind,
                "status": found.get("status", "Unknown"),
                "reason": found.get("reason", ""),
                "message": found.get("message", ""),
                "lastHeartbeatTime": now,
                "lastTransitionTime": since or now,
            }
        )
    return conditions


def ready(report: Report, told: Mapping[str, Any]) -> dict[str, Any]:
    """Ready as the provider told it, or False with the reason why that is not to be believed."""
    reason = message = ""
    if report.value is None:
        reason, message = "ProviderNotStarted", "the runtime provider (cri-bridge) has not reported yet"
    elif report.age > SILENT_SECONDS:
        reason = "ProviderSilent"
        message = f"the runtime provider (cri-bridge) has not reported for more than {SILENT_SECONDS:g} s"
    elif report.relist_age is not None and report.relist_age > RELIST_SECONDS:
        reason = "RuntimeNotRead"
        message = f"the runtime provider (cri-bridge) has not read its runtime for more than {RELIST_SECONDS:g} s"
    if reason:
        return {"type": "Ready", "status": "False", "reason": reason, "message": message}
    return dict(told)


def _held(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((item for item in status.get("conditions") or [] if item.get("type") == kind), {})


def _content(condition: Mapping[str, Any]) -> Any:
    return plain({key: condition.get(key) for key in ("type", "status", "reason", "message")})


def _addresses(status: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(item.get("type", ""), item.get("address", "")) for item in status.get("addresses") or []}


def _of_our_types(status: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {address for address in _addresses(status) if address[0] in ("InternalIP", "Hostname")}
