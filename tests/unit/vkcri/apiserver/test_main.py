"""The program `apiserver` on a guest whose network comes later than it does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import remove_folders
from tests.instances import own
from tests.waiting import PATIENCE

PROJECT = Path(__file__).resolve().parents[4]
INSTANCE = own("apisrv")
NETWORK = (  # what a guest's own set-up does later; a loopback is all that a fresh network namespace has
    ("ip", "link", "set", "lo", "up"),
    ("ip", "address", "add", "192.0.2.7/32", "dev", "lo"),
    ("ip", "route", "add", "default", "dev", "lo", "src", "192.0.2.7"),
)
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace is root's"),
    pytest.mark.xdist_group("cli-52"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The program, in a network namespace without any route."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VKCRI_", "VKUBELET_", "KUBE"))}
    command = [sys.executable, "-c", "from vkcri.apiserver.main import main; main()"]
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            ["unshare", "--net", *command],
            cwd=PROJECT,
            env={**kept, "VKCRI_INSTANCE": INSTANCE.name},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE)
        remove_folders(INSTANCE)


def until(log: Path, words: str, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + PATIENCE
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return log.read_text()


def test_it_waits_for_an_address_says_so_once_and_serves_when_there_is_one(
    server: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    until(tmp_path / "log", "set VKUBELET_POD_IP to this node's address; waiting for one", server)
    assert not INSTANCE.store_file.exists()
    with pytest.raises(subprocess.TimeoutExpired):
        server.wait(3)  # more than one look
    for command in NETWORK:
        subprocess.run(["nsenter", f"--net=/proc/{server.pid}/ns/net", *command], check=True, timeout=10)
    text = until(tmp_path / "log", "serving on port", server)
    assert text.count("waiting for one") == 1
    assert "https://192.0.2.7:" in INSTANCE.node_kubeconfig.read_text()


def test_it_ends_at_once_while_it_waits(server: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    until(tmp_path / "log", "waiting for one", server)
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0
    assert not INSTANCE.store_file.exists()
