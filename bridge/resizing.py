"""A resize in place, from what was granted to what runs: what is due, in which order, and what is said about it. Pure.

The kubelet's computePodResizeAction, doPodResizeAction and its resize conditions. A running container is compared by
what CRI says of its cgroup; whether a policy wants a restart is compared by what the container was made with, which
stands in an annotation. So nothing is remembered of a resize but its two conditions, and those the API server has.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bridge.actions import Note, Notes, Prior
from bridge.admit import Refusal
from bridge.allocation import DEFERRED, IN_PROGRESS, PENDING, Allocation
from bridge.lives import Life
from bridge.spec.resources import Sizes, container_sizes, measured, pod_sizes
from vkcri.api import pods

Pod = Mapping[str, Any]
MADE_WITH = "vkcri/resources"
"""Annotation of ours on a container: `resources.measured` as JSON, what it was made with."""
RESTART = "Container {} resize requires restart"
RETRY = 180.0
"""Seconds between two looks at a resize that the node had no room for."""


@dataclass(frozen=True)
class Event:
    type: Literal["Normal", "Warning"]
    reason: str
    message: str


def notes_of(status: Mapping[str, Any]) -> Notes:
    """As a status has them, after a restart."""
    found = {item.get("type"): _note(item) for item in status.get("conditions") or []}
    return Notes(found.get(PENDING), found.get(IN_PROGRESS))


def conditions(notes: Notes) -> list[dict[str, Any]]:
    """As they stand in a PodStatus."""
    return [_condition(kind, note) for kind, note in ((PENDING, notes.pending), (IN_PROGRESS, notes.progress)) if note]


def asked(
    notes: Notes, pod: Pod, before: Allocation | None, granted: Allocation, refusal: Refusal | None, now: str
) -> tuple[Notes, list[Event]]:
    """After the node was asked for what the pod wants. before: what had been granted, None when nothing was known."""
    generation, events = _generation(pod), []
    if refusal is not None:
        old = notes.pending
        pending = Note(DEFERRED, refusal.message, generation, old.since if old and old.reason == DEFERRED else now)
        if old is None or (old.reason, old.generation) != (DEFERRED, generation):
            text = _told(f"Pod resize {refusal.reason}", pod, generation, refusal.message)
            events.append(Event("Warning", "ResizeDeferred", text))
        notes = replace(notes, pending=pending)
    else:
        notes = replace(notes, pending=None)
    if before is not None and granted != before:
        notes = replace(notes, progress=Note(generation=generation, since=now))
        events.append(Event("Normal", "ResizeStarted", _told("Pod resize started", pod, generation)))
    return notes, events


def looked(notes: Notes, pod: Pod, now: str, *, under_way: bool) -> tuple[Notes, list[Event]]:
    """After the pod was seen in CRI. pod: as it is granted."""
    if under_way:
        return replace(notes, progress=notes.progress or Note(generation=_generation(pod), since=now)), []
    if notes.progress is None:
        return notes, []
    text = _told("Pod resize completed", pod, notes.progress.generation)
    return replace(notes, progress=None), [Event("Normal", "ResizeCompleted", text)]


def failed(notes: Notes, pod: Pod, message: str, now: str) -> tuple[Notes, list[Event]]:
    """After it could not be carried out; it will be tried again."""
    old = notes.progress or Note(generation=_generation(pod))
    note = Note("Error", message, old.generation, old.since if old.reason == "Error" else now)
    if old == note:
        return notes, []
    text = _told("Pod resize error", pod, note.generation, message)
    return replace(notes, progress=note), [Event("Warning", "ResizeError", text)]


def restarts(pod: Pod, all_lives: Iterable[Life]) -> list[Life]:
    """The running containers whose policy wants a restart for what has changed."""
    return [life for life in _running(all_lives) if _needs_restart(pod, life)]


def updates(pod: Pod, prior: Prior, all_lives: Iterable[Life]) -> list[Life]:
    """The running containers whose cgroup is not what was granted and may be changed in place."""
    return [
        life
        for life in _running(all_lives)
        if not _needs_restart(pod, life) and differs(running_sizes(prior, life), container_sizes(pod, life.spec))
    ]


def pod_differs(pod: Pod, prior: Prior) -> bool:
    """Whether the pod's cgroup is not what was granted, as far as that is known."""
    return prior.pod_sized is not None and differs(prior.pod_sized, pod_sizes(pod))


def under_way(pod: Pod, prior: Prior, all_lives: tuple[Life, ...]) -> bool:
    """Whether what runs is not yet what was granted."""
    return bool(restarts(pod, all_lives) or updates(pod, prior, all_lives)) or pod_differs(pod, prior)


def running_sizes(prior: Prior, life: Life) -> Sizes | None:
    """What the container's cgroup is held to: by CRI, else by our last change of it; None where nobody knows."""
    if life.run is None:
        return None
    return life.run.sizes or prior.sized.get(life.run.id)


def differs(has: Sizes | None, wants: Sizes) -> bool:
    """A limit that is no longer wanted cannot be taken away in place, and is not asked for by anybody."""
    if has is None:
        return False
    pairs = ((has.quota, wants.quota), (has.memory, wants.memory))
    return has.shares != wants.shares or any(wanted is not None and held != wanted for held, wanted in pairs)


@dataclass(frozen=True)
class Change:
    """A container to be changed in place: from what it has to what it is to have."""

    id: str
    name: str
    has: Sizes
    wants: Sizes


@dataclass(frozen=True)
class Resized:
    """What an action has held the pod's cgroup to, and containers' by id."""

    pod: Sizes
    containers: Mapping[str, Sizes] = field(default_factory=dict)


@dataclass(frozen=True)
class PodStep:
    """Set one amount of the pod's cgroup."""

    amount: Literal["shares", "quota", "memory"]
    value: int


@dataclass(frozen=True)
class ContainerStep:
    """Set all of the container's amounts to these."""

    id: str
    name: str
    sizes: Sizes


def steps(has: Sizes, wants: Sizes, changes: Iterable[Change]) -> list[PodStep | ContainerStep]:
    """Memory, then CPU: the pod's cgroup grows before its containers do and shrinks after them, among the containers
    those that shrink come first, and a limit is never below its request on the way."""
    listed = list(changes)
    memory = _between(has.memory, wants.memory, "memory", _phase(listed, "memory"))
    quota = [(has.quota, wants.quota, "quota")]
    shares = [(has.shares, wants.shares, "shares")]
    grow = [step for held, wanted, name in (*quota, *shares) for step in _grows(held, wanted, name)]
    shrink = [step for held, wanted, name in (*shares, *quota) for step in _shrinks(held, wanted, name)]
    return [*memory, *grow, *_phase(listed, "cpu"), *shrink]


def _between(
    held: int | None, wanted: int | None, name: Any, middle: list[ContainerStep]
) -> list[PodStep | ContainerStep]:
    return [*_grows(held, wanted, name), *middle, *_shrinks(held, wanted, name)]


def _grows(held: int | None, wanted: int | None, name: Any) -> list[PodStep]:
    """A first quota comes before the containers', for v1 holds a quota against its parent's."""
    grown = name == "quota" if held is None else wanted is not None and wanted > held
    return [PodStep(name, wanted)] if wanted is not None and grown else []


def _shrinks(held: int | None, wanted: int | None, name: Any) -> list[PodStep]:
    """A first limit of memory shrinks what may be used."""
    shrunk = name == "memory" if held is None else wanted is not None and wanted < held
    return [PodStep(name, wanted)] if wanted is not None and shrunk else []


def _phase(changes: list[Change], what: Literal["memory", "cpu"]) -> list[ContainerStep]:
    """What of the containers changes in memory, or in CPU with the memory that they have got before."""
    found: list[tuple[bool, ContainerStep]] = []
    for item in changes:
        has, wants = item.has, item.wants
        memory = has.memory if wants.memory is None else wants.memory
        if what == "memory" and memory != has.memory:
            smaller = (memory or 0) < (has.memory or 0)
            found.append((smaller, ContainerStep(item.id, item.name, replace(has, memory=memory))))
        quota = has.quota if wants.quota is None else wants.quota
        if what == "cpu" and (quota, wants.shares) != (has.quota, has.shares):
            smaller = (quota or 0, wants.shares) < (has.quota or 0, has.shares)
            found.append((smaller, ContainerStep(item.id, item.name, Sizes(wants.shares, quota, memory))))
    return [step for _, step in sorted(found, key=lambda pair: not pair[0])]


def _running(all_lives: Iterable[Life]) -> Iterable[Life]:
    return (life for life in all_lives if life.kind != "ephemeral" and life.state == "running" and life.run)


def _needs_restart(pod: Pod, life: Life) -> bool:
    policies = {item.get("resourceName"): item.get("restartPolicy") for item in life.spec.get("resizePolicy") or []}
    wanting = [name for name, policy in policies.items() if policy == "RestartContainer"]
    if not wanting or life.run is None:
        return False
    try:
        made = json.loads(life.run.annotations.get(MADE_WITH) or "{}")
    except ValueError:
        return False
    now = measured(pod, life.spec)
    return any(name in made and name in now and made[name] != now[name] for name in wanting)


def _generation(pod: Pod) -> int | None:
    found = pod["metadata"].get("generation")
    return int(found) if found else None


def _note(item: Mapping[str, Any]) -> Note:
    reason, message = str(item.get("reason") or ""), str(item.get("message") or "")
    return Note(reason, message, item.get("observedGeneration"), str(item.get("lastTransitionTime") or ""))


def _condition(kind: str, note: Note) -> dict[str, Any]:
    found = {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": note.since}
    more = {"reason": note.reason, "message": note.message, "observedGeneration": note.generation}
    return {**found, **{key: value for key, value in more.items() if value}}


def _told(words: str, pod: Pod, generation: int | None, error: str = "") -> str:
    """An event's message: the words, then every container's resources as JSON, in Go's order of fields."""
    summary: dict[str, Any] = {}
    for kind in ("initContainers", "containers"):
        listed = pods.spec(pod).get(kind) or []
        if listed:
            summary[kind] = [{"name": item["name"], "resources": _sorted(item.get("resources"))} for item in listed]
    summary["generation"] = generation or 0
    if error:
        summary["error"] = error
    return f"{words}: {json.dumps(summary, separators=(',', ':'), ensure_ascii=False)}"


def _sorted(resources: Mapping[str, Any] | None) -> dict[str, Any]:
    found = resources or {}
    return {part: dict(sorted(found[part].items())) for part in ("limits", "requests") if found.get(part)}
