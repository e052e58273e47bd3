"""A pull and a grace of two minutes each, begun together and under way while other tests run on the same worker.

Who uses the node meanwhile restarts none of its programs: whether they lived through both is a part of what is asked.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.flow.live import LiveNode, shell_pod
from tests.flow.stalling_registry import Registry
from tests.waiting import wait_for

# Seconds. LONG is the deadline that most calls to the runtime have (bridge.runtime.DEFAULT_SECONDS), and four times
# what self-watch adds to one: a pull or a grace that was held to these would be cut. GRACE is how long the pod may take
# to end at most; that it is well over ENDS_AFTER is for a slow guest.
LONG = 120
ENDS_AFTER = LONG + 5
GRACE = LONG + 60


class LongWaits:
    """The pod long-grace is being deleted and ends by itself after ENDS_AFTER seconds of its GRACE; long-pull waits for
    its image for LONG. pids: of the programs before; follower: kubectl, of long-grace's log."""

    def __init__(self, node: LiveNode, registry: Registry, follower: "subprocess.Popen[str]") -> None:
        self.node, self.registry, self.follower = node, registry, follower
        self.pids = pids(node)
        wait_for("the pull is under way", lambda: registry.asked)
        node.kubectl("delete", "pod", "long-grace", "--wait=false")


def pids(node: LiveNode) -> dict[str, int]:
    return {program: node.pid(program) for program in node.programs}


@contextmanager
def begun(node: LiveNode) -> Iterator[LongWaits]:
    """Both under way; whatever is left of them at the end goes at once."""
    script = f"trap 'echo TERM; sleep {ENDS_AFTER}; echo done; exit 0' TERM; echo ready; while true; do sleep 0.2; done"
    with Registry(LONG).serving() as registry:
        image = {"image": registry.image, "imagePullPolicy": "Always"}
        try:
            node.apply(
                shell_pod("long-grace", script, terminationGracePeriodSeconds=GRACE),
                shell_pod("long-pull", "echo pulled; sleep 3600", container=image),
            )
            node.wait_ready("long-grace")
            wait_for("the trap is set", lambda: node.kubectl("logs", "long-grace") == "ready\n")
            with node.kubectl_process("logs", "-f", "long-grace") as follower:
                try:
                    yield LongWaits(node, registry, follower)
                finally:
                    follower.kill()
        finally:
            pods = ("long-grace", "long-pull")
            node.kubectl("delete", "pod", *pods, "--ignore-not-found", "--force", "--grace-period=0", check=False)
