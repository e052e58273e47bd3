"""supervisor.conf: what supervisord must hold to, and the same file for another instance."""

import configparser
import os
import re
import signal
from pathlib import Path

import pytest

from tests.unit.vkcri.cli.conftest import end, state, wait_for
from vkcri.cli.supervision import Supervisor, configuration
from vkcri.instance import Instance


def programs(instance: Instance) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=None)
    parser.read_string(configuration(instance))
    return parser


def test_the_file_names_the_programs_in_their_order() -> None:
    parser = programs(Instance())
    sections = [name.removeprefix("program:") for name in parser.sections() if name.startswith("program:")]
    assert tuple(sections) == Instance().programs
    priorities = [parser.getint(f"program:{name}", "priority") for name in sections]
    assert priorities == sorted(priorities)


@pytest.mark.parametrize("name", Instance().programs)
def test_no_program_becomes_fatal_and_a_configuration_error_waits_for_a_person(name: str) -> None:
    section = dict(programs(Instance()).items(f"program:{name}"))
    assert section["startretries"] == "1000000"
    assert section["autorestart"] == "unexpected"
    codes = {"0", "78"} if name in ("containerd", "apiserver") else {"78"}
    assert set(section["exitcodes"].split(",")) == codes
    assert section["command"].startswith("%(here)s/.venv/bin/vkcri-")


def test_the_control_socket_is_for_root_alone() -> None:
    parser = programs(Instance())
    assert parser.get("unix_http_server", "chmod") == "0700"
    assert parser.get("unix_http_server", "file") == str(Instance().supervisor_socket)


def test_another_instances_file_names_none_of_the_default_ones_paths() -> None:
    instance = Instance("other-7")
    text = configuration(instance)
    assert programs(instance).get("unix_http_server", "file") == str(instance.supervisor_socket)
    assert programs(instance).get("supervisord", "environment").split(",")[0] == 'VKCRI_INSTANCE="other-7"'
    code = "\n".join(line for line in text.splitlines() if not line.startswith(";"))
    assert re.findall(r"/vk-cri[/.]", code) == []
    assert "%(here)s" not in code


def test_supervisord_writes_only_where_a_folder_is_after_install_and_reset() -> None:
    parser = programs(Instance())
    keys = ("logfile", "pidfile", "file", "stdout_logfile")
    found = {
        parser.get(section, key) for section in parser.sections() for key in keys if parser.has_option(section, key)
    }
    assert len(found) == 3 + len(Instance().programs)
    assert {str(Path(path).parent) for path in found} == {"/run", str(Instance().log_dir)}


START = "2026-11-23 20:00:00,000 INFO supervisord started with pid 7\n"


def spawned(name: str) -> str:
    return f"2026-11-23 20:00:01,000 INFO spawned: '{name}' with pid 8\n"


@pytest.mark.parametrize(
    ("files", "restarts"),
    [
        ({"": spawned("a") * 4 + START + spawned("a") * 3 + spawned("b")}, {"a": 2, "b": 0}),
        ({".1": START + spawned("a") * 2, "": spawned("a") + spawned("b")}, {"a": 2, "b": 0}),
        ({".2": START + spawned("a"), ".1": spawned("a"), "": spawned("a")}, {"a": 2}),
        ({".2": spawned("a"), ".1": "", "": spawned("a")}, {"a": 2}),
        ({}, {}),
    ],
)
def test_restarts_are_counted_since_supervisord_started_across_its_rotated_logs(
    files: dict[str, str], restarts: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Instance, "log_dir", property(lambda _self: tmp_path))
    for suffix, text in files.items():
        (tmp_path / f"supervisord.log{suffix}").write_text(text)
    assert Supervisor(Instance()).restarts() == restarts


@pytest.mark.skipif(os.geteuid() != 0, reason="supervisord's socket lies in /run")
@pytest.mark.xdist_group("cli-50")
def test_a_program_that_died_counts_as_running_and_one_that_ended_does_not(supervisor: Supervisor) -> None:
    supervisor.start()
    wait_for("both run", lambda: {program.state for program in supervisor.programs()} == {"RUNNING"})
    end(supervisor, "containerd", signal.SIGKILL)
    assert supervisor.running("containerd")
    wait_for("it runs again", lambda: state(supervisor, "containerd") == "RUNNING")
    assert supervisor.restarts() == {"containerd": 1, "api-watcher": 0}
    assert [program.name for program in supervisor.programs()] == ["containerd", "api-watcher"]
    end(supervisor, "containerd", signal.SIGTERM)
    assert not supervisor.running("containerd")
    assert state(supervisor, "containerd") == "EXITED"
    supervisor.start_program("containerd")
    assert supervisor.running("containerd")
    supervisor.stop_program("containerd")
    assert not supervisor.running("containerd")
