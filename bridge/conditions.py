"""The pod conditions that the kubelet owns, from container statuses and phase. Pure; the kubelet's status/generate.go.

A condition of another owner (a readiness gate) is kept as the API server has it, and so is DisruptionTarget, which is
whose who sets it first. lastTransitionTime
is carried over as long as a condition's status stays the same.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from bridge.allocation import IN_PROGRESS, PENDING
from bridge.lives import RESTARTING
from vkcri.api import pods

OWNED = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled", RESTARTING)
REPORTED = (*OWNED, PENDING, IN_PROGRESS)
"""All that are ours alone, those of a resize too."""
DISRUPTED, BY_KUBELET = "DisruptionTarget", "TerminationByKubelet"
"""Whose who sets it first; ours has this reason."""
Status = Mapping[str, Any]


def conditions(
    pod: Mapping[str, Any],
    prior: Status,
    status: Status,
    *,
    sandbox_trouble: str,
    now: str,
    disrupted: str = "",
    restart: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """status: the new PodStatus, complete but for its conditions; sandbox_trouble: why it has no sandbox to start
    containers in; prior: the one before; now: RFC 3339; disrupted: why
    the node has ended the pod for its own sake, which is told unless somebody has told another reason; restart: the
    condition of a restart of all containers, for a pod that may have one."""
    listed = pods.status(pod).get("conditions") or []
    foreign = [dict(item) for item in listed if item.get("type") not in REPORTED]
    containers_ready = _containers_ready(pod, status)
    own = [
        _condition("PodReadyToStartContainers", not sandbox_trouble, *_reason(sandbox_trouble)),
        _initialized(pod, prior, status),
        _ready(pod, containers_ready, foreign),
        _condition("ContainersReady", *containers_ready),
        _condition("PodScheduled", True),
    ]
    if disrupted and not any(item.get("type") == DISRUPTED for item in foreign):
        own.append(_condition(DISRUPTED, True, BY_KUBELET, disrupted))
    before = {item.get("type"): item for item in [*(pods.status(pod).get("conditions") or ()), *_listed(prior)]}
    generation = pod["metadata"].get("generation")
    dated = [_dated(item, before.get(item["type"]), generation, now) for item in own]
    if restart is not None:
        dated.append(_dated(dict(restart), before.get(RESTARTING), None, now))
    return foreign + dated


def _reason(trouble: str) -> tuple[str, str]:
    return ("PodSandboxNotReady", trouble) if trouble else ("", "")


def _listed(status: Status) -> list[Mapping[str, Any]]:
    return list(status.get("conditions") or ())


def _condition(kind: str, true: bool, reason: str = "", message: str = "") -> dict[str, Any]:
    found = {"type": kind, "status": "True" if true else "False", "reason": reason, "message": message}
    return {key: value for key, value in found.items() if value}


def _dated(item: dict[str, Any], before: Mapping[str, Any] | None, generation: Any, now: str) -> dict[str, Any]:
    """With its times; observedGeneration only where the pod has a generation."""
    same = before is not None and before.get("status") == item["status"]
    changed = (before or {}).get("lastTransitionTime") if same else None
    stamped = {"lastProbeTime": None, "lastTransitionTime": changed or now, **item}
    if generation:
        stamped["observedGeneration"] = generation
    return stamped


def _sort_out(names: Iterable[str], statuses: Mapping[str, Status], good: str) -> str:
    """What is missing, as the kubelet words it; "" where each named container has that field."""
    listed = list(names)
    unknown = [name for name in listed if name not in statuses]
    lacking = [name for name in listed if name in statuses and not _is_good(statuses[name], good)]
    word = "incomplete" if good == "complete" else "unready"
    parts = [f"containers with unknown status: [{' '.join(unknown)}]"] if unknown else []
    parts += [f"containers with {word} status: [{' '.join(lacking)}]"] if lacking else []
    return ", ".join(parts)


def _is_good(status: Status, good: str) -> bool:
    if good == "complete":
        return bool(status.get("started") if status.get("_sidecar") else status.get("ready"))
    return bool(status.get("ready"))


def _by_name(status: Status, field: str) -> dict[str, Status]:
    return {item["name"]: item for item in status.get(field) or []}


def _initialized(pod: Mapping[str, Any], prior: Status, status: Status) -> dict[str, Any]:
    """Once it was True it stays so, though init containers run again in a new sandbox or by a restart rule."""
    init = pods.spec(pod).get("initContainers") or []
    statuses = _by_name(status, "initContainerStatuses")
    for item in init:
        if item["name"] in statuses:
            statuses[item["name"]] = {**statuses[item["name"]], "_sidecar": pods.is_sidecar(item)}
    known = all(item["name"] in statuses for item in init)
    if status.get("phase") == "Succeeded" and known:
        return _condition("Initialized", True, "PodCompleted")
    if any(_has_started(item) for item in status.get("containerStatuses") or []):
        return _condition("Initialized", True)
    message = _sort_out((item["name"] for item in init), statuses, "complete")
    was = any(item.get("type") == "Initialized" and item.get("status") == "True" for item in _listed(prior))
    if message and not was:
        return _condition("Initialized", False, "ContainersNotInitialized", message)
    return _condition("Initialized", True)


def _has_started(status: Status) -> bool:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    return bool(state.get("running") or state.get("terminated") or last.get("terminated"))


def _containers_ready(pod: Mapping[str, Any], status: Status) -> tuple[bool, str, str]:
    """(true, reason, message) of ContainersReady, which Ready begins with."""
    sidecars = [item["name"] for item in pods.spec(pod).get("initContainers") or [] if pods.is_sidecar(item)]
    names = [*sidecars, *(item["name"] for item in pods.spec(pod).get("containers") or [])]
    statuses = {**_by_name(status, "initContainerStatuses"), **_by_name(status, "containerStatuses")}
    if not statuses:
        return (False, "PodFailed", "") if status.get("phase") == "Failed" else (False, "UnknownContainerStatuses", "")
    if status.get("phase") == "Succeeded" and all(name in statuses for name in names):
        return False, "PodCompleted", ""
    if status.get("phase") == "Failed":
        return False, "PodFailed", ""
    message = _sort_out(names, statuses, "ready")
    return (False, "ContainersNotReady", message) if message else (True, "", "")


def _ready(pod: Mapping[str, Any], containers: tuple[bool, str, str], foreign: list[dict[str, Any]]) -> dict[str, Any]:
    """Ready: all containers are, and every readiness gate's condition is True."""
    if not containers[0]:
        return _condition("Ready", *containers)
    known = {item.get("type"): item.get("status") for item in foreign}
    messages = []
    for gate in pods.spec(pod).get("readinessGates") or []:
        kind = gate.get("conditionType")
        if kind not in known:
            messages.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif known[kind] != "True":
            messages.append(f'the status of pod readiness gate "{kind}" is not "True", but {known[kind]}')
    if messages:
        return _condition("Ready", False, "ReadinessGatesNotReady", ", ".join(messages))
    return _condition("Ready", True)
