"""Two instances on one guest: each has its own of everything, and the death of one leaves the other alone."""

import pytest

from tests.flow.live import LiveNode, container, is_ready, shell_pod

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(600)]


def test_the_end_of_one_instance_leaves_the_other_alone(node: LiveNode, fresh_node: LiveNode) -> None:
    other = fresh_node
    other.up()
    for live in (node, other):
        live.apply(shell_pod("twin", "while true; do sleep 1; done"))
    ours = container(node.wait_ready("twin"))["containerID"]
    theirs = other.wait_ready("twin")
    assert node.pod("twin")["status"]["podIP"] != theirs["status"]["podIP"]

    other.down()
    assert other.leftovers() == []

    after = node.pod("twin")
    assert is_ready(after)
    assert container(after)["containerID"] == ours
    node.kubectl("delete", "pod", "twin", "--wait=true")
