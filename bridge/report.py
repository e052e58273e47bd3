"""A pod's status from its containers' lives: report(desired, prior, observed, now) -> PodStatus. Pure.

The kubelet's generateAPIPodStatus and its status manager are the specification. Phase and conditions are derived here
and stored nowhere:

    Pending --(every container has started once)--> Running --(all ended, none restarts)--> Succeeded | Failed

A terminal phase is shown only once nothing of the pod runs, and is never left. A status that was refused at admission
is `rejected`, which needs no observation.
"""

from collections.abc import Mapping
from typing import Any

from bridge import conditions, granted, resizing, restarting
from bridge.actions import SANDBOX, START, Desired, Prior
from bridge.decide import ending, unusable
from bridge.lives import REMOVED, Life, lives
from bridge.observe import Container, Observed
from bridge.outcome import Outcome, outcome, phase_of_ended
from vkcri.api import pods, times

RUNTIME = "containerd"
POD_MESSAGE_BYTES = 12 * 1024
"""Of all termination messages of a pod together, divided among its containers."""
LOST_TERMINATED = "The container could not be located when the pod was terminated"
LOST_DELETED = "The container could not be located when the pod was deleted.  The container used to be Running"
REMOVED_MESSAGE = "The container is removed because RestartAllContainers in place"
Status = dict[str, Any]


def report(desired: Desired, prior: Prior, observed: Observed, now: float) -> Status:
    """The pod's PodStatus as it is to stand at the API server. now: seconds since the epoch."""
    all_lives = lives(desired.pod, prior, observed)
    end = outcome(desired, prior, observed, all_lives, now)
    is_ending = ending(desired) or end is not None
    over = is_ending and not observed.alive and not prior.busy & {SANDBOX, START}
    stamp = times.seconds(times.of(now))
    status = _base(desired, prior, observed, stamp)
    shown = {
        "initContainerStatuses": [life for life in all_lives if life.kind in ("init", "sidecar")],
        "containerStatuses": [life for life in all_lives if life.kind == "container"],
        "ephemeralContainerStatuses": [life for life in all_lives if life.kind == "ephemeral"],
    }
    waiting = "PodInitializing" if shown["initContainerStatuses"] else "ContainerCreating"
    for field, of_kind in shown.items():
        if of_kind:
            status[field] = [_container(life, prior, waiting, is_ending) for life in of_kind]
            if field != "initContainerStatuses":
                status[field].sort(key=lambda item: item["name"])
    if over:
        _close(status, desired.pod)
    _limit_messages(status, len(all_lives))
    _set_phase(status, desired, prior, end, all_lives, over)
    status.update(granted.of_pod(desired.pod, prior, running=status["phase"] == "Running"))
    eviction = prior.eviction
    disrupted = (eviction.disruption or eviction.message) if eviction is not None and eviction.disrupts else ""
    own = conditions.conditions(
        desired.pod,
        prior.status,
        status,
        sandbox_trouble=unusable(desired, observed),
        now=stamp,
        disrupted=disrupted if over else "",
        restart=restarting.condition(desired.pod, prior, observed, all_lives, status["phase"]),
    )
    resize = [] if pods.is_terminal(status) else resizing.conditions(prior.notes)
    status["conditions"] = own + resize
    return status


def rejected(desired: Desired, prior: Prior, reason: str, message: str, now: float) -> Status:
    """The status of a pod that was not admitted: Failed, and nothing of it was ever made."""
    status = _base(desired, prior, Observed(), times.seconds(times.of(now)))
    kept = (prior.status or pods.status(desired.pod)).get("conditions")
    if kept:
        status["conditions"] = kept
    return {**status, "phase": "Failed", "reason": reason, "message": f"Pod was rejected: {message}"}


def finished(desired: Desired, prior: Prior, observed: Observed, status: Mapping[str, Any]) -> bool:
    """Whether nothing of the pod is left on the guest but its ended containers, kept for their logs."""
    quiet = not observed.alive and not any(item.ready for item in observed.sandboxes) and not prior.busy
    return quiet and prior.down and (pods.is_terminal(status) or ending(desired))


def _base(desired: Desired, prior: Prior, observed: Observed, stamp: str) -> Status:
    """What does not depend on containers. Addresses once had are kept, as the kubelet keeps those of an ended pod."""
    pod = desired.pod
    known = prior.status or pods.status(pod)
    status: Status = {
        "startTime": known.get("startTime") or stamp,
        "qosClass": known.get("qosClass") or pods.qos_class(pod),
    }
    if pod["metadata"].get("generation"):
        status["observedGeneration"] = pod["metadata"]["generation"]
    if desired.host_ips:
        status["hostIP"] = desired.host_ips[0]
        status["hostIPs"] = [{"ip": address} for address in desired.host_ips]
    addresses = _addresses(desired, observed) or [item["ip"] for item in known.get("podIPs") or []]
    if addresses:
        status["podIP"] = addresses[0]
        status["podIPs"] = [{"ip": address} for address in addresses]
    for carried in ("nominatedNodeName", "resourceClaimStatuses"):
        if known.get(carried):
            status[carried] = known[carried]
    return status


def _addresses(desired: Desired, observed: Observed) -> list[str]:
    if pods.host_network(desired.pod):
        return list(desired.host_ips)
    newest = observed.sandbox
    return list(newest.ips) if newest and newest.ready else []


def _container(life: Life, prior: Prior, waiting: str, is_ending: bool) -> Status:
    """One ContainerStatus."""
    state, last = _states(life, prior, waiting, is_ending)
    running = "running" in state
    started = running and life.started
    ended_well = (state.get("terminated") or {}).get("exitCode", 1) == 0
    ready = ended_well if life.kind == "init" else started and life.ready
    status: Status = {
        "name": life.name,
        "state": state,
        "lastState": last,
        "ready": ready,
        "restartCount": _restart_count(life),
        "image": str(life.spec.get("image") or ""),
        "imageID": "",
        "started": started,
    }
    if life.remembered:
        status.update({key: life.prior[key] for key in ("image", "imageID", "containerID") if life.prior.get(key)})
    elif life.run is not None:
        status.update(image=life.run.image, imageID=life.run.image_ref, containerID=container_id(life.run))
    return {**status, **granted.of_container(life, prior), **_mounts(life)}


def _mounts(life: Life) -> Status:
    """As they were asked for, which is what the container has got."""
    mounts = []
    for mount in life.spec.get("volumeMounts") or []:
        shown = {"name": mount["name"], "mountPath": mount["mountPath"]}
        if mount.get("readOnly"):
            shown |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
        mounts.append(shown)
    return {"volumeMounts": mounts} if mounts else {}


def _restart_count(life: Life) -> int:
    if life.removed:
        return life.removed_count
    if life.remembered or life.run is None:
        return int(life.prior.get("restartCount") or 0)
    return life.run.restart_count


def _states(life: Life, prior: Prior, waiting: str, is_ending: bool) -> tuple[Status, Status]:
    """(state, lastState)."""
    state, last = _own_states(life, waiting, is_ending)
    problem = prior.problems.get(life.name)
    if problem is None or is_ending or not life.wants_start:
        return state, last
    if "terminated" in state:
        last = state
    return {"waiting": {"reason": problem.reason, "message": problem.message}}, last


def _own_states(life: Life, waiting: str, is_ending: bool) -> tuple[Status, Status]:
    """By the lives alone, without what keeps a start from happening."""
    default = {"waiting": {"reason": waiting}}
    carried = dict(life.prior.get("lastState") or {})
    if life.just_removed:
        waits = {"reason": REMOVED, "message": REMOVED_MESSAGE}
        return {"waiting": waits}, {"terminated": {**waits, "exitCode": 137, "startedAt": None, "finishedAt": None}}
    if life.lost:
        restarts = life.wants_start and not is_ending
        gone = {"terminated": _unknown(LOST_DELETED if restarts else LOST_TERMINATED, life.prior)}
        return (default, gone) if restarts else (gone, carried)
    if life.remembered:
        state = dict(life.prior.get("state") or {})
        return (state if "terminated" in state else default), carried
    if life.run is None:
        return default, carried
    own: Status
    if life.run.alive:
        own = {"running": {"startedAt": times.seconds(life.run.started_at or life.run.created_at)}}
    else:
        own = {"terminated": _terminated(life.run)}
    return own, _last_state(life, life.run)


def _last_state(life: Life, run: Container) -> Status:
    """How the run before this one ended: by CRI, else as remembered."""
    if life.previous is not None and life.previous.state == "exited":
        return {"terminated": _terminated(life.previous)}
    if int(life.prior.get("restartCount") or 0) == run.restart_count:
        return dict(life.prior.get("lastState") or {})
    state = life.prior.get("state") or {}
    if "terminated" in state:
        return {"terminated": state["terminated"]}
    if "running" in state:
        return {"terminated": _unknown(LOST_DELETED, life.prior)}
    return dict(life.prior.get("lastState") or {})


def _terminated(run: Container) -> Status:
    """A ContainerStateTerminated. CRI's reasons are the kubelet's; where CRI gives none, the exit code says it."""
    found: Status = {
        "exitCode": run.exit_code,
        "reason": run.reason or ("Completed" if run.exit_code == 0 else "Error"),
        "startedAt": times.seconds(run.started_at) if run.started_at > 0 else None,
        "finishedAt": times.seconds(run.finished_at) if run.finished_at > 0 else None,
        "containerID": container_id(run),
    }
    if run.message:
        found["message"] = run.message
    return found


def _unknown(message: str, status: Mapping[str, Any]) -> Status:
    found: Status = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message}
    started = ((status.get("state") or {}).get("running") or {}).get("startedAt")
    found |= {"startedAt": started if started else None, "finishedAt": None}
    if status.get("containerID"):
        found["containerID"] = status["containerID"]
    return found


def container_id(run: Container) -> str:
    return f"{RUNTIME}://{run.id}"


def _close(status: Status, pod: Mapping[str, Any]) -> None:
    """The pod is over: a container that should have run and did not is ContainerStatusUnknown (TerminatePod). Ordinary
    containers only once the init phase was over; init containers only up to the last one that has started."""
    init = status.get("initContainerStatuses") or []
    ordinary = status.get("containerStatuses") or []
    sidecars = {item["name"] for item in pods.spec(pod).get("initContainers") or [] if pods.is_sidecar(item)}
    done = not init or any(_evidence(item) for item in ordinary)
    done = done or all(item["ready"] or (item["name"] in sidecars and _evidence(item)) for item in init)
    begun = max((index for index, item in enumerate(init) if _evidence(item)), default=-1)
    for item in [*init[: begun + 1], *(ordinary if done else [])]:
        if "terminated" not in item["state"]:
            ended = {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": LOST_TERMINATED}
            item["state"] = {"terminated": {**ended, "startedAt": None, "finishedAt": None}}
            item["ready"] = item["started"] = False


def _evidence(status: Status) -> bool:
    """Whether the container has ever started."""
    return "waiting" not in status["state"] or bool(status["lastState"])


def _limit_messages(status: Status, containers: int) -> None:
    """Hold all termination messages of the pod together below 12 KiB."""
    most = POD_MESSAGE_BYTES // max(1, containers)
    for field in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for item in status.get(field) or []:
            for name in ("state", "lastState"):
                ended = item[name].get("terminated")
                if ended and len((ended.get("message") or "").encode()) > most:
                    cut = ended["message"].encode()[:most].decode(errors="ignore")
                    item[name] = {"terminated": {**ended, "message": cut}}


def _set_phase(
    status: Status, desired: Desired, prior: Prior, end: Outcome | None, all_lives: tuple[Life, ...], over: bool
) -> None:
    """The phase, with its reason and message. Until the pod is over it keeps the phase that it had."""
    ordinary = [life for life in all_lives if life.kind == "container"]
    known = prior.status or pods.status(desired.pod)
    if pods.is_terminal(known):
        status["phase"] = known["phase"]
    elif over:
        status["phase"] = end.phase if end else phase_of_ended(ordinary)
    elif end is not None:
        status["phase"] = known.get("phase") or "Pending"
    else:
        status["phase"] = _phase(status, desired.pod)
    if end is not None and over:
        found = {"reason": end.reason, "message": end.message}
    else:
        same = known.get("phase") == status["phase"]
        found = {name: str(known.get(name) or "") if same else "" for name in ("reason", "message")}
    problem = prior.problems.get("")
    if problem is not None and not over:
        found = {"reason": problem.reason, "message": problem.message}
    elif problem is None and not pods.is_terminal(status):
        found = {}
    status.update({name: text for name, text in found.items() if text})


def _phase(status: Status, pod: Mapping[str, Any]) -> str:
    """The phase of a pod that goes on (getPhase)."""
    sidecars = {item["name"] for item in pods.spec(pod).get("initContainers") or [] if pods.is_sidecar(item)}
    for item in status.get("initContainerStatuses") or []:
        if _holds_up(item, item["name"] in sidecars):
            return "Pending"
    ordinary = status.get("containerStatuses") or []
    if not ordinary or any(not _evidence(item) for item in ordinary):
        return "Pending"
    return "Running"


def _holds_up(status: Status, sidecar: bool) -> bool:
    """Whether this init container keeps the pod Pending: it has not been through once, or its sidecar has not
    started."""
    state = status["state"]
    if sidecar:
        return not status["started"] if "running" in state else "waiting" in state and not status["lastState"]
    return "running" in state or ("waiting" in state and not status["lastState"])
