"""Detached processes are found again by their mark, and only they are ended."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cluster import processes
from tests.waiting import PATIENCE, until
from vkcri.errors import Unavailable

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for program in processes.running(tmp_path):
        processes.stop(tmp_path, program, 0.1)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For programs that stay: a start returns once they are there, however long that takes."""
    monkeypatch.setattr(processes, "_EXEC_SECONDS", PATIENCE)


def _names(folder: Path, program: str) -> list[str]:
    """What the program's processes are; `setsid` before they become it."""
    return [os.readlink(f"/proc/{pid}/exe").rpartition("/")[2] for pid in processes.running(folder).get(program, ())]


def _start(folder: Path, program: str, *command: str) -> None:
    processes.start(folder, program, command, folder / f"{program}.log")


@pytest.mark.usefixtures("patient")
def test_a_started_process_is_found_by_folder_and_program_and_is_not_our_child(folder: Path) -> None:
    _start(folder, "sleeper", "sleep", "600")
    (pid,) = processes.running(folder)["sleeper"]
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] != str(os.getpid())
    assert processes.running(folder / "other") == {}
    assert processes.running(folder.parent) == {}, "a folder's name that begins as ours does is another's"


@pytest.mark.usefixtures("patient")
def test_stop_ends_every_process_of_one_program_and_no_other(folder: Path) -> None:
    for program in ("first", "first", "second"):
        _start(folder, program, "sleep", "600")
    until(lambda: len(_names(folder, "first")) == 2 and "setsid" not in _names(folder, "first"))
    processes.stop(folder, "first")
    assert list(processes.running(folder)) == ["second"]


def test_stop_is_harmless_where_nothing_runs(folder: Path) -> None:
    processes.stop(folder, "nothing")


def test_a_process_that_ignores_sigterm_is_killed(folder: Path) -> None:
    _start(folder, "stubborn", "sh", "-c", STUBBORN)
    until(lambda: "ready" in (folder / "stubborn.log").read_text())
    processes.stop(folder, "stubborn", 0.3)
    assert processes.running(folder) == {}


@pytest.mark.usefixtures("patient")
def test_what_outlives_sigkill_is_named_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_KILL_SECONDS", 0.1)
    monkeypatch.setattr(processes, "_signalled_ended", lambda *_: None)  # as for a process that the kernel holds
    _start(folder, "held", "sleep", "600")
    (pid,) = processes.running(folder)["held"]
    with pytest.raises(Unavailable, match=rf"^held of {folder} does not end: pid {pid}$"):
        processes.stop(folder, "held", 0.1)
    monkeypatch.undo()


@pytest.mark.usefixtures("patient")
def test_a_process_whose_parent_was_killed_is_still_found(folder: Path) -> None:
    _start(folder, "parent", "sh", "-c", "sleep 600 & echo $!; wait")
    until(lambda: (folder / "parent.log").read_text().strip())
    child = int((folder / "parent.log").read_text())
    (parent,) = set(processes.running(folder)["parent"]) - {child}
    os.kill(parent, signal.SIGKILL)
    until(lambda: processes.running(folder).get("parent") == [child])
    processes.stop(folder, "parent")
    assert processes.running(folder) == {}


def test_nothing_of_our_environment_but_path_reaches_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/somewhere")
    processes.start(folder, "env", ["env"], folder / "env.log", EXTRA="yes")
    until(lambda: "EXTRA=yes" in (folder / "env.log").read_text())
    assert "KUBECONFIG" not in (folder / "env.log").read_text()


def test_a_program_that_does_not_exist_says_so_in_its_log(folder: Path) -> None:
    _start(folder, "absent", str(folder / "no-such-program"))
    until(lambda: "no-such-program" in (folder / "absent.log").read_text())
    until(lambda: processes.running(folder) == {})


@pytest.mark.usefixtures("patient")
def test_what_serves_already_is_not_started_again(folder: Path) -> None:
    for _ in range(2):
        processes.serve(folder, "sleeper", ["sleep", "600"], folder / "log", lambda: True)
    assert len(processes.running(folder)["sleeper"]) == 1


@pytest.mark.usefixtures("patient")
def test_one_whose_kill_had_not_come_to_its_end_is_started_again(folder: Path) -> None:
    _start(folder, "dying", "sleep", "600")
    (pid,) = processes.running(folder)["dying"]

    def serves() -> bool:  # it is found alive, and only then dies
        if pid in processes.running(folder).get("dying", ()):
            os.kill(pid, signal.SIGKILL)
            return False
        return "dying" in processes.running(folder)

    processes.serve(folder, "dying", ["sleep", "600"], folder / "dying.log", serves)
    assert pid not in processes.running(folder)["dying"]


def test_one_that_ends_at_once_since_its_port_is_not_free_yet_is_started_again(folder: Path) -> None:
    command = ["sh", "-c", "if mkdir tried; then echo taken; exit 1; fi; echo serves; sleep 600; true"]
    processes.serve(folder, "second", command, folder / "log", lambda: "serves" in (folder / "log").read_text())
    assert "second" in processes.running(folder)


def test_one_that_only_seemed_to_have_ended_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no environment while it becomes the program, which may last on a busy machine."""
    probes, real = [0], processes.running
    unseen = [True]

    def serves() -> bool:
        probes[0] += 1
        return probes[0] > 3

    def running(where: Path) -> Mapping[str, list[int]]:
        if probes[0] and unseen[0]:
            unseen[0] = False
            return {}
        return real(where)

    monkeypatch.setattr(processes, "running", running)
    processes.serve(folder, "slow", ["sleep", "600"], folder / "log", serves)
    assert len(real(folder)["slow"]) == 1
    assert not unseen[0]


def test_one_that_ends_each_time_is_named_with_the_end_of_its_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_PORTS_SECONDS", 0.5)
    command = ["sh", "-c", "echo no disk"]
    with pytest.raises(Unavailable, match=r"(?s)^ending has ended .*\nno disk$"):
        processes.serve(folder, "ending", command, folder / "log", lambda: False)


def test_a_stranger_is_left_alone(folder: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            processes.stop(folder, "sleep")
            assert stranger.poll() is None
        finally:
            stranger.kill()
