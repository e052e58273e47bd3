"""The clean-up: everything of ours, nothing of anybody else's, whatever died before."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import cleanup, containerd, network
from bridge.images_local import SHELL_IMAGE, ensure_images
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.spec import names
from bridge.volumes import mounting
from tests.conftest import remove_folders, start_containerd
from tests.contract.fake_runtime import FakeRuntime
from tests.waiting import PATIENCE
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, Unavailable
from vkcri.instance import Instance

pytestmark = pytest.mark.container
OTHERS = f"vkcri-test-others-{os.getpid()}"  # the cgroup of a sandbox that is not ours


@pytest.fixture(scope="module")
def settings(claim: Callable[[str], Instance]) -> RuntimeSettings:
    """The instance that is cleaned up."""
    return RuntimeSettings(instance=claim("clean"), pod_ip="127.0.0.1")


def run(runtime: Runtime, name: str, label: str, cgroup_root: str, *, container: bool = True) -> str:
    """A sandbox of the instance that `label` names, with a container that ignores SIGTERM."""
    config = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="ns"),
        labels={names.INSTANCE: label} if label else {},
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=f"{cgroup_root}/kubepods/pod{name}"),
    )
    sandbox = runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
    if container:
        main = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name="main"),
            image=cri.ImageSpec(image=SHELL_IMAGE),
            command=["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"],
        )
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=main, sandbox_config=config)
        identity = runtime.create_container(request).container_id
        runtime.start_container(cri.StartContainerRequest(container_id=identity))
    return sandbox


def leftovers(settings: RuntimeSettings) -> list[str]:
    """What the instance still holds on the guest."""
    instance = settings.instance
    found = [f"mount {point}" for top in (instance.run_dir, instance.state_dir) for point in mounting.mounts_below(top)]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*{instance.cgroup_root}")]
    found += [
        f"pid {pid}" for pid, words in containerd.processes() if any(instance.folder.encode() in w for w in words)
    ]
    found += [str(path) for path in Path("/sys/class/net").glob(instance.bridge_name)]
    found += [str(path) for path in instance.containerd_cni_dir.glob("*.conflist")]
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True, timeout=20).stdout
    return found + [line for line in rules.splitlines() if instance.cni_name in line]


class Node:
    """Our own containerd with its network, and what a bridge would have left on the guest."""

    def __init__(self, settings: RuntimeSettings, process: "subprocess.Popen[bytes]") -> None:
        self.settings = settings
        self.process = process
        self.runtime = Runtime(settings.runtime_endpoint)
        ensure_images(self.runtime, settings)
        network.ensure_network(self.runtime, settings, settings.instance.pod_subnet)
        network.wait_ready(self.runtime, threading.Event().wait)
        secret = settings.instance.volumes_dir / "uid" / "secret"
        secret.mkdir(parents=True)
        mounting.mount_tmpfs(secret)


@pytest.fixture
def node(settings: RuntimeSettings) -> Iterator[Node]:
    cleanup.cleanup(settings)
    remove_folders(settings.instance)
    with contextlib.ExitStack() as stack:
        stack.callback(remove_folders, settings.instance)
        stack.callback(cleanup.cleanup, settings)
        process = start_containerd(settings)
        stack.callback(process.wait, 20)
        stack.callback(process.kill)
        made = Node(settings, process)
        stack.callback(made.runtime.close)
        yield made


def test_everything_of_ours_goes_and_a_second_time_is_harmless(node: Node, settings: RuntimeSettings) -> None:
    for name in ("a", "b"):
        run(node.runtime, name, settings.instance.cri_label, settings.instance.cgroup_root)
    assert leftovers(settings)
    cleanup.cleanup(settings)
    assert node.process.wait(PATIENCE) == 0
    assert leftovers(settings) == []
    cleanup.cleanup(settings)
    assert leftovers(settings) == []


def test_our_containerd_is_started_again_for_the_clean_up_of_its_sandboxes(
    node: Node, settings: RuntimeSettings
) -> None:
    run(node.runtime, "a", settings.instance.cri_label, settings.instance.cgroup_root)
    node.process.send_signal(signal.SIGKILL)
    node.process.wait(PATIENCE)
    assert any(line.startswith("pid") for line in leftovers(settings)), "the shim outlives containerd"
    cleanup.cleanup(settings)
    assert leftovers(settings) == []


def test_sandboxes_go_though_their_containerd_cannot_start(
    node: Node, settings: RuntimeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(node.runtime, "a", settings.instance.cri_label, settings.instance.cgroup_root)
    node.process.send_signal(signal.SIGKILL)
    node.process.wait(PATIENCE)

    def broken(_: RuntimeSettings) -> tuple[str, Path]:
        return "/bin/false", containerd.config_path(settings)

    with monkeypatch.context() as patch:
        patch.setattr(containerd, "write_config", broken)
        with pytest.raises(Unavailable, match="does not start"):
            cleanup.cleanup(settings)
    assert leftovers(settings) == []
    cleanup.cleanup(settings)  # it still knows the sandbox, and stops none without a network
    assert leftovers(settings) == []


def test_our_containerd_stays_with_the_sandboxes_of_others(node: Node, settings: RuntimeSettings) -> None:
    run(node.runtime, "a", settings.instance.cri_label, settings.instance.cgroup_root)
    theirs = run(node.runtime, "theirs", "another", f"/{OTHERS}", container=False)
    try:
        with pytest.raises(Refused, match="1 sandboxes of others run in our containerd"):
            cleanup.cleanup(settings)
        left = node.runtime.list_pod_sandbox(cri.ListPodSandboxRequest()).items
        assert [(item.id, item.state) for item in left] == [(theirs, cri.SANDBOX_READY)]
        assert node.process.poll() is None
    finally:
        node.runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=theirs))
        for folder in Path("/sys/fs/cgroup").glob(f"*/{OTHERS}"):
            for path, _, _ in os.walk(folder, topdown=False):
                os.rmdir(path)
    cleanup.cleanup(settings)
    assert leftovers(settings) == []


def test_a_users_runtime_and_its_other_sandboxes_are_left_alone(fake: FakeRuntime, settings: RuntimeSettings) -> None:
    elsewhere = dataclasses.replace(settings, runtime_endpoint=fake.endpoint)
    runtime = Runtime(fake.endpoint)
    run(runtime, "ours", settings.instance.cri_label, "/none")
    theirs = {run(runtime, "another", "vkcri", "/none"), run(runtime, "unlabelled", "", "/none")}
    cleanup.cleanup(elsewhere)
    assert set(fake.sandboxes) == theirs
    assert all(item.state == cri.SANDBOX_READY for item in fake.sandboxes.values())
    runtime.close()


def test_one_sandbox_that_cannot_be_removed_keeps_no_other_and_is_told(
    fake: FakeRuntime, settings: RuntimeSettings
) -> None:
    elsewhere = dataclasses.replace(settings, runtime_endpoint=fake.endpoint)
    runtime = Runtime(fake.endpoint)
    for name in ("a", "b", "c"):
        run(runtime, name, settings.instance.cri_label, "/none")
    fake.fail_next("RemovePodSandbox", "device or resource busy")
    with pytest.raises(Unavailable, match="1 sandboxes could not be removed: device or resource busy"):
        cleanup.cleanup(elsewhere)
    assert len(fake.sandboxes) == 1
    cleanup.cleanup(elsewhere)
    assert fake.sandboxes == {}
    runtime.close()


def test_where_nothing_ever_ran_there_is_nothing_to_do(settings: RuntimeSettings) -> None:
    steps: list[Callable[[], None]] = [lambda: cleanup.cleanup(settings)] * 2
    for step in steps:
        step()
    assert leftovers(settings) == []
    assert not settings.instance.state_dir.exists()
