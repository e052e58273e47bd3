"""A CRI server in memory, over a real Unix socket: what containerd's CRI plugin does, without processes.

It keeps CRI's rules of state (test_cri.py holds it to the same sentences as containerd) and has knobs for what a real
runtime does seldom: failing once, being slow, a container that ends by itself. gRPC's threads call it; one lock guards
everything, and delays are waited outside of it.

    with FakeRuntime(tmp_path / "cri.sock") as fake:
        runtime = Runtime(fake.endpoint)
        fake.fail_next("StartContainer", "no space left on device")
"""

import contextlib
import copy
import re
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from bridge.pb.runtime.v1 import api_pb2 as cri
from tests.contract.cri_server import Failure, handlers
from tests.contract.fake_images import SANDBOX_IMAGE, SHELL_IMAGE, FakeImages

__all__ = ["SANDBOX_IMAGE", "SHELL_IMAGE", "FakeRuntime"]

_Code = grpc.StatusCode


class FakeRuntime(FakeImages):
    """The server and its state. `sandboxes` and `containers` are CRI's own status messages by id, `calls` every
    (method, request) so far; read them while nothing is under way, or through `locked`."""

    def __init__(self, socket: Path, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.endpoint = f"unix://{socket}"
        self.sandboxes: dict[str, cri.PodSandboxStatus] = {}
        self.containers: dict[str, cri.ContainerStatus] = {}
        self.owners: dict[str, str] = {}  # container id -> sandbox id
        self.configs: dict[str, cri.ContainerConfig] = {}
        self.calls: list[tuple[str, Any]] = []
        self.network_ready = True
        self.has_events = False
        self.stops_on_term = True
        self.knows_stop_signals = False
        self.exec_answer = cri.ExecSyncResponse()
        self._clock = clock
        self._failures: dict[str, list[tuple[Failure, float]]] = defaultdict(list)  # with how often each is left
        self._delays: dict[str, float] = {}
        self._events: list[cri.ContainerEventResponse] = []
        self._changed = threading.Condition(self.locked)
        self._closing = False
        self._addresses = 1
        self._server = grpc.server(ThreadPoolExecutor(32, "fake-cri"), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers(handlers(self._method, self._admit))
        self._server.add_insecure_port(self.endpoint)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Go away, as a runtime that is killed: what is under way breaks off."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.stop(0).wait(5)

    # Knobs

    def fail_next(self, method: str, message: str, *, code: grpc.StatusCode = _Code.UNKNOWN, times: float = 1) -> None:
        """Make the next calls of an RPC fail before they do anything, math.inf: until forgiven. containerd's own
        failures are UNKNOWN."""
        with self.locked:
            self._failures[method].append((Failure(code, message), times))

    def forgive(self, method: str) -> None:
        """Let the calls of an RPC fail no more."""
        with self.locked:
            del self._failures[method][:]

    def delay(self, method: str, seconds: float) -> None:
        """Let every call of an RPC take that long, before it does anything; 0 ends it."""
        with self.locked:
            self._delays[method] = seconds

    def exit(self, container: str, code: int = 0, *, reason: str = "") -> None:
        """A running container's process ends by itself; reason is Completed or Error unless given (OOMKilled)."""
        with self.locked:
            status = self.containers[container]
            assert status.state == cri.CONTAINER_RUNNING, "only what runs can end"
            self._end(status, code, reason)

    def lose(self, container: str) -> None:
        """Forget a container, as if somebody had removed it behind our back."""
        with self.locked:
            del self.containers[container]

    def count(self, method: str) -> int:
        """How often an RPC was called."""
        with self.locked:
            return sum(name == method for name, _ in self.calls)

    # The server

    def _method(self, name: str) -> Callable[..., Any] | None:
        """The fake's own implementation of an RPC."""
        found: Callable[..., Any] | None = getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(), None)
        return found

    @contextlib.contextmanager
    def _admit(self, method: str, request: Any) -> Iterator[None]:
        """Around each unary call: note it, be slow or fail as told, and hold the lock for it."""
        with self.locked:
            self.calls.append((method, copy.deepcopy(request)))
            pause = self._delays.get(method, 0.0)
        if pause:
            time.sleep(pause)
        with self.locked:
            self._fail(method)
            yield

    def _fail(self, method: str) -> None:
        failures = self._failures[method]
        if failures:
            failure, left = failures[0]
            failures[:1] = [(failure, left - 1)] if left > 1 else []
            raise Failure(failure.code, str(failure))

    def _version(self, _: cri.VersionRequest) -> cri.VersionResponse:
        return cri.VersionResponse(
            version="0.1.0", runtime_name="fake", runtime_version="1.0", runtime_api_version="v1"
        )

    def _status(self, request: cri.StatusRequest) -> cri.StatusResponse:
        network = cri.RuntimeCondition(type="NetworkReady", status=self.network_ready)
        if not self.network_ready:
            network.reason, network.message = "NetworkPluginNotReady", "cni plugin not initialized"
        ready = cri.RuntimeCondition(type="RuntimeReady", status=True)
        info = {"config": f'{{"sandboxImage": "{SANDBOX_IMAGE}"}}'} if request.verbose else {}
        return cri.StatusResponse(status=cri.RuntimeStatus(conditions=[ready, network]), info=info)

    # Sandboxes

    def _run_pod_sandbox(self, request: cri.RunPodSandboxRequest) -> cri.RunPodSandboxResponse:
        config = request.config
        if not config.HasField("metadata"):
            raise Failure(_Code.UNKNOWN, "sandbox config must include metadata")
        for other in self.sandboxes.values():
            if other.metadata == config.metadata:
                name = "_".join((config.metadata.name, config.metadata.namespace, config.metadata.uid))
                raise Failure(_Code.UNKNOWN, f'failed to reserve sandbox name: "{name}" is reserved for "{other.id}"')
        if request.runtime_handler:
            raise Failure(_Code.UNKNOWN, f'no runtime for "{request.runtime_handler}" is configured')
        if not self.network_ready and config.linux.security_context.namespace_options.network != cri.NODE:
            raise Failure(_Code.UNKNOWN, "failed to setup network for sandbox: cni plugin not initialized")
        sandbox = cri.PodSandboxStatus(
            id=_identity(),
            metadata=config.metadata,
            state=cri.SANDBOX_READY,
            created_at=self._now(),
            labels=config.labels,
            annotations=config.annotations,
        )
        sandbox.linux.namespaces.options.CopyFrom(config.linux.security_context.namespace_options)
        if sandbox.linux.namespaces.options.network != cri.NODE:
            self._addresses += 1
            sandbox.network.ip = f"10.88.{self._addresses // 250}.{self._addresses % 250 + 1}"
        self.sandboxes[sandbox.id] = sandbox
        self._event(sandbox.id, cri.CONTAINER_STARTED_EVENT)
        return cri.RunPodSandboxResponse(pod_sandbox_id=sandbox.id)

    def _stop_pod_sandbox(self, request: cri.StopPodSandboxRequest) -> cri.StopPodSandboxResponse:
        sandbox = self._find(self.sandboxes, request.pod_sandbox_id, "sandbox")
        for container in self._containers_of(sandbox.id):
            if container.state == cri.CONTAINER_RUNNING:
                self._end(container, 137, "")
        if sandbox.state == cri.SANDBOX_READY:
            sandbox.state = cri.SANDBOX_NOTREADY
            sandbox.network.Clear()
            self._event(sandbox.id, cri.CONTAINER_STOPPED_EVENT)
        return cri.StopPodSandboxResponse()

    def _remove_pod_sandbox(self, request: cri.RemovePodSandboxRequest) -> cri.RemovePodSandboxResponse:
        if self._full_id(self.sandboxes, request.pod_sandbox_id) is not None:
            self._stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=request.pod_sandbox_id))
            sandbox = self._find(self.sandboxes, request.pod_sandbox_id, "sandbox")
            for container in self._containers_of(sandbox.id):
                self._remove_container(cri.RemoveContainerRequest(container_id=container.id))
            del self.sandboxes[sandbox.id]
            self._event(sandbox.id, cri.CONTAINER_DELETED_EVENT)
        return cri.RemovePodSandboxResponse()

    def _pod_sandbox_status(self, request: cri.PodSandboxStatusRequest) -> cri.PodSandboxStatusResponse:
        return cri.PodSandboxStatusResponse(status=self._find(self.sandboxes, request.pod_sandbox_id, "sandbox"))

    def _list_pod_sandbox(self, request: cri.ListPodSandboxRequest) -> cri.ListPodSandboxResponse:
        chosen = request.filter
        items = [
            cri.PodSandbox(
                id=item.id,
                metadata=item.metadata,
                state=item.state,
                created_at=item.created_at,
                labels=item.labels,
                annotations=item.annotations,
            )
            for item in self.sandboxes.values()
            if item.id.startswith(chosen.id)
            and (not chosen.HasField("state") or item.state == chosen.state.state)
            and _matches(chosen.label_selector, item.labels)
        ]
        return cri.ListPodSandboxResponse(items=items)

    # Containers

    def _create_container(self, request: cri.CreateContainerRequest) -> cri.CreateContainerResponse:
        config = request.config
        sandbox = self._find(self.sandboxes, request.pod_sandbox_id, "sandbox")
        if sandbox.state != cri.SANDBOX_READY:
            raise Failure(_Code.NOT_FOUND, f"failed to get sandbox container task: task {sandbox.id} not found")
        for other in self._containers_of(sandbox.id):
            if other.metadata == config.metadata:
                name = f"{config.metadata.name}_{sandbox.metadata.name}"
                raise Failure(_Code.UNKNOWN, f'failed to reserve container name: "{name}" is reserved for "{other.id}"')
        image = self._image(config.image.image)
        if image is None:
            raise Failure(_Code.NOT_FOUND, f'failed to resolve image "{config.image.image}": not found')
        folder = request.sandbox_config.log_directory
        status = cri.ContainerStatus(
            id=_identity(),
            metadata=config.metadata,
            state=cri.CONTAINER_CREATED,
            created_at=self._now(),
            image=config.image,
            image_ref=image.id,
            labels=config.labels,
            annotations=config.annotations,
            mounts=config.mounts,
            stop_signal=config.stop_signal if self.knows_stop_signals else cri.SIGNAL_RUNTIME_DEFAULT,
            log_path=f"{folder}/{config.log_path}" if folder and config.log_path else "",
        )
        self.containers[status.id] = status
        self.owners[status.id] = sandbox.id
        self.configs[status.id] = copy.deepcopy(config)
        self._event(status.id, cri.CONTAINER_CREATED_EVENT)
        return cri.CreateContainerResponse(container_id=status.id)

    def _start_container(self, request: cri.StartContainerRequest) -> cri.StartContainerResponse:
        status = self._find(self.containers, request.container_id, "container")
        self._want(status, cri.CONTAINER_CREATED)
        command = self.configs[status.id].command
        if command and command[0].startswith("/nonesuch"):
            status.state, status.exit_code = cri.CONTAINER_EXITED, 128
            status.finished_at = self._now()
            status.reason = "StartError"
            status.message = f'failed to create containerd task: exec: "{command[0]}": no such file or directory'
            raise Failure(_Code.UNKNOWN, status.message)
        status.state, status.started_at = cri.CONTAINER_RUNNING, self._now()
        self._event(status.id, cri.CONTAINER_STARTED_EVENT)
        return cri.StartContainerResponse()

    def _stop_container(self, request: cri.StopContainerRequest) -> cri.StopContainerResponse:
        status = self._find(self.containers, request.container_id, "container")
        if status.state == cri.CONTAINER_RUNNING:
            graceful = self.stops_on_term and request.timeout > 0
            self._end(status, 143 if graceful else 137, "")
        return cri.StopContainerResponse()

    def _remove_container(self, request: cri.RemoveContainerRequest) -> cri.RemoveContainerResponse:
        found = self._full_id(self.containers, request.container_id)
        if found is not None:
            if self.containers[found].state == cri.CONTAINER_RUNNING:
                self._end(self.containers[found], 137, "")
            del self.containers[found]
            self._event(found, cri.CONTAINER_DELETED_EVENT)
        return cri.RemoveContainerResponse()

    def _list_containers(self, request: cri.ListContainersRequest) -> cri.ListContainersResponse:
        chosen = request.filter
        items = [
            cri.Container(
                id=item.id,
                pod_sandbox_id=self.owners[item.id],
                metadata=item.metadata,
                image=item.image,
                image_ref=item.image_ref,
                state=item.state,
                created_at=item.created_at,
                labels=item.labels,
                annotations=item.annotations,
            )
            for item in self.containers.values()
            if item.id.startswith(chosen.id)
            and self.owners[item.id].startswith(chosen.pod_sandbox_id)
            and (not chosen.HasField("state") or item.state == chosen.state.state)
            and _matches(chosen.label_selector, item.labels)
        ]
        return cri.ListContainersResponse(containers=items)

    def _container_status(self, request: cri.ContainerStatusRequest) -> cri.ContainerStatusResponse:
        return cri.ContainerStatusResponse(status=self._find(self.containers, request.container_id, "container"))

    def _update_container_resources(
        self, request: cri.UpdateContainerResourcesRequest
    ) -> cri.UpdateContainerResourcesResponse:
        status = self._find(self.containers, request.container_id, "container")
        status.resources.linux.CopyFrom(request.linux)
        return cri.UpdateContainerResourcesResponse()

    def _reopen_container_log(self, request: cri.ReopenContainerLogRequest) -> cri.ReopenContainerLogResponse:
        self._want(self._find(self.containers, request.container_id, "container"), cri.CONTAINER_RUNNING)
        return cri.ReopenContainerLogResponse()

    def _exec_sync(self, request: cri.ExecSyncRequest) -> cri.ExecSyncResponse:
        self._want(self._find(self.containers, request.container_id, "container"), cri.CONTAINER_RUNNING)
        return self.exec_answer

    def _exec(self, request: cri.ExecRequest) -> cri.ExecResponse:
        self._want(self._find(self.containers, request.container_id, "container"), cri.CONTAINER_RUNNING)
        _want_stream(request)
        return cri.ExecResponse(url=f"http://127.0.0.1:9/exec/{_identity()[:8]}")

    def _attach(self, request: cri.AttachRequest) -> cri.AttachResponse:
        self._want(self._find(self.containers, request.container_id, "container"), cri.CONTAINER_RUNNING)
        _want_stream(request)
        return cri.AttachResponse(url=f"http://127.0.0.1:9/attach/{_identity()[:8]}")

    def _port_forward(self, request: cri.PortForwardRequest) -> cri.PortForwardResponse:
        self._find(self.sandboxes, request.pod_sandbox_id, "sandbox")
        return cri.PortForwardResponse(url=f"http://127.0.0.1:9/portforward/{_identity()[:8]}")

    # Events

    def _get_container_events(
        self, request: cri.GetEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[cri.ContainerEventResponse]:
        if not self.has_events:
            context.abort(_Code.UNIMPLEMENTED, "unknown method GetContainerEvents")
        with self.locked:
            seen = len(self._events)
            self.calls.append(("GetContainerEvents", request))
        while context.is_active() and not self._closing:
            with self._changed:
                if len(self._events) == seen:
                    self._changed.wait(0.2)
                fresh, seen = self._events[seen:], len(self._events)
            yield from fresh

    def _event(self, identity: str, kind: cri.ContainerEventType) -> None:
        event = cri.ContainerEventResponse(container_id=identity, container_event_type=kind, created_at=self._now())
        self._events.append(event)
        self._changed.notify_all()

    # Shared

    def _end(self, status: cri.ContainerStatus, code: int, reason: str) -> None:
        status.state, status.exit_code, status.finished_at = cri.CONTAINER_EXITED, code, self._now()
        status.reason = reason or ("Error" if code else "Completed")
        self._event(status.id, cri.CONTAINER_STOPPED_EVENT)

    def _containers_of(self, sandbox: str) -> list[cri.ContainerStatus]:
        return [item for item in self.containers.values() if self.owners[item.id] == sandbox]

    def _full_id(self, table: dict[str, Any], identity: str) -> str | None:
        """CRI takes a unique beginning of an id for the id."""
        found = [full for full in table if identity and full.startswith(identity)]
        return found[0] if len(found) == 1 else None

    def _find(self, table: dict[str, Any], identity: str, kind: str) -> Any:
        found = self._full_id(table, identity)
        if found is None:
            raise Failure(_Code.NOT_FOUND, f'an error occurred when try to find {kind} "{identity}": not found')
        return table[found]

    def _want(self, status: cri.ContainerStatus, state: cri.ContainerState) -> None:
        if status.state != state:
            raise Failure(_Code.UNKNOWN, f"container is in {cri.ContainerState.Name(status.state)} state")

    def _now(self) -> int:
        return int(self._clock() * 1e9)


def _want_stream(request: Any) -> None:
    if not (request.stdin or request.stdout or request.stderr):
        raise Failure(_Code.INVALID_ARGUMENT, "one of stdin, stdout, or stderr must be set")


def _matches(selector: Any, labels: Any) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def _identity() -> str:
    return uuid.uuid4().hex * 2
