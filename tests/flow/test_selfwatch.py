"""Self-watch under supervisord: a stuck program ends and is started again; a long pull and a long grace are not cut."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.flow.live import BIN, LiveNode, container, live_node, shell_pod
from tests.flow.long_waits import LONG, LongWaits, pids
from tests.flow.planes import Plane
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(400)]


@pytest.fixture
def stuck(plane: Plane) -> Iterator[LiveNode]:
    """An instance whose provider locks itself up."""
    with live_node(plane, "stuck", VKCRI_PROVIDER="tests/flow/stuck_provider.py") as live:
        yield live


@pytest.mark.xdist_group("waits")
def test_others_do_not_wait_for_a_long_pull_and_a_long_grace(long_waits: LongWaits) -> None:
    """What waited for either would wait for what is left of its two minutes, and that is longer than PATIENCE. On a
    guest so slow that they end before the other pod is gone, by themselves, no more is asked."""
    node = long_waits.node
    node.apply(shell_pod("meanwhile", "sleep 3600"))
    node.wait_ready("meanwhile", PATIENCE)
    node.kubectl("delete", "pod", "meanwhile", "--wait=true", timeout=PATIENCE)
    ended = long_waits.follower.poll() is not None
    assert not ended or time.monotonic() >= long_waits.registry.asked + LONG, "the grace, or its log, was cut"


@pytest.mark.xdist_group("waits")
def test_a_long_pull_and_a_long_grace_are_not_cut_short(long_waits: LongWaits) -> None:
    """They have been under way since the first of this group's tests: see LONGEST_FIRST. What is killed in its grace
    does not come to say that it is done."""
    node, registry = long_waits.node, long_waits.registry
    assert long_waits.follower.communicate(timeout=LONG + 60)[0] == "ready\nTERM\ndone\n"
    wait_for("the pod with the grace is gone", lambda: node.pod("long-grace") == {})
    wait_for("the layer is sent", lambda: registry.sent, LONG)
    assert registry.sent - registry.asked >= LONG
    pulled = node.wait_ready("long-pull", 60)
    assert container(pulled)["restartCount"] == 0
    assert re.search(r'Successfully pulled image "127.*" in 2m', node.kubectl("describe", "pod", "long-pull"))
    node.kubectl("delete", "pod", "long-pull", "--wait=true")
    assert pids(node) == long_waits.pids


def test_a_program_that_holds_a_lock_on_purpose_says_where_and_is_started_again(stuck: LiveNode) -> None:
    told = stuck.run(str(BIN / "vkcri"), "up", "--timeout", "4", check=False)
    assert "is not Ready after 4 s" in told
    log = stuck.instance.log_dir / "cri-bridge.log"
    wait_for("its third start", lambda: log.read_text().count(" started, pid ") >= 3)
    text = log.read_text()
    first = text.partition(" started, pid ")[2].partition(" started, pid ")[0]
    assert re.search(r"thread pod-worker is .* over the 1 s that it gave the pods' lock; the process ends", first)
    assert "in wait_for_the_lock" in first
    assert "in serve" in first
    assert len(set(re.findall(r" started, pid (\d+),", text))) >= 3
    assert stuck.wait_running("api-watcher") == stuck.pid("api-watcher")
    row = next(
        line for line in stuck.run(str(BIN / "vkcri"), "status", check=False).splitlines() if "cri-bridge" in line
    )
    assert int(row.split()[-1]) >= 2
