"""What CRI knows of one pod, as immutable values: the second word of observe, decide, act, report.

`Reader` asks CRI for the details of one pod (its worker's step calls it) and remembers those that do not change while
the list shows the same state: an ended container's, a running one's, a ready sandbox's addresses. It also reads the
termination message, which is part of how a container ended.
Nothing here decides anything; a runtime that does not answer raises Unavailable and the step is done again.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import names
from bridge.spec.resources import PERIOD, Sizes
from vkcri.api import loglines
from vkcri.errors import Invalid, NotFound

BACKOFF = "vkcri/backoff"
"""Annotation of ours on a container: the seconds to wait after its exit before it is started again."""
MESSAGE_BYTES = 4096
LOG_BYTES = 2048
LOG_LINES = 80
KILLED = 137
State = Literal["created", "running", "exited", "unknown"]
_STATES: dict[int, State] = {
    api_pb2.CONTAINER_CREATED: "created",
    api_pb2.CONTAINER_RUNNING: "running",
    api_pb2.CONTAINER_EXITED: "exited",
}
_BROKE_OFF = ("context canceled", "signal: killed")  # the call's own end, and that of the helper that it had started
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Container:
    """One container in CRI. Times are nanoseconds since the epoch, 0 where it has not happened. sizes: what its cgroup
    is held to, None where the runtime does not say."""

    id: str
    name: str
    sandbox_id: str
    state: State
    restart_count: int = 0
    created_at: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_ref: str = ""
    log_path: str = ""
    sizes: Sizes | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether a process of it may run: a container in a state that CRI does not know has to be stopped as well."""
        return self.state in ("running", "unknown")

    @property
    def hash(self) -> str:
        return self.annotations.get(names.HASH, "")

    @property
    def backoff(self) -> float:
        """Seconds between its exit and the next start."""
        return float(_number(self.annotations.get(BACKOFF, "0")))


@dataclass(frozen=True)
class Sandbox:
    """One sandbox in CRI, newest state."""

    id: str
    attempt: int
    ready: bool
    created_at: int = 0
    ips: tuple[str, ...] = ()
    host_network: bool = False


@dataclass(frozen=True)
class Observed:
    """All of a pod that CRI knows, newest first."""

    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest one."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def alive(self) -> tuple[Container, ...]:
        return tuple(item for item in self.containers if item.alive)


class Runtime(Protocol):
    """The RPCs that observing needs (bridge.runtime.Runtime has them)."""

    def list_pod_sandbox(self, request: api_pb2.ListPodSandboxRequest, /) -> api_pb2.ListPodSandboxResponse: ...
    def list_containers(self, request: api_pb2.ListContainersRequest, /) -> api_pb2.ListContainersResponse: ...
    def pod_sandbox_status(self, request: api_pb2.PodSandboxStatusRequest, /) -> api_pb2.PodSandboxStatusResponse: ...
    def container_status(self, request: api_pb2.ContainerStatusRequest, /) -> api_pb2.ContainerStatusResponse: ...


class Reader:
    """Reads one pod: two lists, and a status for each sandbox and container that is news. Belongs to one worker; not
    thread-safe."""

    def __init__(self, runtime: Runtime, uid: str, cri_label: str) -> None:
        self._runtime = runtime
        self._labels = {names.POD_UID: uid, names.INSTANCE: cri_label}
        self._settled: dict[str, Container] = {}
        self._addressed: dict[str, Sandbox] = {}

    def read(self, *, afresh: bool = False) -> Observed:
        """The pod as CRI has it now. afresh: ask again for what a list does not show to have changed, such as what a
        running container's cgroup is held to. Raises Unavailable."""
        if afresh:
            self._settled = {key: item for key, item in self._settled.items() if item.state == "exited"}
            self._addressed = {}
        listed = self._runtime.list_pod_sandbox(
            api_pb2.ListPodSandboxRequest(filter=api_pb2.PodSandboxFilter(label_selector=self._labels))
        )
        sandboxes = [box for item in listed.items if (box := self._sandbox(item)) is not None]
        answer = self._runtime.list_containers(
            api_pb2.ListContainersRequest(filter=api_pb2.ContainerFilter(label_selector=self._labels))
        )
        containers = [found for item in answer.containers if (found := self._container(item)) is not None]
        self._settled = {item.id: item for item in containers if _is_settled(item)}
        self._addressed = {item.id: item for item in sandboxes if item.ready and (item.ips or item.host_network)}
        return Observed(
            tuple(sorted(sandboxes, key=lambda item: (item.created_at, item.attempt), reverse=True)),
            tuple(sorted(containers, key=lambda item: (item.created_at, item.restart_count), reverse=True)),
        )

    def _sandbox(self, item: api_pb2.PodSandbox) -> Sandbox | None:
        ready = item.state == api_pb2.SANDBOX_READY
        found = Sandbox(item.id, item.metadata.attempt, ready, item.created_at)
        if not ready:
            return found
        if item.id in self._addressed:
            return self._addressed[item.id]
        try:
            answer = self._runtime.pod_sandbox_status(api_pb2.PodSandboxStatusRequest(pod_sandbox_id=item.id))
        except NotFound:
            return None
        network = answer.status.network
        ips = tuple(filter(None, (network.ip, *(extra.ip for extra in network.additional_ips))))
        host = answer.status.linux.namespaces.options.network == api_pb2.NODE
        return replace(found, ready=answer.status.state == api_pb2.SANDBOX_READY, ips=ips, host_network=host)

    def _container(self, item: api_pb2.Container) -> Container | None:
        held = self._settled.get(item.id)
        if held is not None and held.state == state_of(item.state):
            return held
        try:
            answer = self._runtime.container_status(api_pb2.ContainerStatusRequest(container_id=item.id))
        except NotFound:
            return None
        return container_of(answer.status, item.pod_sandbox_id)


def _is_settled(item: Container) -> bool:
    """Whether its details stay while its state does."""
    late = may_be_killed_for_memory(item) or may_get_log_words(item)
    return item.state in ("running", "exited") and not late


def may_be_killed_for_memory(item: Container) -> bool:
    """Whether OOMKilled may still come: CRI may say so only after the exit."""
    return item.state == "exited" and item.exit_code == KILLED and item.reason != "OOMKilled"


def may_get_log_words(item: Container) -> bool:
    """Whether its message, or the rest of it, may still come from its log: containerd does not wait for its logger
    before it says that a container has ended."""
    return item.state == "exited" and _falls_back_to_log(item)


def _falls_back_to_log(container: Container) -> bool:
    """The kubelet's rule: by policy, where it failed, and where it ever ran so that it has a log of its own."""
    by_policy = container.annotations.get(names.MESSAGE_POLICY) == "FallbackToLogsOnError"
    return by_policy and container.exit_code != 0 and container.reason != "ContainerCannotRun"


def state_of(state: int) -> State:
    """A container's state, by CRI's number."""
    return _STATES.get(state, "unknown")


def container_of(status: api_pb2.ContainerStatus, sandbox_id: str) -> Container:
    """CRI's status as ours, with the termination message of a container that has ended."""
    annotations = dict(status.annotations)
    found = Container(
        id=status.id,
        name=status.labels.get(names.CONTAINER_NAME) or status.metadata.name,
        sandbox_id=sandbox_id,
        state="created" if _start_broke_off(status) else state_of(status.state),
        restart_count=_number(annotations.get(names.RESTART_COUNT, str(status.metadata.attempt))),
        created_at=status.created_at,
        started_at=status.started_at,
        finished_at=status.finished_at,
        exit_code=status.exit_code,
        reason=status.reason,
        message=status.message,
        image=status.image.image,
        image_ref=status.image_ref,
        log_path=status.log_path,
        sizes=_sizes(status.resources),
        annotations=annotations,
    )
    if found.state != "exited":
        return found
    mounted = {mount.container_path: mount.host_path for mount in status.mounts}
    own = termination_message(found, mounted.get(annotations.get(names.MESSAGE_PATH, ""), ""))
    return replace(found, message=": ".join(filter(None, (found.message, own))))


def _sizes(resources: api_pb2.ContainerResources) -> Sizes | None:
    """containerd tells what it was last told since 1.6.9; 0 and -1 are no limit."""
    linux = resources.linux
    if linux.cpu_shares <= 0:
        return None
    scaled = linux.cpu_quota * PERIOD // linux.cpu_period if linux.cpu_period > 0 else 0
    memory = linux.memory_limit_in_bytes
    return Sizes(linux.cpu_shares, scaled if scaled > 0 else None, memory if memory > 0 else None)


def _start_broke_off(status: api_pb2.ContainerStatus) -> bool:
    """Whether its start was given up because the asker had died, which containerd notes as an exit with 128: nothing of
    it ever ran, so it counts as one that was only created."""
    failed = status.state == api_pb2.CONTAINER_EXITED and status.reason == "StartError" and status.started_at <= 0
    return failed and any(words in status.message for words in _BROKE_OFF)


def pre_stop(container: Container) -> dict[str, Any]:
    """The preStop hook that the container was made with; empty without one, or where the annotation is not ours."""
    return dict(_json(container, names.PRE_STOP, {}))


def ports(container: Container) -> list[dict[str, Any]]:
    """The ports that the container was made with."""
    return list(_json(container, names.PORTS, []))


def _json(container: Container, key: str, default: Any) -> Any:
    try:
        found = json.loads(container.annotations.get(key) or "null")
    except ValueError:
        log.warning("container %s: annotation %s is no JSON", container.id, key)
        return default
    return found if isinstance(found, type(default)) else default


def termination_message(container: Container, path: str) -> str:
    """What the container left for its termination message: the end of the file at `path` on the host, or, by policy
    FallbackToLogsOnError, the end of its log when it failed and the file is empty."""
    text = _tail(Path(path), MESSAGE_BYTES).decode(errors="replace") if path else ""
    return text if text or not _falls_back_to_log(container) else _log_tail(container.log_path)


def _log_tail(path: str) -> str:
    """The last 80 lines of a CRI log, at most 2048 bytes, without their stamps."""
    if not path:
        return ""
    lines = _tail(Path(path), 4 * (LOG_BYTES + LOG_LINES * 64)).splitlines(keepends=True)
    text = b"".join(_contents(lines))
    kept = text.splitlines(keepends=True)[-LOG_LINES:]
    return b"".join(kept)[-LOG_BYTES:].decode(errors="replace")


def _contents(lines: Iterable[bytes]) -> Iterable[bytes]:
    for line in lines:
        try:
            parsed = loglines.parse(line)
        except Invalid:
            continue  # the first line of a tail is usually cut in two
        yield parsed.content


def _tail(path: Path, size: int) -> bytes:
    """The last bytes of a file; none where it is gone or is no regular file (a container may have put a pipe there)."""
    try:
        if not path.is_file() or path.is_symlink():
            return b""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read(size)
    except OSError as error:
        log.warning("%s: %s", path, error)
        return b""


def _number(text: str) -> int:
    """The annotation's whole number; 0 where something else stands there."""
    return int(text) if text.isascii() and text.isdigit() else 0
