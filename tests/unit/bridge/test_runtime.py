"""The CRI client: errors, deadlines, reconnecting, and what it never logs."""

import logging
import time
from pathlib import Path

import grpc
import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.fake_runtime import SHELL_IMAGE, FakeRuntime
from tests.waiting import PATIENCE
from vkcri.errors import Conflict, Invalid, NotFound, Refused, Unavailable, VkcriError

VERSION = cri.VersionRequest(version="v1")


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, "no such thing", NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, "bad", Invalid),
        (grpc.StatusCode.ALREADY_EXISTS, "there", Conflict),
        (grpc.StatusCode.FAILED_PRECONDITION, "not now", Conflict),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown method", Refused),
        (grpc.StatusCode.PERMISSION_DENIED, "no", Refused),
        (grpc.StatusCode.UNAUTHENTICATED, "who", Refused),
        (grpc.StatusCode.UNAVAILABLE, "away", Unavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "full", Unavailable),
        (grpc.StatusCode.UNKNOWN, "no space left on device", Unavailable),
        (grpc.StatusCode.UNKNOWN, 'name "a" is reserved for "b"', Conflict),
        (grpc.StatusCode.UNKNOWN, "container is in CONTAINER_EXITED state", Conflict),
        (grpc.StatusCode.UNKNOWN, "failed to parse: invalid reference format", Invalid),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "timeout 1s exceeded", Unavailable),
    ],
)
def test_a_failure_becomes_one_of_ours_in_the_runtimes_words(
    fake: FakeRuntime, code: grpc.StatusCode, message: str, error: type[VkcriError]
) -> None:
    fake.fail_next("Version", message, code=code)
    runtime = Runtime(fake.endpoint)
    with pytest.raises(error) as raised:
        runtime.version(VERSION)
    assert type(raised.value) is error
    assert str(raised.value) == message
    assert isinstance(raised.value.__cause__, grpc.RpcError)
    assert runtime.version(VERSION).runtime_name == "fake"
    runtime.close()


def test_an_rpc_that_the_runtime_lacks_is_refused(fake: FakeRuntime) -> None:
    runtime = Runtime(fake.endpoint)
    with pytest.raises(Refused):
        runtime.runtime_config(cri.RuntimeConfigRequest())
    runtime.close()


def test_a_runtime_that_is_too_slow_is_unavailable_at_the_deadline(fake: FakeRuntime) -> None:
    fake.delay("Version", 30.0)
    runtime = Runtime(fake.endpoint)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="Version: no answer within its deadline"):
        runtime.version(VERSION, seconds=0.2)
    assert time.monotonic() - began < 20
    runtime.close()


def test_a_stops_deadline_covers_its_grace(fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: list[float] = []
    runtime = Runtime(fake.endpoint)
    monkeypatch.setattr(runtime, "_unary", lambda *arguments: deadlines.append(arguments[-1]))
    runtime.stop_container(cri.StopContainerRequest(container_id="a", timeout=600))
    runtime.stop_container(cri.StopContainerRequest(container_id="a", timeout=5), seconds=1000)
    runtime.exec_sync(cri.ExecSyncRequest(container_id="a", timeout=300))
    assert deadlines == [720.0, 1000, 420.0]
    runtime.close()


def test_a_runtime_that_is_away_is_unavailable_at_once_and_found_again_quickly(tmp_path: Path) -> None:
    socket = tmp_path / "cri.sock"
    runtime = Runtime(f"unix://{socket}")
    began = time.monotonic()
    with pytest.raises(Unavailable):
        runtime.version(VERSION)
    assert time.monotonic() - began < PATIENCE  # of 120 s that the call has
    for _ in range(2):
        with FakeRuntime(socket):
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    assert runtime.version(VERSION).runtime_name == "fake"
                    break
                except Unavailable:
                    assert time.monotonic() < deadline, "not found again"
                    time.sleep(0.02)
    runtime.close()


def test_a_closed_client_is_unavailable(fake: FakeRuntime) -> None:
    runtime = Runtime(fake.endpoint)
    runtime.close()
    with pytest.raises(Unavailable):
        runtime.version(VERSION)


def test_a_call_is_one_debug_line_and_tells_no_environment(fake: FakeRuntime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    runtime = Runtime(fake.endpoint)
    config = cri.PodSandboxConfig(metadata=cri.PodSandboxMetadata(name="a", uid="b", namespace="c"))
    sandbox = runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="a"),
        image=cri.ImageSpec(image=SHELL_IMAGE),
        envs=[cri.KeyValue(key="PASSWORD", value=b"hunter2")],
    )
    request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
    fake.fail_next("CreateContainer", "no space left on device")
    with pytest.raises(Unavailable):
        runtime.create_container(request)
    runtime.create_container(request)
    lines = [record.getMessage() for record in caplog.records if record.name == "bridge.runtime"]
    assert [line.split()[0] for line in lines] == ["RunPodSandbox", "CreateContainer", "CreateContainer"]
    assert "no space left on device" in lines[1]
    assert "hunter2" not in caplog.text
    assert "PASSWORD" not in caplog.text
    runtime.close()
