"""Self-watch under supervisord: a stuck program ends and is started again; a long pull and a long grace are not cut."""

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.flow.live import BIN, LiveNode, container, live_node, shell_pod
from tests.flow.planes import Plane
from tests.flow.stalling_registry import Registry
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(400)]

# Seconds: the deadline that most calls to the runtime have (bridge.runtime.DEFAULT_SECONDS), and four times what
# self-watch adds to one. A pull or a grace that was held to these would be cut.
LONG = 120
ENDS_AFTER = 115


@pytest.fixture
def stuck(plane: Plane) -> Iterator[LiveNode]:
    """An instance whose provider locks itself up."""
    with live_node(plane, "stuck", VKCRI_PROVIDER="tests/flow/stuck_provider.py") as live:
        yield live


def test_a_long_pull_and_a_long_grace_are_not_cut_short_and_others_do_not_wait(node: LiveNode) -> None:
    pids = {program: node.pid(program) for program in node.programs}
    script = f"trap 'echo TERM; sleep {ENDS_AFTER}; echo done; exit 0' TERM; echo ready; while true; do sleep 0.2; done"
    with Registry(LONG).serving() as registry:
        node.apply(
            shell_pod("long-grace", script, terminationGracePeriodSeconds=LONG),
            shell_pod(
                "long-pull", "echo pulled; sleep 3600", container={"image": registry.image, "imagePullPolicy": "Always"}
            ),
        )
        node.wait_ready("long-grace")
        wait_for("the trap is set", lambda: node.kubectl("logs", "long-grace") == "ready\n")
        follower = subprocess.Popen(
            ["kubectl", f"--kubeconfig={node.place.kubeconfig}", "logs", "-f", "long-grace"],
            stdout=subprocess.PIPE,
            text=True,
            env=node.environment,
        )
        try:
            wait_for("the pull is under way", lambda: registry.asked)
            node.kubectl("delete", "pod", "long-grace", "--wait=false")
            deleted = time.monotonic()

            node.apply(shell_pod("meanwhile", "sleep 3600"))
            node.wait_ready("meanwhile", 20)
            node.kubectl("delete", "pod", "meanwhile", "--wait=true", timeout=20)

            assert follower.communicate(timeout=LONG + 30)[0] == "ready\nTERM\ndone\n"
            assert time.monotonic() - deleted > ENDS_AFTER - 2
        finally:
            follower.kill()
            follower.wait()
        wait_for("the pod with the grace is gone", lambda: node.pod("long-grace") == {})
        wait_for("the layer is sent", lambda: registry.sent, LONG)
        assert registry.sent - registry.asked >= LONG
    pulled = node.wait_ready("long-pull", 60)
    assert container(pulled)["restartCount"] == 0
    assert re.search(r'Successfully pulled image "127.*" in 2m', node.kubectl("describe", "pod", "long-pull"))
    node.kubectl("delete", "pod", "long-pull", "--wait=true")
    assert {program: node.pid(program) for program in node.programs} == pids


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
