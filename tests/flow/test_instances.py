"""Two instances on one guest: each has its own of everything, and the death of one leaves the other alone."""

import os
import signal
from typing import Any

import pytest

from tests.flow.live import LiveNode, container, identity, is_ready, shell_pod
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(600)]


def seen(live: LiveNode) -> tuple[Any, ...]:
    """What of an instance and its pod may not change by another instance's death or end."""
    pod = live.pod("twin")
    pids = [live.pid(program) for program in live.programs]
    return is_ready(pod), identity(pod), container(pod)["restartCount"], live.containers("twin"), pids


def test_the_death_and_the_end_of_one_instance_leave_the_other_alone(node: LiveNode, fresh_node: LiveNode) -> None:
    other = fresh_node
    other.up()
    for live in (node, other):
        live.apply(shell_pod("twin", "echo begin; while true; do sleep 1; done"))
    ours, theirs = node.wait_ready("twin"), other.wait_ready("twin")
    assert ours["status"]["podIP"] != theirs["status"]["podIP"]
    before = seen(node)
    assert before[:4] == (True, identity(ours), 0, {identity(ours)})

    doomed = (other.supervisord_pid(), other.pid("containerd"))
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)
    wait_for("supervisord is gone", lambda: "pid" not in other.supervisorctl("status", check=False))
    assert seen(node) == before

    other.up()
    back = other.wait_ready("twin")
    assert (identity(back), container(back)["restartCount"]) == (identity(theirs), 0)
    assert other.containers("twin") == {identity(theirs)}
    wait_for("its log, once", lambda: other.kubectl("logs", "twin", check=False) == "begin\n")
    assert seen(node) == before

    other.down()
    assert other.leftovers() == []
    assert seen(node) == before
    node.kubectl("delete", "pod", "twin", "--wait=true")
