"""The only user of CRI gRPC: a method an RPC, a deadline each, failures as vkcri's errors, one debug line a call.

Methods take and give CRI's own messages (bridge.pb.runtime.v1.api_pb2). Thread-safe: one channel serves all workers. A
message of the runtime is kept word by word in the error, since reasons are read from it. Nothing of a request is
logged but its ids: environment variables are secrets.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # this process starts programs, and each does an exec

import grpc

from bridge.pb.runtime.v1 import api_pb2 as cri
from vkcri.errors import Conflict, Invalid, NotFound, Refused, Unavailable, VkcriError

log = logging.getLogger(__name__)

DEFAULT_SECONDS = 120.0  # the kubelet's --runtime-request-timeout
SANDBOX_SECONDS = 240.0  # the kubelet gives RunPodSandbox twice the default
PULL_SECONDS = 1800.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_RUNTIME = "/runtime.v1.RuntimeService/"
_IMAGE = "/runtime.v1.ImageService/"
OPTIONS = [
    ("grpc.default_authority", "localhost"),  # containerd's server refuses a socket path as authority
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A restarted containerd is found again at once: the default back-off grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name the time that one attempt to connect has: a slow guest's containerd needs more than a moment.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
]
_ERRORS: dict[grpc.StatusCode, type[VkcriError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: Invalid,
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.UNIMPLEMENTED: Refused,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Refused,
}
# Words of containerd's CRI plugin, which gives them no status code of their own.
_UNKNOWN: dict[str, type[VkcriError]] = {
    " is reserved for ": Conflict,  # a sandbox or container of this name and attempt exists
    " is in CONTAINER_": Conflict,  # the container's state does not allow it
    "container is not running": Conflict,
    "invalid reference format": Invalid,
}
_LOCAL_DEADLINE = "Deadline Exceeded"  # grpc's own words when it stops waiting; a runtime's timeout has others


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  (protobuf's name)


_Q = TypeVar("_Q", bound=_Message)
_A = TypeVar("_A")


def error_of(method: str, failure: grpc.RpcError) -> VkcriError:
    """One of our errors for a gRPC failure, with the runtime's own words. UNKNOWN, which containerd answers to most
    failures of its own, is Unavailable, so that the caller retries with back-off, save for words that say more."""
    call = cast(grpc.Call, failure)
    code, details = call.code(), call.details() or ""
    if code == grpc.StatusCode.DEADLINE_EXCEEDED and details == _LOCAL_DEADLINE:
        return Unavailable(f"{method}: no answer within its deadline")
    if code == grpc.StatusCode.UNKNOWN:
        kind = next((kind for words, kind in _UNKNOWN.items() if words in details), Unavailable)
        return kind(details)
    return _ERRORS.get(code, Unavailable)(details or f"{method}: {code.name}")


def open_channel(endpoint: str) -> grpc.Channel:
    """A channel to a Unix socket of containerd; it connects at the first call and again whenever needed."""
    return grpc.insecure_channel(endpoint, options=OPTIONS)


@dataclass(frozen=True)
class ExecEnd:
    """How a command ended. exit_code None: it did not come to its end, and `failure` says why in grpc-go's words;
    timed_out: because its time was over. output: stdout, then stderr."""

    exit_code: int | None = None
    output: bytes = b""
    failure: str = ""
    timed_out: bool = False


def _exec_end(ended: Any) -> ExecEnd:
    """What a finished call of ExecSync says."""
    if ended.code() == grpc.StatusCode.OK:
        answer: cri.ExecSyncResponse = ended.result()
        return ExecEnd(answer.exit_code, answer.stdout + answer.stderr)
    code = ended.code().name
    words = f"rpc error: code = {code.title().replace('_', '')} desc = {ended.details()}"
    return ExecEnd(failure=words, timed_out=ended.code() == grpc.StatusCode.DEADLINE_EXCEEDED)


class Runtime:
    """CRI v1 at one endpoint. Every method raises Unavailable where the runtime is away or too slow, Refused where it
    does not know the RPC, and NotFound, Invalid or Conflict as the runtime says."""

    def __init__(self, endpoint: str, observe: Callable[[str, float, bool], None] | None = None) -> None:
        """`endpoint`: unix:///path/to/socket. Connects at the first call and again whenever needed. observe(method,
        seconds, failed) is told of each call."""
        self.endpoint = endpoint
        self._observe = observe or (lambda _method, _seconds, _failed: None)
        self._channel = grpc.insecure_channel(endpoint, options=OPTIONS)
        self._calls: dict[str, Callable[..., Any]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Cancel what is under way and close the channel."""
        self._channel.close()

    def _unary(self, path: str, request: _Q, answer: type[_A], seconds: float) -> _A:
        method = path.rpartition("/")[2]
        started = time.monotonic()
        try:
            result = self._call(path, request, answer)(request, timeout=seconds)
        except grpc.RpcError as failure:
            error, seconds_taken = error_of(method, failure), time.monotonic() - started
            self._observe(method, seconds_taken, True)
            log.debug("%s failed after %.3f s: %s: %s", method, seconds_taken, type(error).__name__, error)
            raise error from failure
        except ValueError as failure:  # grpc's answer to a call on a closed channel
            raise Unavailable(f"{method}: {failure}") from failure
        seconds_taken = time.monotonic() - started
        self._observe(method, seconds_taken, False)
        log.debug("%s took %.3f s", method, seconds_taken)
        return cast(_A, result)

    def _call(self, path: str, request: _Q, answer: type[_A]) -> Callable[..., Any]:
        """The channel's callable for a method, made once."""
        with self._lock:
            if path not in self._calls:
                self._calls[path] = self._channel.unary_unary(
                    path,
                    request_serializer=type(request).SerializeToString,
                    response_deserializer=cast(Any, answer).FromString,
                )
            return self._calls[path]

    def container_events(self) -> Any:
        """CRI's own event stream, as grpc gives it: an iterator of ContainerEventResponse with is_active() and
        cancel(). Iterating raises grpc.RpcError; `error_of` makes it Refused where there is none (containerd 1.x)."""
        stream = self._channel.unary_stream(
            _RUNTIME + "GetContainerEvents",
            request_serializer=cri.GetEventsRequest.SerializeToString,
            response_deserializer=cri.ContainerEventResponse.FromString,
        )
        return stream(cri.GetEventsRequest())

    def version(self, request: cri.VersionRequest, *, seconds: float = DEFAULT_SECONDS) -> cri.VersionResponse:
        return self._unary(_RUNTIME + "Version", request, cri.VersionResponse, seconds)

    def status(self, request: cri.StatusRequest, *, seconds: float = DEFAULT_SECONDS) -> cri.StatusResponse:
        return self._unary(_RUNTIME + "Status", request, cri.StatusResponse, seconds)

    def run_pod_sandbox(
        self, request: cri.RunPodSandboxRequest, *, seconds: float = SANDBOX_SECONDS
    ) -> cri.RunPodSandboxResponse:
        """Create and start a sandbox with its network. Slow: CNI and the pause container."""
        return self._unary(_RUNTIME + "RunPodSandbox", request, cri.RunPodSandboxResponse, seconds)

    def stop_pod_sandbox(
        self, request: cri.StopPodSandboxRequest, *, seconds: float = SANDBOX_SECONDS
    ) -> cri.StopPodSandboxResponse:
        """Stop a sandbox and all of its containers; idempotent, also where it is gone (NotFound in containerd 1.6)."""
        try:
            return self._unary(_RUNTIME + "StopPodSandbox", request, cri.StopPodSandboxResponse, seconds)
        except NotFound:
            return cri.StopPodSandboxResponse()

    def remove_pod_sandbox(
        self, request: cri.RemovePodSandboxRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.RemovePodSandboxResponse:
        """Remove a sandbox and its containers; idempotent."""
        return self._unary(_RUNTIME + "RemovePodSandbox", request, cri.RemovePodSandboxResponse, seconds)

    def pod_sandbox_status(
        self, request: cri.PodSandboxStatusRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.PodSandboxStatusResponse:
        """Raises NotFound for a sandbox that is gone."""
        return self._unary(_RUNTIME + "PodSandboxStatus", request, cri.PodSandboxStatusResponse, seconds)

    def list_pod_sandbox(
        self, request: cri.ListPodSandboxRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ListPodSandboxResponse:
        return self._unary(_RUNTIME + "ListPodSandbox", request, cri.ListPodSandboxResponse, seconds)

    def create_container(
        self, request: cri.CreateContainerRequest, *, seconds: float = SANDBOX_SECONDS
    ) -> cri.CreateContainerResponse:
        return self._unary(_RUNTIME + "CreateContainer", request, cri.CreateContainerResponse, seconds)

    def start_container(
        self, request: cri.StartContainerRequest, *, seconds: float = SANDBOX_SECONDS
    ) -> cri.StartContainerResponse:
        """Start; a command that does not exist is an error here and exit 128 in the status."""
        return self._unary(_RUNTIME + "StartContainer", request, cri.StartContainerResponse, seconds)

    def stop_container(
        self, request: cri.StopContainerRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.StopContainerResponse:
        """Stop with request.timeout seconds of grace; idempotent, also where it is gone (NotFound in containerd 1.6).
        The deadline is the grace and two minutes."""
        seconds = max(seconds, request.timeout + DEFAULT_SECONDS)
        try:
            return self._unary(_RUNTIME + "StopContainer", request, cri.StopContainerResponse, seconds)
        except NotFound:
            return cri.StopContainerResponse()

    def remove_container(
        self, request: cri.RemoveContainerRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.RemoveContainerResponse:
        """Remove a container; idempotent."""
        return self._unary(_RUNTIME + "RemoveContainer", request, cri.RemoveContainerResponse, seconds)

    def list_containers(
        self, request: cri.ListContainersRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ListContainersResponse:
        return self._unary(_RUNTIME + "ListContainers", request, cri.ListContainersResponse, seconds)

    def container_status(
        self, request: cri.ContainerStatusRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ContainerStatusResponse:
        """Raises NotFound for a container that is gone."""
        return self._unary(_RUNTIME + "ContainerStatus", request, cri.ContainerStatusResponse, seconds)

    def update_container_resources(
        self, request: cri.UpdateContainerResourcesRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.UpdateContainerResourcesResponse:
        return self._unary(
            _RUNTIME + "UpdateContainerResources", request, cri.UpdateContainerResourcesResponse, seconds
        )

    def update_pod_sandbox_resources(
        self, request: cri.UpdatePodSandboxResourcesRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> bool:
        """Tell the runtime of a pod's new sizes. Whether it knows that call: containerd up to 2.1 has none, and 2.2
        says so in words."""
        try:
            self._unary(_RUNTIME + "UpdatePodSandboxResources", request, cri.UpdatePodSandboxResourcesResponse, seconds)
        except Refused:
            return False
        except Unavailable as error:
            if "not implemented" not in str(error):
                raise
            return False
        return True

    def reopen_container_log(
        self, request: cri.ReopenContainerLogRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ReopenContainerLogResponse:
        return self._unary(_RUNTIME + "ReopenContainerLog", request, cri.ReopenContainerLogResponse, seconds)

    def exec_sync(self, request: cri.ExecSyncRequest, *, seconds: float = DEFAULT_SECONDS) -> cri.ExecSyncResponse:
        """Run a command to its end; request.timeout seconds, 0 for the deadline alone. Raises Unavailable with the
        runtime's words when that time is over or the command cannot be started, Conflict where nothing runs."""
        seconds = max(seconds, request.timeout + DEFAULT_SECONDS)
        return self._unary(_RUNTIME + "ExecSync", request, cri.ExecSyncResponse, seconds)

    def exec_later(self, request: cri.ExecSyncRequest, done: Callable[[ExecEnd], None]) -> None:
        """As exec_sync, without waiting: `done` is called on a thread of grpc's and must be quick. However many are
        under way, no thread waits for them."""
        method, started = "ExecSync", time.monotonic()
        try:
            call = self._call(_RUNTIME + method, request, cri.ExecSyncResponse)
            future = cast(Any, call).future(request, timeout=request.timeout + DEFAULT_SECONDS)
        except ValueError as failure:  # grpc's answer to a call on a closed channel
            done(ExecEnd(failure=f"{method}: {failure}"))
            return

        def over(ended: Any) -> None:
            end = _exec_end(ended)
            self._observe(method, time.monotonic() - started, end.exit_code is None)
            done(end)

        future.add_done_callback(over)

    def exec(self, request: cri.ExecRequest, *, seconds: float = DEFAULT_SECONDS) -> cri.ExecResponse:
        """A streaming URL that serves one exec session."""
        return self._unary(_RUNTIME + "Exec", request, cri.ExecResponse, seconds)

    def attach(self, request: cri.AttachRequest, *, seconds: float = DEFAULT_SECONDS) -> cri.AttachResponse:
        """A streaming URL that serves one attach session."""
        return self._unary(_RUNTIME + "Attach", request, cri.AttachResponse, seconds)

    def port_forward(
        self, request: cri.PortForwardRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.PortForwardResponse:
        """A streaming URL that serves one port-forward session."""
        return self._unary(_RUNTIME + "PortForward", request, cri.PortForwardResponse, seconds)

    def checkpoint_container(
        self, request: cri.CheckpointContainerRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.CheckpointContainerResponse:
        """Write the container's state to request.location; the deadline is request.timeout and two minutes."""
        seconds = max(seconds, request.timeout + DEFAULT_SECONDS)
        return self._unary(_RUNTIME + "CheckpointContainer", request, cri.CheckpointContainerResponse, seconds)

    def container_stats(
        self, request: cri.ContainerStatsRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ContainerStatsResponse:
        return self._unary(_RUNTIME + "ContainerStats", request, cri.ContainerStatsResponse, seconds)

    def list_container_stats(
        self, request: cri.ListContainerStatsRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ListContainerStatsResponse:
        return self._unary(_RUNTIME + "ListContainerStats", request, cri.ListContainerStatsResponse, seconds)

    def pod_sandbox_stats(
        self, request: cri.PodSandboxStatsRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.PodSandboxStatsResponse:
        return self._unary(_RUNTIME + "PodSandboxStats", request, cri.PodSandboxStatsResponse, seconds)

    def list_pod_sandbox_stats(
        self, request: cri.ListPodSandboxStatsRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ListPodSandboxStatsResponse:
        return self._unary(_RUNTIME + "ListPodSandboxStats", request, cri.ListPodSandboxStatsResponse, seconds)

    def update_runtime_config(
        self, request: cri.UpdateRuntimeConfigRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.UpdateRuntimeConfigResponse:
        return self._unary(_RUNTIME + "UpdateRuntimeConfig", request, cri.UpdateRuntimeConfigResponse, seconds)

    def runtime_config(
        self, request: cri.RuntimeConfigRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.RuntimeConfigResponse:
        return self._unary(_RUNTIME + "RuntimeConfig", request, cri.RuntimeConfigResponse, seconds)

    def list_images(
        self, request: cri.ListImagesRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ListImagesResponse:
        return self._unary(_IMAGE + "ListImages", request, cri.ListImagesResponse, seconds)

    def image_status(
        self, request: cri.ImageStatusRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ImageStatusResponse:
        """The response has no image where it is not there."""
        return self._unary(_IMAGE + "ImageStatus", request, cri.ImageStatusResponse, seconds)

    def pull_image(self, request: cri.PullImageRequest, *, seconds: float = PULL_SECONDS) -> cri.PullImageResponse:
        """Pull; the deadline is the caller's, since a pull may take long. Raises Refused on bad credentials."""
        return self._unary(_IMAGE + "PullImage", request, cri.PullImageResponse, seconds)

    def remove_image(
        self, request: cri.RemoveImageRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.RemoveImageResponse:
        return self._unary(_IMAGE + "RemoveImage", request, cri.RemoveImageResponse, seconds)

    def image_fs_info(
        self, request: cri.ImageFsInfoRequest, *, seconds: float = DEFAULT_SECONDS
    ) -> cri.ImageFsInfoResponse:
        return self._unary(_IMAGE + "ImageFsInfo", request, cri.ImageFsInfoResponse, seconds)
