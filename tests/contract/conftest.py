"""The runtimes that the contract is held against: the fake, and a private containerd."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.fake_runtime import SHELL_IMAGE, FakeRuntime
from tests.waiting import wait_for
from vkcri.config import RuntimeSettings
from vkcri.errors import NotFound

SLEEP = ("sh", "-c", "trap 'exit 143' TERM; echo trapped; while :; do sleep 0.05; done")


@dataclass
class Guest:
    """A runtime with short ways to what most sentences need. Every sandbox that it made is removed at the end."""

    runtime: Runtime
    label: str
    logs: Path
    cgroup_root: str
    fake: FakeRuntime | None = None
    made: list[str] = field(default_factory=list)

    def sandbox_config(self, name: str, attempt: int = 0) -> cri.PodSandboxConfig:
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=f"uid-{self.label}-{name}", namespace="ns", attempt=attempt),
            hostname=name,
            log_directory=str(self.logs / name),
            labels={"test": self.label, "name": name},
            annotations={"vkcri/note": "ä {} \n"},
        )
        config.linux.cgroup_parent = f"{self.cgroup_root}/kubepods/pod{self.label}{name}"
        return config

    def run(self, name: str = "pod", attempt: int = 0) -> str:
        """A ready sandbox's id."""
        config = self.sandbox_config(name, attempt)
        sandbox = self.runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
        self.made.append(sandbox)
        return sandbox

    def create(
        self, sandbox: str, name: str = "main", command: tuple[str, ...] = SLEEP, *, image: str = SHELL_IMAGE
    ) -> str:
        """A created container's id."""
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=name),
            image=cri.ImageSpec(image=image),
            command=command,
            labels={"container": name},
            log_path=f"{name}/0.log",
        )
        pod = self.status(sandbox).labels["name"]
        request = cri.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=config, sandbox_config=self.sandbox_config(pod)
        )
        return self.runtime.create_container(request).container_id

    def start(self, sandbox: str, name: str = "main", command: tuple[str, ...] = SLEEP) -> str:
        """A running container's id."""
        container = self.create(sandbox, name, command)
        self.runtime.start_container(cri.StartContainerRequest(container_id=container))
        return container

    def wait_trapped(self, container: str) -> None:
        """Until its script, which says so, heeds signals as it means to. The fake's heed them at once."""
        if self.fake is None:
            log = Path(self.container(container).log_path)
            wait_for("the trap", lambda: log.exists() and "trapped" in log.read_text())

    def status(self, sandbox: str) -> cri.PodSandboxStatus:
        return self.runtime.pod_sandbox_status(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox)).status

    def container(self, container: str) -> cri.ContainerStatus:
        return self.runtime.container_status(cri.ContainerStatusRequest(container_id=container)).status

    def exists(self, container: str) -> bool:
        try:
            self.container(container)
        except NotFound:
            return False
        return True

    def stop(self, container: str, grace: int) -> None:
        self.runtime.stop_container(cri.StopContainerRequest(container_id=container, timeout=grace))

    def stop_sandbox(self, sandbox: str) -> None:
        self.runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))

    def remove_sandbox(self, sandbox: str) -> None:
        self.runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))

    def clean(self) -> None:
        for sandbox in self.made:
            self.stop_sandbox(sandbox)
            self.remove_sandbox(sandbox)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeRuntime]:
    with FakeRuntime(tmp_path / "cri.sock") as server:
        yield server


@pytest.fixture(params=["fake", pytest.param("containerd", marks=pytest.mark.container)])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    """One sentence's guest, on each of the runtimes."""
    label = f"{abs(hash(request.node.name)) % 10**8}"
    if request.param == "fake":
        with FakeRuntime(tmp_path / "cri.sock") as server:
            runtime = Runtime(server.endpoint)
            yield Guest(runtime, label, tmp_path, "/none", server)
            runtime.close()
        return
    settings: RuntimeSettings = request.getfixturevalue("containerd_settings")
    runtime = Runtime(settings.runtime_endpoint)
    logs = settings.instance.pod_logs_dir / label  # a log is appended to: no sentence reads another's
    found = Guest(runtime, label, logs, settings.instance.cgroup_root)
    try:
        yield found
    finally:
        found.clean()
        runtime.close()
