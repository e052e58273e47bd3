"""A runtime whose cgroup driver is systemd is told so, in one line with the cure, before a pod is tried."""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge import containerd, main
from bridge.cgroup_driver import refuse_systemd, systemd_in
from bridge.prepare import Preparation
from bridge.runtime import Runtime
from tests.conftest import remove_folders
from tests.waiting import PATIENCE, wait_for
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Refused, VkcriError
from vkcri.instance import Instance
from vkcri.lifecycle import Process

SYSTEMD = {"options": {"SystemdCgroup": True}}
PLAIN = {"options": {"SystemdCgroup": False}}


@pytest.mark.parametrize(
    ("config", "is_so"),
    [
        ({"containerd": {"defaultRuntimeName": "runc", "runtimes": {"runc": SYSTEMD}}}, True),
        ({"containerd": {"defaultRuntimeName": "runc", "runtimes": {"runc": PLAIN, "other": SYSTEMD}}}, False),
        ({"containerd": {"defaultRuntimeName": "runc", "runtimes": {"runc": {"options": None}}}}, False),
        ({"systemdCgroup": True}, True),
        ({}, False),
    ],
)
def test_an_older_containerds_status_tells_the_default_handlers_driver(config: dict[str, Any], is_so: bool) -> None:
    assert systemd_in(config) == is_so


@pytest.fixture
def systemd(claim: Callable[[str], Instance]) -> Iterator[RuntimeSettings]:
    """A containerd as another configured it, with the systemd driver."""
    settings = RuntimeSettings(instance=claim("systemd"), pod_ip="127.0.0.1")
    remove_folders(settings.instance)
    program, path = containerd.write_config(settings)
    path.write_text(path.read_text().replace("SystemdCgroup = false", "SystemdCgroup = true"))
    command = containerd.command(settings, program, path)
    process = subprocess.Popen(command, env=containerd.environment(), stderr=subprocess.DEVNULL)
    try:
        wait_for("CRI", lambda: answers(settings))
        yield settings
    finally:
        process.terminate()
        process.wait(PATIENCE)
        remove_folders(settings.instance)


def answers(settings: RuntimeSettings) -> bool:
    try:
        return containerd.answering(settings) is not None
    except VkcriError:
        return False


@pytest.mark.container
def test_each_containerd_tells_it_and_the_check_names_the_cure(systemd: RuntimeSettings) -> None:
    with pytest.raises(ConfigError, match=r"cgroup driver is systemd.*set SystemdCgroup = false"):
        main.check(systemd)
    runtime = Runtime(systemd.runtime_endpoint)
    with pytest.raises(Refused, match="cgroup driver is systemd"):
        refuse_systemd(runtime)
    preparation = Preparation(systemd, runtime, dict, lambda: None)
    assert not preparation.prepare(Process("test", systemd.instance, end=lambda _: None))
    assert preparation.trouble().startswith("the runtime's cgroup driver is systemd")
    runtime.close()


@pytest.mark.container
def test_ours_is_not_refused(containerd_settings: RuntimeSettings, containerd_runtime: Runtime) -> None:
    refuse_systemd(containerd_runtime)
    assert main.check(containerd_settings) == f"runtime {containerd_settings.runtime_endpoint}"
