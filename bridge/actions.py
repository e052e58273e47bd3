"""The orders that decide gives and act carries out, and what decide is told: one immutable value each. Pure.

An action with a `key` may take long: it runs on a thread of its own, its key stands in `Prior.busy` until it is done,
and no second one with that key begins meanwhile. The others are done at once, by the pod's worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.spec.resources import Sizes

SANDBOX = "sandbox"
START = "start"
TEARDOWN = "teardown"
REFRESH = "refresh"
REMOVE = "remove"
RESIZE = "resize"
RESET = "reset"


def stop_key(container_id: str) -> str:
    """The key of the action that stops that container."""
    return f"stop:{container_id}"


@dataclass(frozen=True)
class Problem:
    """Why a container does not run, or (under the name "") why the pod does not: the waiting state's reason and
    message."""

    reason: str
    message: str


@dataclass(frozen=True)
class Probed:
    """What the probes of one container have said of it so far; None: nothing yet, or there is no such probe."""

    startup: bool | None = None
    readiness: bool | None = None
    liveness: bool | None = None


@dataclass(frozen=True)
class Note:
    """One of the two conditions of a resize, which are there only while they are True. generation: the spec's that it
    is about; since: RFC 3339."""

    reason: str = ""
    message: str = ""
    generation: int | None = None
    since: str = ""


@dataclass(frozen=True)
class Notes:
    """pending: the node has not granted what the pod asks for; progress: it has, and it is being carried out."""

    pending: Note | None = None
    progress: Note | None = None


@dataclass(frozen=True)
class Eviction:
    """The node ends the pod. message: its status'; grace: the seconds that its containers have at most; disrupts: it
    ends for the node's sake, not for its own limits, and its condition DisruptionTarget says so, in other words where
    `disruption` has some; notes: the event's annotations; reason: its status' and the event's."""

    message: str
    grace: float
    disrupts: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    reason: str = "Evicted"
    disruption: str = ""


@dataclass(frozen=True)
class Desired:
    """What the pod should be, with the resources that the node has granted it. `gone`: the API object is gone, or never
    was (then `pod` was rebuilt from CRI's annotations). `may_create`: services and node are known, so that containers
    may be made. host_ips: status.hostIPs."""

    pod: Mapping[str, Any]
    gone: bool = False
    may_create: bool = True
    host_ips: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prior:
    """What is known of the pod besides CRI. Lost when the process ends, save `status`, which the API server keeps.

    status: our last PodStatus, after a restart the API server's. problems: container name ("" for the pod) -> why it
    waits. busy: keys of actions under way. retry: key -> not before (seconds since the epoch). stopping: container id
    -> when its grace ends. apart: ids of containers that are stopped by a grace of their own. replaced: ids of
    containers that we stopped to start them anew. down: volumes and cgroup are gone. refresh_at: when volumes are due
    to be refreshed, None: never. probed: container id -> what its probes say. notes: the conditions of a resize.
    pod_sized: what the pod's cgroup is held to, None: not known. sized: container id -> what it was held to last, for a
    runtime that does not say. eviction: the node ends it."""

    status: Mapping[str, Any] = field(default_factory=dict)
    problems: Mapping[str, Problem] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()
    retry: Mapping[str, float] = field(default_factory=dict)
    stopping: Mapping[str, float] = field(default_factory=dict)
    apart: frozenset[str] = frozenset()
    replaced: frozenset[str] = frozenset()
    down: bool = False
    refresh_at: float | None = None
    probed: Mapping[str, Probed] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)
    pod_sized: Sizes | None = None
    sized: Mapping[str, Sizes] = field(default_factory=dict)
    eviction: Eviction | None = None


@dataclass(frozen=True)
class RunSandbox:
    """Make cgroup and volumes, then the sandbox of that attempt; the older ones are stopped first."""

    attempt: int
    replaces: tuple[str, ...] = ()
    key: str = SANDBOX


@dataclass(frozen=True)
class StartContainer:
    """Pull, create and start the container. backoff: what its annotation says, seconds to wait after its exit."""

    name: str
    sandbox_id: str
    restart_count: int
    backoff: float = 0.0
    key: str = START


@dataclass(frozen=True)
class BackOff:
    """The container waits for its restart, until then (seconds since the epoch); say so."""

    name: str
    until: float
    problem: Problem


@dataclass(frozen=True)
class StopContainer:
    """preStop, TERM, and KILL once the grace (seconds) is over. Given again with a shorter grace, it shortens the
    first. because: the event's message instead of the usual one. replace: it is to be started anew."""

    id: str
    name: str
    grace: float
    because: str = ""
    replace: bool = False

    @property
    def key(self) -> str:
        return stop_key(self.id)


@dataclass(frozen=True)
class RemoveContainer:
    """Remove a container that never ran."""

    id: str
    name: str

    @property
    def key(self) -> str:
        return f"{REMOVE}:{self.id}"


@dataclass(frozen=True)
class CancelStarts:
    """Nothing of this pod that has not been started is to be started any more."""


@dataclass(frozen=True)
class TearDown:
    """Stop the sandboxes, which takes the network down; unmount and remove volumes; remove the cgroup."""

    sandboxes: tuple[str, ...]
    key: str = TEARDOWN


@dataclass(frozen=True)
class RemoveAll:
    """Remove the containers and sandboxes, then the log folder: the API object is gone."""

    containers: tuple[str, ...]
    sandboxes: tuple[str, ...]
    key: str = REMOVE


@dataclass(frozen=True)
class RefreshVolumes:
    """Project again what has changed, and renew tokens that are due."""

    key: str = REFRESH


@dataclass(frozen=True)
class ResizePod:
    """Bring the pod's cgroup, and these running containers' (by name), to what was granted."""

    containers: tuple[str, ...] = ()
    key: str = RESIZE


@dataclass(frozen=True)
class ResetContainers:
    """Kill and remove these (by id), one after the other: all containers of the pod are to start anew."""

    containers: tuple[str, ...]
    key: str = RESET


@dataclass(frozen=True)
class Forget:
    """Nothing is left of the pod, neither here nor at the API server."""


@dataclass(frozen=True)
class Wait:
    """Decide again at that time (seconds since the epoch)."""

    until: float


Action = (
    RunSandbox
    | StartContainer
    | BackOff
    | StopContainer
    | RemoveContainer
    | CancelStarts
    | TearDown
    | RemoveAll
    | RefreshVolumes
    | ResizePod
    | ResetContainers
    | Forget
    | Wait
)
