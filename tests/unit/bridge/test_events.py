"""Hints: from containerd's own events, from CRI's, and from a runtime that has neither."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.events import CONNECTED, ENDING, EXITED, OOM, STARTED, Hint, Hints, hint_of
from bridge.pb.containerd import events_pb2 as pb
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.fake_runtime import SHELL_IMAGE, FakeRuntime
from tests.waiting import wait_for
from vkcri.config import RuntimeSettings
from vkcri.instance import Instance
from vkcri.lifecycle import Process


class Listener:
    """A process of one test with Hints in it."""

    def __init__(self, endpoint: str, *, wanted: bool = True) -> None:
        self.seen: list[Hint] = []
        self.ended: list[int] = []
        self.runtime = Runtime(endpoint)
        self.process = Process("test", Instance("rt-11"), end=self.ended.append)
        self.hints = Hints(self.runtime, self.seen.append, wanted=wanted)
        self.hints.start(self.process)

    def close(self) -> None:
        self.process.drain()
        wait_for("the thread ends", lambda: "runtime-events" not in [thread.name for thread in threading.enumerate()])
        self.runtime.close()
        assert self.ended == []


@pytest.fixture
def listen() -> Iterator[Callable[[str], Listener]]:
    made: list[Listener] = []

    def start(endpoint: str) -> Listener:
        made.append(Listener(endpoint))
        return made[-1]

    yield start
    for listener in made:
        listener.close()


def run_one(runtime: Runtime, *, cgroup: str = "", command: tuple[str, ...] = ("true",)) -> tuple[str, str]:
    """The ids of a sandbox and of a container that was started in it."""
    metadata = cri.PodSandboxMetadata(name="hints", uid="hints", namespace="ns")
    config = cri.PodSandboxConfig(metadata=metadata, linux=cri.LinuxPodSandboxConfig(cgroup_parent=cgroup))
    sandbox = runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="a"), image=cri.ImageSpec(image=SHELL_IMAGE), command=command
    )
    request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
    identity = runtime.create_container(request).container_id
    runtime.start_container(cri.StartContainerRequest(container_id=identity))
    return sandbox, identity


def test_cris_own_events_are_hints_where_containerds_are_not_there(
    fake: FakeRuntime, listen: Callable[[str], Listener]
) -> None:
    fake.has_events = True
    listener = listen(fake.endpoint)
    wait_for("CRI's stream, after containerd's was refused", lambda: fake.count("GetContainerEvents"))
    wait_for("a standing stream", lambda: listener.hints.live)
    _, container = run_one(listener.runtime)
    fake.exit(container, 1)
    wait_for("both hints", lambda: {Hint(container, STARTED), Hint(container, EXITED)} <= set(listener.seen))


def test_a_runtime_without_events_is_polled_and_that_is_said_once(
    fake: FakeRuntime, listen: Callable[[str], Listener], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listener = listen(fake.endpoint)
    wait_for("the warning", lambda: "no events" in caplog.text)
    assert not listener.hints.live
    assert caplog.text.count("polling") == 1


def test_events_that_are_not_wanted_are_not_asked_for(fake: FakeRuntime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    fake.has_events = True
    listener = Listener(fake.endpoint, wanted=False)
    assert "polled every second" in caplog.text
    assert "runtime-events" not in [thread.name for thread in threading.enumerate()]
    assert not listener.hints.live
    listener.close()


def test_after_a_break_the_stream_is_taken_up_again_and_everything_is_to_be_read(
    tmp_path: Path, listen: Callable[[str], Listener]
) -> None:
    socket = tmp_path / "cri.sock"
    listener = listen(f"unix://{socket}")
    for _ in range(2):
        listener.seen.clear()
        with FakeRuntime(socket) as server:
            server.has_events = True
            wait_for("a standing stream", lambda: listener.hints.live)
            assert Hint("", CONNECTED) in listener.seen
        wait_for("the break is noticed", lambda: not listener.hints.live)


def test_a_stop_just_before_a_stream_begins_ends_it(fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.has_events = True
    listener = Listener(fake.endpoint, wanted=False)
    begin = listener.runtime.container_events

    def stopped_first() -> Any:
        listener.process.drain()
        return begin()

    monkeypatch.setattr(listener.runtime, "container_events", stopped_first)
    listener.hints = Hints(listener.runtime, listener.seen.append)
    listener.hints.start(listener.process)
    wait_for("the stop", listener.process.stopping.is_set)
    listener.close()


def envelope(topic: str, body: pb.TaskEvent | pb.TaskExit | pb.TaskDelete) -> pb.Envelope:
    found = pb.Envelope(namespace="k8s.io", topic=topic)
    found.event.value = body.SerializeToString()
    return found


@pytest.mark.parametrize(
    ("topic", "body", "expected"),
    [
        ("/tasks/start", pb.TaskEvent(container_id="c"), Hint("c", STARTED)),
        ("/tasks/oom", pb.TaskEvent(container_id="c"), Hint("c", OOM)),
        ("/tasks/exit", pb.TaskExit(container_id="c", id="c", exit_status=1), Hint("c", ENDING)),
        ("/tasks/exit", pb.TaskExit(container_id="c", id="an-exec"), None),
        ("/tasks/delete", pb.TaskDelete(container_id="c"), Hint("c", EXITED)),
        ("/tasks/delete", pb.TaskDelete(container_id="c", id="an-exec"), None),
        ("/images/create", pb.TaskEvent(container_id="c"), None),
    ],
)
def test_an_envelope_is_a_hint_unless_an_exec_ended(
    topic: str, body: pb.TaskEvent | pb.TaskExit | pb.TaskDelete, expected: Hint | None
) -> None:
    assert hint_of(envelope(topic, body)) == expected


@pytest.mark.container
def test_containerd_tells_of_starts_and_ends_and_not_of_execs(
    containerd_settings: RuntimeSettings, listen: Callable[[str], Listener]
) -> None:
    listener = listen(containerd_settings.runtime_endpoint)
    runtime = listener.runtime
    wait_for("a standing stream", lambda: listener.hints.live)
    cgroup = f"{containerd_settings.instance.cgroup_root}/kubepods/podhints"
    sandbox, container = run_one(runtime, cgroup=cgroup, command=("sh", "-c", "sleep 100"))
    try:
        wait_for("the starts", lambda: {Hint(sandbox, STARTED), Hint(container, STARTED)} <= set(listener.seen))
        runtime.exec_sync(cri.ExecSyncRequest(container_id=container, cmd=["true"], timeout=10))
        assert Hint(container, EXITED) not in listener.seen
        runtime.stop_container(cri.StopContainerRequest(container_id=container, timeout=0))
        wait_for("the end", lambda: Hint(container, EXITED) in listener.seen)
    finally:
        runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    wait_for("the sandbox's end", lambda: Hint(sandbox, EXITED) in listener.seen)
    assert listener.seen.count(Hint(container, EXITED)) == 1
