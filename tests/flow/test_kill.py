"""Any process may die at any point: each is killed with -9 while pods are created, run, terminate and are followed."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.flow.live import LiveNode, container, is_ready, phase, shell_pod, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(600)]

PROGRAMS = ("api-watcher", "cri-bridge", "log-server", "kube-proxy", "apiserver", "containerd", "supervisord")


@pytest.fixture(scope="module")
def victim() -> Iterator[LiveNode]:
    """A node whose programs are killed; its pods outlive each of the deaths."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    live = LiveNode(f"kill-{98 - int(worker) % 2}")
    live.reset()
    try:
        live.up()
        live.apply(shell_pod("steady", "while true; do date; sleep 1; done"))
        live.wait_ready("steady")
        yield live
    finally:
        live.reset()


def kill(node: LiveNode, program: str) -> None:
    """kill -9 and wait until supervisord (or, for supervisord itself, a new make run) has it running again."""
    if program == "supervisord":
        os.kill(node.supervisord_pid(), signal.SIGKILL)
        wait_for("supervisord is gone", lambda: "pid" not in node.supervisorctl("status", check=False), 20)
        node.up()
        return
    before = node.pid(program)
    os.kill(before, signal.SIGKILL)
    node.wait_running(program, but=before)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_pod_ends_where_it_should_after_a_kill(victim: LiveNode, program: str) -> None:
    node = victim
    steady = container(node.wait_ready("steady"))
    starts = subprocess.Popen(
        ["ctr", "-a", node.instance.runtime_endpoint.removeprefix("unix://"), "-n", "k8s.io", "events"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    follower = subprocess.Popen(
        ["kubectl", f"--kubeconfig={node.instance.admin_kubeconfig}", "logs", "-f", "--tail=1", "steady"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    dying, born = f"dying-{program}", f"born-{program}"
    try:
        node.apply(shell_pod(dying, "trap 'exit 0' TERM; while true; do sleep 0.2; done"))
        node.wait_ready(dying)
        node.kubectl("delete", "pod", dying, "--wait=false")
        node.apply(shell_pod(born, "echo born; sleep 2", restartPolicy="Never"))
        kill(node, program)
        wait_for("the node is Ready", lambda: re.search(r" Ready ", node.kubectl("get", "nodes", check=False)), 90)
        node.wait_pod(born, lambda pod: phase(pod) == "Succeeded", 120)
        wait_for("the deleted pod is gone", lambda: node.pod(dying) == {}, 90)
        after = container(wait_for("the steady pod is Ready", lambda: is_ready(p := node.pod("steady")) and p, 60))
        assert (after["containerID"], after["restartCount"]) == (steady["containerID"], steady["restartCount"])
        assert node.kubectl("logs", born) == "born\n"
        identity = container(node.pod(born))["containerID"].removeprefix("containerd://")
    finally:
        follower.kill()
        follower.wait()
        starts.kill()
        seen = starts.communicate()[0]
    if program not in ("containerd", "supervisord"):  # the event stream ended with the containerd that served it
        assert len([line for line in seen.splitlines() if "/tasks/start" in line and identity in line]) == 1, seen
    node.kubectl("delete", "pod", born, "--wait=true")
