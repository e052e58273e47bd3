"""`python -m tests.conformance.own`: the end-to-end tests on a control plane and a node of their own, for CI.

Both are claimed by number, so that they stand beside a node and a cluster that are in use, and nothing of them is left
at the end. The tests themselves are run as `make conformance CI=1` runs them, and its exit status is this one's.
"""

import signal
import subprocess
import sys

from tests.cluster import control
from tests.flow.live import PROJECT, LiveNode
from tests.flow.planes import Place
from tests.instances import FLOW_NUMBERS, claimed
from vkcri.errors import VkcriError

_HANDLERS = "test-handler"  # the name that the RuntimeClass tests of Kubernetes ask for


def main() -> int:
    """Start, run, take away; the exit status of the run."""
    with control.claimed() as cluster, claimed("e2e", FLOW_NUMBERS) as instance:
        cluster.start()
        joined = {
            "KUBECONFIG": str(cluster.node_kubeconfig(instance.name)),
            "VKUBELET_DISABLE_TAINT": "true",
            "VKCRI_RUNTIME_HANDLERS": _HANDLERS,
        }
        node = LiveNode(instance.name, Place(cluster.admin_kubeconfig, cluster.server, "default", joined))
        try:
            node.up()
            environment = {**node.environment, "KUBECONFIG": str(cluster.admin_kubeconfig), "CI": "1"}
            return subprocess.run(
                [sys.executable, "-m", "tests.conformance"], cwd=PROJECT, env=environment, check=False
            ).returncode
        finally:
            node.reset()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is taken away
    try:
        sys.exit(main())
    except VkcriError as error:
        print(f"conformance: {error}", file=sys.stderr)
        sys.exit(1)
