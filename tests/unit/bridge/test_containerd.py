"""The launcher: when our own containerd is needed, how it is configured, and what becomes of it."""

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bridge import cleanup, containerd, containerd_config
from bridge.containerd_config import PAUSE_IMAGE, Conditions, render
from tests.conftest import remove_folders, start_containerd
from tests.contract.fake_runtime import FakeRuntime
from tests.instances import own
from tests.waiting import PATIENCE, wait_for
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Unavailable
from vkcri.instance import Instance

PROJECT = Path(__file__).parents[3]
INSTANCE = own("rt")  # for what is only computed
SETTINGS = RuntimeSettings(instance=INSTANCE, pod_ip="127.0.0.1")
CONDITIONS = Conditions("/usr/bin/containerd", (1, 6), "/usr/lib/cni", lowers_oom_score=False, overlay=True)


def settings_for(endpoint: str) -> RuntimeSettings:
    return dataclasses.replace(SETTINGS, runtime_endpoint=endpoint)


def config(**changes: Any) -> dict[str, Any]:
    conditions = dataclasses.replace(CONDITIONS, **changes)
    return tomllib.loads(render(INSTANCE, SETTINGS.runtime_socket, conditions))


def test_ours_has_root_state_socket_and_cni_folder_of_its_own() -> None:
    found = config()
    cri = found["plugins"]["io.containerd.grpc.v1.cri"]
    assert (found["version"], found["root"]) == (2, f"/var/lib/{INSTANCE.folder}/containerd")
    assert (found["state"], found["grpc"]["address"]) == (str(INSTANCE.containerd_state), str(SETTINGS.runtime_socket))
    assert cri["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": str(INSTANCE.containerd_cni_dir)}
    assert cri["sandbox_image"] == PAUSE_IMAGE
    assert cri["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"] is False


@pytest.mark.parametrize("version", [(1, 6), (1, 7), (2, 1)])
def test_ours_has_no_path_outside_its_own_folders_but_what_it_only_reads(version: tuple[int, int]) -> None:
    text = render(INSTANCE, SETTINGS.runtime_socket, dataclasses.replace(CONDITIONS, version=version))
    own = (str(INSTANCE.state_dir), str(INSTANCE.run_dir))
    others = {path for path in re.findall(r'"(/[^"]*)"', text) if not path.startswith(own)}
    assert others == {"/usr/lib/cni", containerd_config.REGISTRIES_DIR}


@pytest.mark.container
def test_what_ours_would_write_by_default_outside_its_folders_is_moved_into_them(claimed: RuntimeSettings) -> None:
    """As the program itself understands the file: every path of its own defaults that it would write to."""
    program, path = containerd.write_config(claimed)
    done = subprocess.run([program, "--config", path, "config", "dump"], capture_output=True, timeout=60, check=True)
    plugins = tomllib.loads(done.stdout.decode())["plugins"]
    written = [plugins["io.containerd.internal.v1.opt"]["path"]]
    nri = plugins.get("io.containerd.nri.v1.nri", {"disable": True})
    if not nri["disable"]:
        written.append(nri["socket_path"])
    own = (str(claimed.instance.state_dir), str(claimed.instance.run_dir))
    assert [path for path in written if not path.startswith(own)] == []
    remove_folders(claimed.instance)


@pytest.mark.parametrize(("version", "plugin"), [((1, 6), "grpc.v1.cri"), ((2, 1), "cri.v1.runtime")])
def test_further_handlers_are_runc_or_a_program_of_ones_own(version: tuple[int, int], plugin: str) -> None:
    conditions = dataclasses.replace(CONDITIONS, version=version)
    handlers = {"test-handler": "", "crun": "/usr/bin/crun"}
    found = tomllib.loads(render(INSTANCE, SETTINGS.runtime_socket, conditions, handlers))
    runtimes = found["plugins"][f"io.containerd.{plugin}"]["containerd"]["runtimes"]
    assert {item["runtime_type"] for item in runtimes.values()} == {"io.containerd.runc.v2"}
    programs = {name: item["options"].get("BinaryName", "") for name, item in runtimes.items()}
    assert programs == {"runc": "", **handlers}


@pytest.mark.parametrize(("lowers", "restricted"), [(True, False), (False, True)])
def test_the_oom_score_is_restricted_where_it_cannot_be_lowered(lowers: bool, restricted: bool) -> None:
    cri = config(lowers_oom_score=lowers)["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["restrict_oom_score_adj"] is restricted


@pytest.mark.parametrize(("overlay", "snapshotter"), [(True, "overlayfs"), (False, "native")])
def test_a_file_system_without_overlays_gets_the_native_snapshotter(overlay: bool, snapshotter: str) -> None:
    cri = config(overlay=overlay)["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["snapshotter"] == snapshotter
    images = config(overlay=overlay, version=(2, 1))["plugins"]["io.containerd.cri.v1.images"]
    assert images["snapshotter"] == snapshotter


@pytest.mark.parametrize(("version", "key", "value"), [((2, 0), "bin_dir", "/a"), ((2, 1), "bin_dirs", ["/a"])])
def test_containerd_2_has_its_own_format(version: tuple[int, int], key: str, value: object) -> None:
    found = config(version=version, cni_bin_dir="/a")
    plugins = found["plugins"]
    assert found["version"] == 3
    assert plugins["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": PAUSE_IMAGE}
    assert plugins["io.containerd.cri.v1.runtime"]["restrict_oom_score_adj"] is True
    assert plugins["io.containerd.cri.v1.runtime"]["cni"][key] == value


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6)),
        ("containerd github.com/containerd/containerd/v2 v2.1.9 abcdef", (2, 1)),
        ("containerd containerd.io 1.7.24 8fc6bcff51318944179630522a095cc9dbf9f353", (1, 7)),
    ],
)
def test_the_version_is_read_from_the_program(tmp_path: Path, output: str, version: tuple[int, int]) -> None:
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\necho '{output}'\n")
    program.chmod(0o755)
    assert containerd_config._version(str(program)) == version


def test_a_containerd_without_cri_v1_is_told(tmp_path: Path) -> None:
    program = tmp_path / "containerd"
    program.write_text("#!/bin/sh\necho 'containerd github.com/containerd/containerd 1.4.13 x'\n")
    program.chmod(0o755)
    with pytest.raises(ConfigError, match=r"1\.4: CRI v1 comes with 1\.6"):
        containerd_config._version(str(program))


def test_missing_programs_and_plugins_are_told_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(containerd_config, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="apt-get install containerd"):
        containerd_config.detect(INSTANCE)
    monkeypatch.setattr(containerd_config, "CNI_FOLDERS", (str(tmp_path),))
    with pytest.raises(ConfigError, match="apt-get install containernetworking-plugins"):
        containerd_config._cni_bin_dir()


def test_the_oom_score_is_tried_and_put_back(tmp_path: Path) -> None:
    path = tmp_path / "oom_score_adj"
    path.write_text("7\n")
    assert containerd_config._lowers_oom_score(path)
    assert path.read_text() == "7\n"


@pytest.mark.container
def test_the_overlay_is_tried_and_nothing_stays(tmp_path: Path) -> None:
    containerd_config._takes_overlay(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_nobody_listens_at_a_missing_or_stale_socket(tmp_path: Path) -> None:
    path = tmp_path / "cri.sock"
    assert containerd.answering(settings_for(f"unix://{path}")) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    assert path.exists()
    assert containerd.answering(settings_for(f"unix://{path}")) is None


def test_a_runtime_that_serves_cri_is_named(fake: FakeRuntime) -> None:
    assert containerd.answering(settings_for(fake.endpoint)) == "fake 1.0"
    assert containerd.check(settings_for(fake.endpoint)) == f"fake 1.0 serves CRI at {fake.endpoint}"


def test_a_socket_without_cri_is_an_error_with_its_cure(fake: FakeRuntime) -> None:
    words = "unknown service runtime.v1.RuntimeService"
    fake.fail_next("Version", words, code=grpc.StatusCode.UNIMPLEMENTED)
    with pytest.raises(ConfigError, match=r"not CRI v1.*disabled_plugins.*CONTAINER_RUNTIME_ENDPOINT"):
        containerd.answering(settings_for(fake.endpoint))


def test_a_runtime_that_answers_late_is_unavailable(fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerd, "_CALL_SECONDS", 0.2)
    fake.delay("Status", 1.0)
    with pytest.raises(Unavailable):
        containerd.answering(settings_for(fake.endpoint))


# With real processes


def launcher(settings: RuntimeSettings, **environment: str) -> "subprocess.Popen[str]":
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("VKCRI_", "CONTAINER_RUNTIME"))}
    return subprocess.Popen(
        [sys.executable, "-c", "from bridge.containerd import main; main()"],
        cwd=PROJECT,
        env={**clean, "VKCRI_INSTANCE": settings.instance.name, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def claimed(claim: Callable[[str], Instance]) -> RuntimeSettings:
    return RuntimeSettings(instance=claim("rt"), pod_ip="127.0.0.1")


@pytest.fixture
def instance(claimed: RuntimeSettings) -> Iterator[RuntimeSettings]:
    """The launcher's own instance, with nothing left of it before and after."""
    cleanup.cleanup(claimed)
    remove_folders(claimed.instance)
    try:
        yield claimed
    finally:
        cleanup.cleanup(claimed)
        remove_folders(claimed.instance)


@pytest.mark.container
def test_where_cri_is_served_the_launcher_says_so_and_outlives_startsecs(
    instance: RuntimeSettings, fake: FakeRuntime
) -> None:
    began = time.monotonic()
    output, _ = (process := launcher(instance, CONTAINER_RUNTIME_ENDPOINT=fake.endpoint)).communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert time.monotonic() - began > 1.0
    assert f"not needed: fake 1.0 answers CRI at {fake.endpoint}" in output
    assert "supervisorctl start containerd" in output


@pytest.mark.container
def test_with_another_provider_nothing_is_started_and_nobody_is_asked(
    instance: RuntimeSettings, fake: FakeRuntime
) -> None:
    environment = {"VKCRI_PROVIDER": "examples/providers/memory.py", "CONTAINER_RUNTIME_ENDPOINT": fake.endpoint}
    output, _ = (process := launcher(instance, **environment)).communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "not needed: provider examples/providers/memory.py runs the pods" in output
    assert "fake 1.0" not in output
    assert not containerd.config_path(instance).exists()


@pytest.mark.container
def test_a_socket_without_cri_exits_78(instance: RuntimeSettings, fake: FakeRuntime) -> None:
    fake.fail_next("Version", "unknown service", code=grpc.StatusCode.UNIMPLEMENTED)
    output, _ = (process := launcher(instance, CONTAINER_RUNTIME_ENDPOINT=fake.endpoint)).communicate(timeout=PATIENCE)
    assert process.returncode == 78
    assert "disabled_plugins" in output.splitlines()[-1]


@pytest.mark.container
def test_ours_runs_with_its_own_configuration_default_signals_and_no_lock(instance: RuntimeSettings) -> None:
    process = start_containerd(instance)
    assert containerd.our_pid(instance) == process.pid
    assert Path(f"/proc/{process.pid}/exe").resolve().name == "containerd"
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
    ignored = int(status["SigIgn"], 16)
    assert not ignored & (1 << (signal.SIGPIPE - 1))
    assert not ignored & (1 << (signal.SIGXFSZ - 1))
    held = []
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it closes connections meanwhile
            held.append(os.readlink(entry))
    assert held
    assert not [path for path in held if path.startswith(str(instance.instance.locks_dir))]
    process.terminate()
    assert process.wait(PATIENCE) == 0


@pytest.mark.container
def test_ours_ends_with_the_process_that_started_it(instance: RuntimeSettings) -> None:
    script = (
        "from tests.conftest import start_containerd; from vkcri.config import RuntimeSettings, load; import time;"
        "process = start_containerd(load(RuntimeSettings)); print('up', flush=True); time.sleep(60)"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith("VKCRI_")}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={**clean, "VKCRI_INSTANCE": instance.instance.name, "VKUBELET_POD_IP": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        assert containerd.our_pid(instance) is not None
        parent.kill()
    wait_for("containerd follows its parent", lambda: containerd.our_pid(instance) is None)


@pytest.mark.container
def test_a_second_launcher_waits_for_the_end_of_the_first_ones_containerd(instance: RuntimeSettings) -> None:
    first = start_containerd(instance)
    second = launcher(instance)
    try:
        assert second.stdout is not None
        line = next(line for line in second.stdout if "runs already" in line)
        assert f"pid {first.pid}" in line
        assert second.poll() is None
        first.terminate()
        assert first.wait(PATIENCE) == 0
        wait_for("the second becomes containerd", lambda: containerd.our_pid(instance) == second.pid)
    finally:
        second.terminate()
        second.communicate(timeout=20)
