"""The run for CI: nothing of the environment chooses its tests, and broken off it ends them as a person would."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conformance import own
from tests.flow.live import PROJECT
from tests.ports import closed_port
from tests.waiting import PATIENCE, wait_for

BREAKS_OFF = """
import signal, sys
from tests.conformance import ginkgo, own
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background has it ignored
ginkgo.end_by_sigterm()
own.run(["bash", "-c", sys.argv[1]])
"""


def test_the_exit_status_is_that_of_the_tests() -> None:
    assert own.run(["sh", "-c", "exit 7"]) == 7


def test_what_would_choose_other_tests_is_left_out() -> None:
    given = {"LABELS": "x", "FOCUS": "y", "PROCS": "1", "PATH": "/bin", "VKCRI_INSTANCE": "e2e-71"}
    assert own.chosen(given) == {"PATH": "/bin", "VKCRI_INSTANCE": "e2e-71"}


def test_the_node_has_the_port_that_tests_ask_a_kubelet_at_unless_another_has_it() -> None:
    with closed_port(lent=True) as port:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            assert own.kubelet_port(port) == {}
        wait_for("the port is free", lambda: own.kubelet_port(port) == {"KUBELET_PORT": str(port)})


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_broken_off_it_ends_the_tests_and_waits_for_them(tmp_path: Path, number: signal.Signals, status: int) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    tests = f"trap 'sleep 0.5; touch {ended}; exit 1' TERM; touch {began}; while :; do sleep 0.05; done"
    process = subprocess.Popen([sys.executable, "-c", BREAKS_OFF, tests], cwd=PROJECT, stderr=subprocess.DEVNULL)
    try:
        wait_for("the tests run", began.exists)
        process.send_signal(number)
        time.sleep(0.1)  # two signals at once are one
        if number == signal.SIGTERM:
            process.send_signal(number)  # of someone impatient
        assert process.wait(PATIENCE) == status
    finally:
        process.kill()
    assert ended.exists()
