"""The difference between a pod's status at the API server and the one reported here, as a strategic merge patch. Pure.

The rules are those of the kubelet's status_manager: the phase never leaves Succeeded or Failed; startTime and qosClass
stay as they were first set; a condition keeps its transition time while its status is the same; conditions of other
owners (readiness gates, the scheduler's, the disruption controller's) are never touched. "" and [] are what Go leaves
out when it writes JSON, so they count as absent on both sides, or one patch would follow another for ever.
"""

from collections.abc import Mapping
from typing import Any

from vkcri.api.pods import is_terminal

OWN_CONDITIONS = frozenset(
    (
        "PodScheduled",
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
        "PodResizePending",
        "PodResizeInProgress",
        "AllContainersRestarting",
    )
)
_REMOVABLE_CONDITIONS = OWN_CONDITIONS - {"PodScheduled"}
_DATED_BY_REASON = ("PodResizePending", "PodResizeInProgress")  # there only while True: a transition is a new reason
_CLEARED = ("reason", "message", "podIP", "podIPs", "resize")  # absent here means gone, not unknown
_MERGED_BY_IP = ("podIPs", "hostIPs")
_NOT_OURS = ("conditions", "resourceClaimStatuses", "nominatedNodeName")
_OMITTED_ZEROS = (("readOnly", False), ("signal", 0), ("observedGeneration", 0))  # Go: omitempty without a pointer
Status = Mapping[str, Any]


def status_patch(base: Status, reported: Status) -> dict[str, Any]:
    """The `status` of a strategic merge patch that makes base what is reported; {} where it is that already."""
    reported = _held_back(base, reported)
    patch: dict[str, Any] = {}
    for field in sorted({*reported, *_CLEARED} - {*_NOT_OURS}):
        value, old = reported.get(field), base.get(field)
        if plain(value) == plain(old):
            continue
        if plain(value) is None:
            if field in _CLEARED:
                patch[field] = None
        elif field in _MERGED_BY_IP:
            patch[field] = [*(value or []), {"$patch": "replace"}]
        else:
            patch[field] = _merging(value, old)
    conditions = _condition_patches(base.get("conditions") or [], reported.get("conditions") or [])
    return {**patch, "conditions": conditions} if conditions else patch


def plain(value: Any) -> Any:
    """The value without what Go's encoder leaves out, None for nothing: equal plain values are equal objects."""
    if isinstance(value, Mapping):
        kept = {key: plain(item) for key, item in value.items() if (key, item) not in _OMITTED_ZEROS}
        return {key: item for key, item in kept.items() if item is not None} or None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value] or None
    return None if value == "" else value


def _held_back(base: Status, reported: Status) -> dict[str, Any]:
    """What is reported, with what may not change any more as base has it."""
    kept = dict(reported)
    if is_terminal(base) and reported.get("phase") != base.get("phase"):
        for field in ("phase", "reason", "message"):
            kept[field] = base.get(field)
    for field in ("startTime", "qosClass"):
        if base.get(field):
            kept[field] = base[field]
    return kept


def _condition_patches(base: list[Status], reported: list[Status]) -> list[dict[str, Any]]:
    """Entries for a list that merges by type: changed ones whole, vanished ones of ours as deletions."""
    old = {str(condition.get("type")): condition for condition in base}
    new = {str(condition.get("type")): condition for condition in reported}
    patches: list[dict[str, Any]] = []
    for kind, condition in new.items():
        held = old.get(kind)
        if kind not in OWN_CONDITIONS and not _is_disruption(condition, held):
            continue
        wanted = dict(condition)
        same = held is not None and held.get("status") == condition.get("status")
        if held and same and held.get("lastTransitionTime") and kind not in _DATED_BY_REASON:
            wanted["lastTransitionTime"] = held["lastTransitionTime"]
        if _content(wanted) != _content(held or {}):
            patches.append(_whole(wanted, held or {}))
    gone = sorted(kind for kind in old if kind in _REMOVABLE_CONDITIONS and kind not in new)
    return patches + [{"$patch": "delete", "type": kind} for kind in gone]


def _is_disruption(condition: Status, held: Status | None) -> bool:
    """DisruptionTarget is set by whoever disrupts first, the kubelet's eviction included, and by nobody again."""
    return condition.get("type") == "DisruptionTarget" and held is None


def _content(condition: Status) -> Any:
    return plain({key: value for key, value in condition.items() if key != "lastProbeTime"})


def _merging(value: Any, old: Any) -> Any:
    """The value, with nulls for what the old one had in it: a merge of two objects would keep that."""
    if not isinstance(value, Mapping) or not isinstance(old, Mapping):
        return value
    gone = {key: None for key, item in old.items() if plain(item) is not None and plain(value.get(key)) is None}
    return {**{key: _merging(item, old.get(key)) for key, item in value.items()}, **gone}


def _whole(wanted: dict[str, Any], held: Status) -> dict[str, Any]:
    """The condition with nulls for the fields that it had and no longer has: a merge would keep them."""
    gone = {key: None for key, value in held.items() if plain(value) is not None and plain(wanted.get(key)) is None}
    return {**{key: value for key, value in wanted.items() if plain(value) is not None}, **gone}
