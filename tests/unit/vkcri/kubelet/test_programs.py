"""Restarts by a real supervisord, whoever asks for them ends meanwhile; and a supervisord that answers nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.vkcri.kubelet.node import Node
from tests.waiting import PATIENCE, until
from vkcri.errors import NotFound, Unavailable
from vkcri.kubelet.programs import Programs

ASK = "import sys, pathlib; from vkcri.kubelet.programs import Programs; Programs(pathlib.Path(sys.argv[1])).{verb}"


@pytest.fixture
def programs(supervised: Node) -> Programs:
    made = Programs(supervised.instance.supervisor_socket)
    until(lambda: all(item["state"] == "RUNNING" for item in made.all()))
    return made


def pid(programs: Programs, name: str) -> int:
    """0 unless it runs."""
    (found,) = (item for item in programs.all() if item["name"] == name)
    return int(found["pid"]) if found["state"] == "RUNNING" else 0


def supervisorctl(supervised: Node, *arguments: str) -> None:
    url = f"unix://{supervised.instance.supervisor_socket}"
    command = [str(Path(sys.executable).parent / "supervisorctl"), "-s", url, *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["cri-bridge", "containerd"])
def test_restarted_program_is_another_process(programs: Programs, name: str) -> None:
    """Whether exit 0 is what supervisord expects of it or not."""
    before = pid(programs, name)
    programs.restart(name)
    until(lambda: pid(programs, name) not in (0, before))


def test_program_comes_back_though_whoever_asked_ends_before_it_does(
    supervised: Node, programs: Programs, tmp_path: Path
) -> None:
    before = pid(programs, "cri-bridge")
    (tmp_path / "hold").touch()
    command = [
        sys.executable,
        "-c",
        ASK.format(verb="restart('cri-bridge')"),
        str(supervised.instance.supervisor_socket),
    ]
    with subprocess.Popen(command) as asker:
        until((tmp_path / "ending").exists)
        asker.kill()
    (tmp_path / "hold").unlink()
    until(lambda: pid(programs, "cri-bridge") not in (0, before))


def test_program_that_does_not_run_is_started(supervised: Node, programs: Programs) -> None:
    supervisorctl(supervised, "stop", "cri-bridge")
    assert pid(programs, "cri-bridge") == 0
    programs.restart("cri-bridge")
    until(lambda: pid(programs, "cri-bridge") != 0)
    os.kill(pid(programs, "containerd"), signal.SIGTERM)  # the launcher's expected end
    until(lambda: [item["state"] for item in programs.all() if item["name"] == "containerd"] == ["EXITED"])
    programs.restart("containerd")
    until(lambda: pid(programs, "containerd") != 0)


def test_program_that_somebody_stops_is_left_to_them(supervised: Node, programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    url = f"unix://{supervised.instance.supervisor_socket}"
    command = [str(Path(sys.executable).parent / "supervisorctl"), "-s", url, "stop", "kube-proxy"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL):
        until((tmp_path / "ending").exists)
        with pytest.raises(Unavailable, match="kube-proxy is being stopped"):
            programs.restart("kube-proxy")
        (tmp_path / "hold").unlink()
    assert pid(programs, "kube-proxy") == 0
    with pytest.raises(NotFound):
        programs.restart("absent")


def test_supervisord_that_does_not_answer_is_not_waited_for(supervised: Node, tmp_path: Path) -> None:
    until((tmp_path / "supervisord.pid").exists)
    stopped = int((tmp_path / "supervisord.pid").read_text())
    os.kill(stopped, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"no answer in 0\.2 s"):
            Programs(supervised.instance.supervisor_socket, 0.2).all()
        assert time.monotonic() - started < PATIENCE / 2
    finally:
        os.kill(stopped, signal.SIGCONT)
