import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.vkcri.kubelet.node import Node
from tests.waiting import until

CONF = """
[unix_http_server]
file={socket}
[supervisord]
logfile={folder}/supervisord.log
pidfile={folder}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:cri-bridge]
command={python} {folder}/program.py
startsecs=0
exitcodes=78
[program:kube-proxy]
command={python} {folder}/program.py
startsecs=0
exitcodes=78
[program:containerd]
command={python} {folder}/program.py
startsecs=0
exitcodes=0,78
"""
PROGRAM = """
import os, signal, sys, time
from pathlib import Path

def end(*_):
    folder = Path(__file__).parent
    (folder / "ending").touch()
    while (folder / "hold").exists():
        time.sleep(0.01)
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
(Path(__file__).parent / ("ready-" + os.environ["SUPERVISOR_PROCESS_NAME"])).touch()
time.sleep(1000)
"""


def _run() -> Iterator[Node]:
    made = Node()
    try:
        made.start_watcher()
        made.start_provider()
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def node() -> Iterator[Node]:
    """A running log-server with both neighbours."""
    yield from _run()


@pytest.fixture(scope="module")
def calm_node() -> Iterator[Node]:
    """Another one, for tests that only ask it things and leave its neighbours alone."""
    yield from _run()


def _answers(path: Path) -> bool:
    """Whether somebody listens on that socket, whose file is there before."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


@pytest.fixture
def supervised(node: Node, tmp_path: Path) -> Iterator[Node]:
    """A node with a supervisord of its own, whose programs sleep and, as ours do, answer TERM with exit 0: for which
    `containerd` alone is not started again. TERM touches the file `ending`; there is no end while there is `hold`."""
    conf = tmp_path / "supervisor.conf"
    conf.write_text(CONF.format(socket=node.instance.supervisor_socket, folder=tmp_path, python=sys.executable))
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [str(Path(sys.executable).parent / "supervisord"), "-n", "-c", str(conf)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _answers(node.instance.supervisor_socket))
            until(lambda: len(list(tmp_path.glob("ready-*"))) == CONF.count("[program:"))
            yield node
        finally:
            process.terminate()  # or the way out of here waits for it
    node.instance.supervisor_socket.unlink(missing_ok=True)
