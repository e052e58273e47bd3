"""`python -m tests.conformance.own [LIST]`: the end-to-end tests on a control plane and a node of their own.

Both are claimed by number, so that they stand beside a node and a cluster that are in use, and nothing of them is left
at the end, or of a run that was killed. The tests themselves are run as `make conformance CI=1` runs them, for CI, or
as `make conformance LIST=...` does; whatever else the environment says to choose, and its exit status is this one's.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tests.cluster import control
from tests.cluster.control import Cluster
from tests.conformance import ginkgo
from tests.flow.live import PROJECT, live_node
from tests.flow.planes import Place
from vkcri.errors import VkcriError
from vkcri.instance import Instance

_CHOOSING = ("LABELS", "FOCUS", "PROCS")
_KUBELET_PORT = 10250
_END_SECONDS = ginkgo.END_SECONDS + 30.0


class WholePlane:
    """A control plane that one node has to itself: the tests make namespaces, and their pods are its pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @contextmanager
    def place(self, instance: Instance) -> Iterator[Place]:
        identity = self._cluster.node_kubeconfig(instance.name)
        joined = {"KUBECONFIG": str(identity), "VKUBELET_DISABLE_TAINT": "true"}
        yield Place(self._cluster.admin_kubeconfig, self._cluster.server, "default", joined, self._cluster)


def main(listed: str = "") -> int:
    """Start, run, take away; the exit status of the run. The tests of CI want neither DNS nor the kubelet's port."""
    with control.claimed() as cluster:
        cluster.start()
        if listed:
            cluster.start_dns()
        with live_node(WholePlane(cluster), "e2e", **(kubelet_port() if listed else {})) as node:
            node.up()
            environment = chosen(node.environment) | {"KUBECONFIG": str(cluster.admin_kubeconfig)}
            judged = [f"--list={listed}"] if listed else ["--ci"]
            return run([sys.executable, "-m", "tests.conformance", *judged], environment)


def kubelet_port(port: int = _KUBELET_PORT) -> dict[str, str]:
    """The node's setting by which it has the port that some tests ask a kubelet at, by its number; none where another
    node of this guest has it, and then these tests fail."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return {}
    return {"KUBELET_PORT": str(port)}


def chosen(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would choose other tests."""
    return {key: value for key, value in environment.items() if key not in _CHOOSING}


def run(command: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """The exit status of the tests. Where this is broken off they are told so by SIGTERM alone, as by a person, and
    their end is waited for: ginkgo ends its tests, which clean up."""
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, start_new_session=True)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    ginkgo.end_by_sigterm()  # so that what was started is taken away
    try:
        sys.exit(main(*sys.argv[1:2]))
    except VkcriError as error:
        print(f"conformance: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
