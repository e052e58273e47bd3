"""The relist: which pods a reading says have changed, and what it may not say while the runtime is away."""

from pathlib import Path

import pytest

from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Listing, Relist
from bridge.runtime import Runtime
from bridge.spec import names
from tests.contract.fake_runtime import FakeRuntime

LABEL = "core-42"


def make(runtime: Runtime, uid: str, label: str = LABEL) -> tuple[str, str]:
    """A sandbox with a container `app`; their ids."""
    labels = {
        names.POD_UID: uid,
        names.POD_NAME: uid,
        names.POD_NAMESPACE: "default",
        names.INSTANCE: label,
    }
    config = api_pb2.PodSandboxConfig(
        metadata=api_pb2.PodSandboxMetadata(name=uid, uid=uid, namespace="default"), labels=labels
    )
    sandbox = runtime.run_pod_sandbox(api_pb2.RunPodSandboxRequest(config=config)).pod_sandbox_id
    container = api_pb2.ContainerConfig(
        metadata=api_pb2.ContainerMetadata(name="app"),
        image=api_pb2.ImageSpec(image="shell"),
        labels={**labels, names.CONTAINER_NAME: "app"},
    )
    request = api_pb2.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
    made = runtime.create_container(request).container_id
    runtime.start_container(api_pb2.StartContainerRequest(container_id=made))
    return sandbox, made


class Heard:
    def __init__(self) -> None:
        self.changes: list[set[str]] = []

    def __call__(self, changed: set[str], listing: Listing) -> None:
        del listing
        self.changes.append(changed)


def test_each_reading_says_what_has_changed(tmp_path: Path) -> None:
    with FakeRuntime(tmp_path / "cri.sock") as fake:
        fake.add_image("shell")
        runtime, heard = Runtime(fake.endpoint), Heard()
        relist = Relist(runtime, LABEL, heard, clock=lambda: 5.0)
        assert relist.read()
        sandbox, container = make(runtime, "a")
        make(runtime, "b")
        make(runtime, "stranger", label="other")
        assert relist.read()
        assert relist.read()
        fake.exit(container, 1)
        assert relist.read()
        assert heard.changes == [set(), {"a", "b"}, {"a"}]
        assert (relist.owner(sandbox), relist.owner(container), relist.owner("unknown")) == ("a", "a", None)
        assert relist.relisted == 5.0
        runtime.close()


def test_a_reading_is_two_calls_however_many_pods_there_are(tmp_path: Path) -> None:
    with FakeRuntime(tmp_path / "cri.sock") as fake:
        fake.add_image("shell")
        runtime = Runtime(fake.endpoint)
        for number in range(20):
            make(runtime, f"pod-{number}")
        before = len(fake.calls)
        assert Relist(runtime, LABEL, Heard()).read()
        assert sorted(name for name, _ in fake.calls[before:]) == ["ListContainers", "ListPodSandbox"]
        runtime.close()


def test_a_runtime_that_is_away_takes_nothing_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    with FakeRuntime(tmp_path / "cri.sock") as fake:
        fake.add_image("shell")
        runtime = Runtime(fake.endpoint)
        relist = Relist(runtime, LABEL, heard)
        make(runtime, "a")
        assert relist.read()
        before = relist.relisted
    for _ in range(3):
        assert not relist.read()
    assert set(relist.listing) == {"a"}
    assert relist.relisted == before
    assert len(heard.changes) == 1
    told = [record.getMessage() for record in caplog.records if "cannot be read" in record.message]
    assert told
    assert len(told) == len(set(told))  # each reason once; the first may be of the connection that broke
    runtime.close()
