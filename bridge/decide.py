"""What to do next for a pod: decide(desired, prior, observed, now) -> actions. Pure; the kubelet's computePodActions.

A pod has three ways: it runs (`_run`), it has come to its end by itself (`_end` with its API object still there:
containers stay for their logs), or it is deleted (`_end`, and once the object is gone everything is removed). Whatever
is decided again before it was done is decided the same, so a lost or repeated step is harmless. Nothing is decided
twice while it is under way (`prior.busy`), save a stop with a shorter grace.
"""

from collections.abc import Iterable, Mapping

from bridge import outcome, resizing, restarting
from bridge.actions import (
    REFRESH,
    RESET,
    RESIZE,
    SANDBOX,
    START,
    Action,
    BackOff,
    CancelStarts,
    Desired,
    Forget,
    Prior,
    Problem,
    RefreshVolumes,
    RemoveAll,
    RemoveContainer,
    ResetContainers,
    ResizePod,
    RunSandbox,
    StartContainer,
    StopContainer,
    TearDown,
    Wait,
)
from bridge.lives import Life, initialized, lives
from bridge.observe import Container, Observed, Sandbox
from bridge.resizing import RESTART
from bridge.spec import names
from bridge.wire.words import duration
from vkcri.api import pods

MINIMUM_GRACE = 2.0
"""Seconds between TERM and KILL that every container gets, whatever the grace (the kubelet's minimum)."""
_SHORTER = 0.5  # seconds that a new grace must save to be worth another call
CHANGED = "definition changed"
_FAILED = "failed {} probe"


def decide(desired: Desired, prior: Prior, observed: Observed, now: float) -> list[Action]:
    """The next actions, all of which may begin at once. Empty: everything is as it should be. Wait: look again then."""
    all_lives = lives(desired.pod, prior, observed)
    if ending(desired) or outcome.outcome(desired, prior, observed, all_lives, now) is not None:
        return _end(desired, prior, observed, all_lives, now)
    again = restarting.wanted(desired.pod, prior, all_lives)
    remains = restarting.remains(desired.pod, observed) if again else ()
    if remains:
        return _deadline(desired, prior, now) + _reset(remains, prior, now)
    return _deadline(desired, prior, now) + _run(desired, prior, observed, all_lives, now)


def ending(desired: Desired) -> bool:
    """Whether the pod is being deleted."""
    return desired.gone or pods.deletion_timestamp(desired.pod) is not None


def grace(desired: Desired) -> float:
    """Seconds that the pod's containers have for their end: the deletion's own, else the spec's; at least 1."""
    metadata, spec = desired.pod["metadata"], pods.spec(desired.pod)
    chosen = metadata.get("deletionGracePeriodSeconds") or spec.get("terminationGracePeriodSeconds")
    return float(max(1, pods.DEFAULT_GRACE if chosen is None else chosen))


def usable(desired: Desired, observed: Observed) -> Sandbox | None:
    """The sandbox that containers may be started in; None where a new one is needed (PodSandboxChanged)."""
    return None if unusable(desired, observed) else observed.sandbox


def unusable(desired: Desired, observed: Observed) -> str:
    """Why a new sandbox is needed, in the kubelet's words; empty where the newest one will do."""
    newest = observed.sandbox
    if newest is None:
        return "no pod sandbox exists"
    if sum(item.ready for item in observed.sandboxes) > 1:
        return "multiple pod sandboxes are ready and need to be reconciled"
    if not newest.ready:
        return "pod sandbox is not ready"
    if newest.host_network != pods.host_network(desired.pod):
        return "network namespace mode changed and sandbox needs to be recreated"
    return "" if newest.host_network or newest.ips else "pod sandbox has no IP address"


def _deadline(desired: Desired, prior: Prior, now: float) -> list[Action]:
    """Look again when activeDeadlineSeconds is over."""
    until = outcome.deadline(desired.pod, prior.status)
    return [Wait(until)] if until is not None and until > now else []


def _reset(remains: tuple[Container, ...], prior: Prior, now: float) -> list[Action]:
    """Kill and remove all, once nothing else is under way."""
    if prior.busy & {START, SANDBOX}:
        return [CancelStarts()]
    if prior.busy - {REFRESH}:
        return []
    return _once(ResetContainers(tuple(item.id for item in remains)), prior, now)


def _run(desired: Desired, prior: Prior, observed: Observed, all_lives: tuple[Life, ...], now: float) -> list[Action]:
    if SANDBOX in prior.busy:
        return []
    sandbox = usable(desired, observed)
    if sandbox is None:
        return _replace_sandbox(desired, prior, observed, now)
    actions = _refresh(prior, now)
    actions += _stale(prior, all_lives, now)
    actions += _unfit(desired, prior, all_lives, now)
    resize = _resize(desired, prior, all_lives, now)
    actions += resize
    if not desired.may_create or START in prior.busy or _holds_up(resize, prior):
        return actions
    for life in _startable(all_lives, sandbox.id):
        action = _start(desired, life, prior, sandbox, now)
        actions.append(action)
        if isinstance(action, StartContainer):
            break
    return actions


def _refresh(prior: Prior, now: float) -> list[Action]:
    if prior.refresh_at is None or REFRESH in prior.busy:
        return []
    due = max(prior.refresh_at, prior.retry.get(REFRESH, 0.0))
    return [RefreshVolumes()] if due <= now else [Wait(due)]


def _replace_sandbox(desired: Desired, prior: Prior, observed: Observed, now: float) -> list[Action]:
    """A new sandbox, once nothing runs in the old ones."""
    if observed.alive:
        return _stops(desired, prior, observed.alive, now)
    if not desired.may_create or START in prior.busy:
        return []
    if prior.retry.get(SANDBOX, 0.0) > now:
        return [Wait(prior.retry[SANDBOX])]
    attempt = max((item.attempt for item in observed.sandboxes), default=-1) + 1
    return [RunSandbox(attempt, tuple(item.id for item in observed.sandboxes))]


def _stale(prior: Prior, all_lives: tuple[Life, ...], now: float) -> list[Action]:
    """Remove what a process that died had created and not started: it does not count as a run."""
    if START in prior.busy:
        return []
    made = [item for life in all_lives for item in life.made]
    return [action for item in made for action in _once(RemoveContainer(item.id, item.name), prior, now)]


def _unfit(desired: Desired, prior: Prior, all_lives: tuple[Life, ...], now: float) -> list[Action]:
    """Stop what runs by another definition (an image changed in place) or has failed a startup or liveness probe; init
    containers that run are left to end."""
    unfit = {life.name: why for life in all_lives if life.state == "running" and (why := _why_unfit(life))}
    found: list[Action] = []
    for life in all_lives:
        if life.name not in unfit or life.run is None:
            continue
        stop = _stop_unfit(desired, life, life.run.id, unfit[life.name], _keeps_pod(all_lives, unfit))
        found += _once(stop, prior, now)
    return found


def _why_unfit(life: Life) -> str:
    """Why it may not go on, in the kubelet's order; empty where it may."""
    failed = [kind for kind in ("startup", "liveness") if getattr(life.probed, kind) is False]
    if life.kind == "sidecar" and "startup" in failed:
        return _FAILED.format("startup")
    if life.kind in ("container", "sidecar"):
        if life.changed:
            return CHANGED
        return _FAILED.format(failed[-1]) if failed else ""
    return ""


def _keeps_pod(all_lives: tuple[Life, ...], unfit: Mapping[str, str]) -> bool:
    """Whether an ordinary container goes on or is started anew once what is unfit was stopped."""
    return any(
        life.wants_start or (life.state == "running" and (life.name not in unfit or _restarts(life, unfit[life.name])))
        for life in all_lives
        if life.kind == "container"
    )


def _restarts(life: Life, why: str) -> bool:
    """By its policy alone: what is stopped has no exit code yet that a rule could speak of."""
    return why == CHANGED or life.policy != "Never"


def _stop_unfit(desired: Desired, life: Life, run: str, why: str, keeps_pod: bool) -> StopContainer:
    """With the event's message, and the probe's own grace where it has one. Where it ends the pod, it is stopped as all
    of a pod is."""
    if life.kind == "sidecar":
        message = f"Init container {life.name} {why}"
    elif not keeps_pod:
        return StopContainer(run, life.name, max(MINIMUM_GRACE, grace(desired)))
    else:
        message = f"Container {life.name} {why}" + (", will be restarted" if _restarts(life, why) else "")
    seconds = grace(desired)
    for field, kind in (("startupProbe", "startup"), ("livenessProbe", "liveness")):
        if why == _FAILED.format(kind):
            seconds = float((life.spec.get(field) or {}).get("terminationGracePeriodSeconds") or seconds)
    replace = life.kind == "sidecar" or _restarts(life, why)
    return StopContainer(run, life.name, max(MINIMUM_GRACE, seconds), message, replace=replace)


def _resize(desired: Desired, prior: Prior, all_lives: tuple[Life, ...], now: float) -> list[Action]:
    """Bring what runs to what was granted: first stop the containers whose policy wants a restart, then change the
    pod's cgroup and the others'."""
    restarts = resizing.restarts(desired.pod, all_lives)
    if restarts:
        found: list[Action] = []
        for life in restarts:
            if life.run and not _why_unfit(life):
                stop = StopContainer(life.run.id, life.name, grace(desired), RESTART.format(life.name), replace=True)
                found += _once(stop, prior, now)
        return found
    updates = resizing.updates(desired.pod, prior, all_lives)
    if RESIZE in prior.busy or not (updates or resizing.pod_differs(desired.pod, prior)):
        return []
    retry = prior.retry.get(RESIZE, 0.0)
    return [Wait(retry)] if retry > now else [ResizePod(tuple(life.name for life in updates))]


def _holds_up(resize: list[Action], prior: Prior) -> bool:
    """Whether a start waits for a resize, in whose cgroup it is to fit. One that has just failed holds up nothing."""
    return RESIZE in prior.busy or any(isinstance(action, ResizePod) for action in resize)


def _startable(all_lives: tuple[Life, ...], sandbox_id: str) -> list[Life]:
    """The containers that should start now, in order: ephemeral ones, those of the init phase, or all ordinary ones."""
    found = [life for life in all_lives if life.kind == "ephemeral" and life.wants_start and not life.made]
    if initialized(all_lives, sandbox_id):
        wanted = [life for life in all_lives if life.kind == "sidecar" and _dead(life, sandbox_id)]
        wanted += [life for life in all_lives if life.kind == "container" and life.wants_start]
    else:
        wanted = _init_phase(all_lives, sandbox_id)
    return found + [life for life in wanted if not life.made]


def _init_phase(all_lives: tuple[Life, ...], sandbox_id: str) -> list[Life]:
    """Sidecars of before that have died, and the first init container that has not done its part, unless it runs."""
    found: list[Life] = []
    for life in all_lives:
        if life.kind == "sidecar":
            if _dead(life, sandbox_id):
                found.append(life)
            if not (life.in_sandbox(sandbox_id) and life.state == "running" and life.started):
                break
        elif life.kind == "init":
            if life.in_sandbox(sandbox_id) and life.succeeded:
                continue
            if not (life.in_sandbox(sandbox_id) and life.state == "running"):
                found.append(life)
            break
    return found


def _dead(life: Life, sandbox_id: str) -> bool:
    return not (life.in_sandbox(sandbox_id) and life.state == "running")


def _start(desired: Desired, life: Life, prior: Prior, sandbox: Sandbox, now: float) -> Action:
    """Start it, or wait: for its crash back-off, or for the retry after a start that failed."""
    retry, until = max(prior.retry.get(life.name, 0.0), life.settled_at), life.backoff_until
    if until > now and until >= retry and life.run is not None:
        of = f"restarting failed container={life.name} pod={names.describe(desired.pod)}"
        problem = Problem("CrashLoopBackOff", f"back-off {duration(life.run.backoff)} {of}")
        known = prior.problems.get(life.name) == problem
        return Wait(until) if known else BackOff(life.name, until, problem)
    if retry > now:
        return Wait(retry)
    return StartContainer(life.name, sandbox.id, life.next_count, life.next_backoff)


def _end(desired: Desired, prior: Prior, observed: Observed, all_lives: tuple[Life, ...], now: float) -> list[Action]:
    """Stop containers, then sandboxes, then volumes and cgroup; with the API object gone, remove all and forget."""
    starting = prior.busy & {START, SANDBOX}
    actions: list[Action] = [CancelStarts()] if starting else []
    if observed.alive:
        return actions + _ordered_stops(desired, prior, observed, all_lives, now)
    if starting or prior.busy & {REFRESH, RESET}:
        return actions
    sandboxes = tuple(item.id for item in observed.sandboxes)
    if not prior.down or any(item.ready for item in observed.sandboxes):
        return _once(TearDown(sandboxes), prior, now)
    if not desired.gone:
        return []
    containers = tuple(item.id for item in observed.containers)
    return _once(RemoveAll(containers, sandboxes), prior, now) if sandboxes or containers else [Forget()]


def _ordered_stops(
    desired: Desired, prior: Prior, observed: Observed, all_lives: tuple[Life, ...], now: float
) -> list[Action]:
    """All at once, save sidecars: they end after the others, the last one first. One grace holds for all of it."""
    order = {life.name: index for index, life in enumerate(all_lives) if life.kind == "sidecar"}
    alive = observed.alive
    batch = [item for item in alive if item.name not in order]
    if not batch:
        last = max(order[item.name] for item in alive)
        batch = [item for item in alive if order[item.name] == last]
    return _stops(desired, prior, batch, now)


def _stops(desired: Desired, prior: Prior, batch: Iterable[Container], now: float) -> list[Action]:
    """Stop each by the pod's grace, which counts from the first stop; again only where the grace has become shorter."""
    begun = [until for container, until in prior.stopping.items() if container not in prior.apart]
    seconds = grace(desired) if prior.eviction is None else min(grace(desired), prior.eviction.grace)
    deadline = min([now + seconds, *begun])
    found: list[Action] = []
    for item in batch:
        stop = StopContainer(item.id, item.name, max(MINIMUM_GRACE, deadline - now))
        if stop.key not in prior.busy:
            found += _once(stop, prior, now)
        elif prior.stopping.get(item.id, 0.0) > now + stop.grace + _SHORTER:
            found.append(stop)
    return found


def _once(
    action: TearDown | RemoveAll | RemoveContainer | ResetContainers | StopContainer, prior: Prior, now: float
) -> list[Action]:
    """The action, unless it is under way or has just failed."""
    if action.key in prior.busy:
        return []
    retry = prior.retry.get(action.key, 0.0)
    return [Wait(retry)] if retry > now else [action]
