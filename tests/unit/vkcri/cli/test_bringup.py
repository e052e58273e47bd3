"""Up and down on a real supervisord: which cluster it runs for, whose paths, what ends in which order."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.instances import own
from tests.unit.vkcri.cli.conftest import by_hand, end, pid, state, wait_for
from vkcri.cli import bringup, supervision
from vkcri.cli.supervision import Supervisor
from vkcri.config import ClusterSettings, KubeletSettings, load
from vkcri.errors import ConfigError
from vkcri.instance import Instance
from vkcri.lifecycle import EXIT_STAYS

README = Path(__file__).resolve().parents[4] / "README.md"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="supervisord's socket lies in /run")
live = pytest.mark.xdist_group("cli-50")


def environ(process: int) -> dict[str, str]:
    pairs = Path(f"/proc/{process}/environ").read_bytes().decode().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


@needs_root
@live
def test_a_second_start_with_a_kubeconfig_in_toml_is_the_same_cluster(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('kubeconfig = "admin.conf"\n')
    monkeypatch.setenv("VKCRI_CONFIG", str(file))
    bringup.start(load(ClusterSettings))
    first = supervisor.pid()
    bringup.start(load(ClusterSettings))
    assert supervisor.pid() == first

    monkeypatch.setenv("KUBECONFIG", "")
    name = supervisor.instance.name
    told = rf"already runs with KUBECONFIG={tmp_path}/admin.conf: VKCRI_INSTANCE={name} make stop first"
    with pytest.raises(ConfigError, match=told):
        bringup.start(load(ClusterSettings))


@needs_root
@live
def test_an_empty_kubeconfig_reaches_the_programs_and_stays_embedded(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('kubeconfig = "admin.conf"\ntaint_value = "x"\n')
    monkeypatch.setenv("VKCRI_CONFIG", str(file))
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("VKUBELET_TAINT_VALUE", "")
    bringup.start(load(ClusterSettings))
    bringup.start(load(ClusterSettings))
    found = environ(pid(supervisor, "api-watcher"))
    assert found["KUBECONFIG"] == found["VKUBELET_TAINT_VALUE"] == ""

    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(ConfigError, match=r"already runs with KUBECONFIG=\(embedded\)"):
        bringup.start(load(ClusterSettings))


@needs_root
@live
def test_relative_paths_name_the_same_files_in_the_programs(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.toml").write_text("")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    relative = {
        "KUBECONFIG": "admin.conf",
        "VKCRI_CONFIG": "config.toml",
        "APISERVER_CERT_LOCATION": "tls.crt",
        "APISERVER_KEY_LOCATION": "./tls.key",
    }
    for name, value in relative.items():
        monkeypatch.setenv(name, value)
    bringup.start(load(ClusterSettings))
    process = pid(supervisor, "api-watcher")
    assert Path(f"/proc/{process}/cwd").readlink() == Path("/")
    settings = load(KubeletSettings, environ(process))
    assert settings.kubeconfig == str(tmp_path / "admin.conf")
    assert [Path(settings.cert_file), Path(settings.key_file)] == [tmp_path / "tls.crt", tmp_path / "tls.key"]
    bringup.start(load(ClusterSettings))  # the same cluster


@needs_root
@live
def test_a_supervisord_started_by_hand_has_relative_paths_where_it_was_typed(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    by_hand(supervisor, there, tmp_path / "supervisor.conf", {"PATH": os.environ["PATH"], "KUBECONFIG": "admin.conf"})
    process = pid(supervisor, "api-watcher")
    assert Path(f"/proc/{process}/cwd").readlink() == there  # so the programs find the same file
    assert supervisor.environment()["KUBECONFIG"] == str(there / "admin.conf")
    monkeypatch.setenv("KUBECONFIG", str(there / "admin.conf"))
    bringup.start(load(ClusterSettings))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "admin.conf"))
    with pytest.raises(ConfigError, match="already runs"):
        bringup.start(load(ClusterSettings))


def cleaning(
    supervisor: Supervisor, kill: signal.Signals | None, *answers: int
) -> tuple[list[str], Callable[[str], int]]:
    """What `--cleanup` does to supervisord: the bridge's ends containerd by its process id."""
    calls: list[str] = []
    statuses = iter(answers)

    def clean(entry: str) -> int:
        calls.append(f"{entry} while containerd is {state(supervisor, 'containerd')}")
        assert state(supervisor, "api-watcher") == "STOPPED"
        if kill is not None and len(calls) == 1:
            end(supervisor, "containerd", kill)
        return next(statuses)

    return calls, clean


@needs_root
@live
def test_the_clean_up_has_containerd_alive_and_runs_once_where_it_ends_by_itself(supervisor: Supervisor) -> None:
    supervisor.start()
    wait_for("containerd runs", lambda: state(supervisor, "containerd") == "RUNNING")
    calls, clean = cleaning(supervisor, signal.SIGTERM, 0, 0)
    assert bringup.stop(supervisor, clean) == 0
    assert calls[0] == "vkcri-cri-bridge while containerd is RUNNING"
    assert [call.split()[0] for call in calls] == ["vkcri-cri-bridge", "vkcri-kube-proxy"]
    assert supervisor.pid() is None


@needs_root
@live
def test_a_containerd_that_supervisord_started_again_is_stopped_and_cleaned_up_after(supervisor: Supervisor) -> None:
    supervisor.start()
    wait_for("containerd runs", lambda: state(supervisor, "containerd") == "RUNNING")
    calls, clean = cleaning(supervisor, signal.SIGKILL, 1, 0, 0)
    assert bringup.stop(supervisor, clean) == 0
    assert [call.split()[0] for call in calls] == ["vkcri-cri-bridge", "vkcri-kube-proxy", "vkcri-cri-bridge"]
    assert calls[2].endswith("STOPPED")
    assert supervisor.pid() is None


@needs_root
@live
def test_supervisord_and_containerd_stay_where_others_use_it(
    supervisor: Supervisor, capsys: pytest.CaptureFixture[str]
) -> None:
    supervisor.start()
    wait_for("containerd runs", lambda: state(supervisor, "containerd") == "RUNNING")
    calls, clean = cleaning(supervisor, None, EXIT_STAYS, 0)
    assert bringup.stop(supervisor, clean) == EXIT_STAYS
    assert len(calls) == 2
    assert state(supervisor, "containerd") == "RUNNING"
    assert f"supervisorctl -c {supervision.configuration_file(supervisor.instance)} shutdown" in capsys.readouterr().out


def test_a_clean_up_without_supervisord_is_the_clean_ups_alone() -> None:
    calls: list[str] = []

    def clean(entry: str) -> int:
        calls.append(entry)
        return 1 if entry == "vkcri-kube-proxy" else 0

    assert bringup.stop(Supervisor(own("cli")), clean) == 1
    assert calls == ["vkcri-cri-bridge", "vkcri-kube-proxy"]


def commands(lines: list[str]) -> list[str]:
    """Command lines without their comments, and without the path before the virtual environment."""
    found = [re.sub(r"\s+# .*$", "", line).strip() for line in lines]
    return [re.sub(r"^\. \S*\.venv/", ". .venv/", line) for line in found if line]


def test_what_make_run_prints_is_readmes_session() -> None:
    block = README.read_text().partition("What `make run` prints")[2].partition(":\n\n")[2].partition("\n\n")[0]
    printed = bringup.next_steps(KubeletSettings(instance=Instance(), node_name="n"), "TOKEN")
    assert commands(printed) == commands(block.splitlines())


def test_another_instances_session_names_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = Instance("cli-51")
    monkeypatch.setattr(Instance, "state_dir", property(lambda self: tmp_path / self.folder))
    printed = commands(bringup.next_steps(KubeletSettings(instance=instance, node_name="n"), "TOKEN"))
    conf = tmp_path / "vk-cri-cli-51" / "supervisor.conf"
    assert printed[0] == f". .venv/bin/activate; export KUBECONFIG={tmp_path}/vk-cri-cli-51/admin.conf"
    assert printed[-2] == f"supervisorctl -c {conf} restart cri-bridge"
    assert str(instance.supervisor_socket) in conf.read_text()
    assert printed[-1] == "VKCRI_INSTANCE=cli-51 make stop"
    assert f":{instance.log_api_port}/" in printed[-3]


def test_a_joined_nodes_session_uses_the_clusters_kubeconfig(tmp_path: Path) -> None:
    kubeconfig = str(tmp_path / "my admin.conf")
    settings = KubeletSettings(instance=Instance(), node_name="n", kubeconfig=kubeconfig)
    assert bringup.next_steps(settings, "TOKEN")[0].endswith(f"; export KUBECONFIG='{kubeconfig}'")


@pytest.mark.parametrize(("name", "kept"), [("vkcri", True), ("cli-51", False)])
def test_reset_removes_all_but_the_folder_that_supervisord_needs(
    name: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"state_dir": tmp_path / "lib", "log_dir": tmp_path / "log", "run_dir": tmp_path / "run"}
    for attribute, folder in folders.items():
        monkeypatch.setattr(Instance, attribute, folder)
        (folder / "pods" / "x").mkdir(parents=True)
        (folder / "file").touch()
        (folder / "link").symlink_to(tmp_path)
    said = list(bringup.remove_state(Instance(name)))
    assert len(said) == 3
    assert list(tmp_path.rglob("*")) == ([folders["log_dir"]] if kept else [])


def test_a_guest_without_a_route_is_told_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise ConfigError("no default route (Network is unreachable): set VKUBELET_POD_IP to this node's address")

    monkeypatch.setattr("vkcri.config.default_address", none)
    settings = ClusterSettings(instance=Instance("cli-51"), node_name="n")
    ready, reason = bringup.node_ready(settings)
    assert not ready
    assert "set VKUBELET_POD_IP" in reason


def record(level: str, message: str) -> str:
    return f"2026-11-23T10:00:00.000Z {level} api-watcher main {message}\n"


def test_what_is_wrong_is_told_rather_than_what_was_logged_after_it(tmp_path: Path) -> None:
    log = tmp_path / "api-watcher.log"
    assert "no log" in bringup.last_complaint(log)
    log.write_text(record("ERROR", "of an earlier run") + record("INFO", "started, pid 1, instance x"))
    assert bringup.last_complaint(log).endswith("started, pid 1, instance x")
    with log.open("a") as more:
        more.write(
            record("WARNING", "https://127.0.0.1:1 refused; trying again") + record("INFO", "topic: trying again")
        )
    assert bringup.last_complaint(log).endswith("https://127.0.0.1:1 refused; trying again")
