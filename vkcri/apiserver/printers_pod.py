"""A pod's row in `kubectl get pods`: Ready, Status, Restarts and, wide, where it runs.

Pure. The Status cell is a word derived from phase, reasons and container states in the order that Kubernetes'
pkg/printers/internalversion has it: the pod's reason, then the first init container that is not done, then the last
container that waits or ended, then the deletion.
"""

from collections.abc import Mapping
from typing import Any, Final

from vkcri.api import times
from vkcri.apiserver.cells import AGE, NAME, NONE, Column, Object, Printer, created, duration, name_of

_COMPLETED: Final = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def cells(pod: Object, now: float) -> list[Any]:
    """The cells in the order of PRINTER's columns."""
    status, spec = pod.get("status") or {}, pod.get("spec") or {}
    gates = spec.get("readinessGates") or []
    return [
        name_of(pod),
        f"{_ready(pod)}/{_total(pod)}",
        reason(pod),
        _restarts(pod, now),
        created(pod, now),
        ((status.get("podIPs") or [{}])[0].get("ip") or status.get("podIP")) or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        f"{sum(_is_true(status, gate.get('conditionType')) for gate in gates)}/{len(gates)}" if gates else NONE,
    ]


def reason(pod: Object) -> str:
    """The Status cell."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    word = status.get("reason") or status.get("phase") or "Unknown"
    gated = _condition(status, "PodScheduled")
    if gated and gated.get("reason") == "SchedulingGated":
        word = "SchedulingGated"
    initialising = _init_reason(pod)
    if initialising is not None and not _is_true(status, "Initialized"):
        word = initialising
    elif initialising is None or _is_true(status, "Initialized"):
        word = _container_reason(status, word)
    if metadata.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            return "Unknown"
        if status.get("phase") not in ("Succeeded", "Failed"):
            return "Terminating"
    return str(word)


def _init_reason(pod: Object) -> str | None:
    """What the first init container that is not done is about; None where all are done."""
    declared = (pod.get("spec") or {}).get("initContainers") or []
    sidecars = {item.get("name") for item in declared if item.get("restartPolicy") == "Always"}
    for index, item in enumerate((pod.get("status") or {}).get("initContainerStatuses") or []):
        state = item.get("state") or {}
        ended, waiting = state.get("terminated"), state.get("waiting") or {}
        if ended is not None and not ended.get("exitCode"):
            continue
        if item.get("name") in sidecars and item.get("started"):
            continue
        if ended is not None:
            return "Init:" + (ended.get("reason") or _exit(ended))
        if waiting.get("reason") and waiting["reason"] != "PodInitializing":
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{len(declared)}"
    return None


def _container_reason(status: Object, word: str) -> str:
    """The word that the containers' states give, else `word`."""
    running = False
    for item in reversed(status.get("containerStatuses") or []):
        state = item.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            word = waiting["reason"]
        elif ended is not None:
            word = ended.get("reason") or _exit(ended)
        elif item.get("ready") and state.get("running") is not None:
            running = True
    if word == "Completed" and running:
        return "Running" if _is_true(status, "Ready") else "NotReady"
    return word


def _exit(ended: Mapping[str, Any]) -> str:
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _sidecar_names(pod: Object) -> set[str]:
    declared = (pod.get("spec") or {}).get("initContainers") or []
    return {item.get("name", "") for item in declared if item.get("restartPolicy") == "Always"}


def _counted(pod: Object) -> list[Mapping[str, Any]]:
    """The statuses of what counts as a container: sidecars too."""
    status, sidecars = pod.get("status") or {}, _sidecar_names(pod)
    inits = [item for item in status.get("initContainerStatuses") or [] if item.get("name") in sidecars]
    return inits + list(status.get("containerStatuses") or [])


def _total(pod: Object) -> int:
    return len((pod.get("spec") or {}).get("containers") or []) + len(_sidecar_names(pod))


def _ready(pod: Object) -> int:
    sidecars = _sidecar_names(pod)
    return sum(
        bool(item.get("ready"))
        and ((item.get("state") or {}).get("running") is not None or (item.get("name") in sidecars and item["started"]))
        for item in _counted(pod)
    )


def _restarts(pod: Object, now: float) -> str:
    """How often containers were started again, and how long ago the last ended; init containers until they are done."""
    status = pod.get("status") or {}
    shown = _counted(pod)
    if _init_reason(pod) is not None and not _is_true(status, "Initialized"):
        shown = list(status.get("initContainerStatuses") or [])
    count = sum(item.get("restartCount", 0) for item in shown)
    ends = [((item.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for item in shown]
    known = [times.to_epoch(end) for end in ends if end]
    return f"{count} ({duration(now - max(known))} ago)" if count and known else str(count)


def _condition(status: Object, type_: str | None) -> Mapping[str, Any] | None:
    return next((item for item in status.get("conditions") or [] if item.get("type") == type_), None)


def _is_true(status: Object, type_: str | None) -> bool:
    found = _condition(status, type_)
    return found is not None and found.get("status") == "True"


def _conditions(pod: Object) -> list[dict[str, Any]]:
    """A row's own condition: kubectl can leave out what has completed."""
    phase = (pod.get("status") or {}).get("phase")
    if phase not in _COMPLETED:
        return []
    return [{"type": "Completed", "status": "True", "reason": phase, "message": _COMPLETED[phase]}]


PRINTER: Final = Printer(
    (
        NAME,
        Column("Ready", "containers that are ready, of all"),
        Column("Status", "what it is doing"),
        Column("Restarts", "how often its containers were started again, and when last"),
        AGE,
        Column("IP", "its address", 1),
        Column("Node", "where it runs", 1),
        Column("Nominated Node", "where it may run once others have made room", 1),
        Column("Readiness Gates", "readiness gates that are true, of all", 1),
    ),
    cells,
    _conditions,
)
