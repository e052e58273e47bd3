"""A node joined to a cluster by KUBECONFIG, with its taint, and a Node of its name that another agent keeps alive.

The cluster is a real control plane, or another instance's embedded API server; whatever is joined must leave the node
that is there already alone. They wait long, and do so beside the two minutes of test_selfwatch: see LONGEST_FIRST.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.flow.live import BIN, LiveNode, container, is_ready, phase, shell_pod
from tests.flow.planes import Place, Plane
from tests.instances import FLOW_NUMBERS, claimed
from tests.waiting import PATIENCE, wait_for
from vkcri.instance import Instance

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(300), pytest.mark.xdist_group("waits")]

TAINT = {"key": "virtual-kubelet.io/provider", "value": "cri", "effect": "NoSchedule"}
TOLERATION = {"key": TAINT["key"], "operator": "Equal", "value": "cri", "effect": "NoSchedule"}
ANNOTATION = "vkcri/instance"
LEASE_SECONDS = 40


class Joined(LiveNode):
    """A node that joins the cluster of another, with vkcri's taint."""

    def log(self) -> str:
        path = self.instance.log_dir / "api-watcher.log"
        return path.read_text() if path.exists() else ""


class Agent:
    """Another agent: it made the Node, and renews its Lease every three seconds until told to stop."""

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew)
        self.renewed = 0.0
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": joined.name}, "spec": {"taints": [TAINT]}}
        joined.apply(node)
        self._write()
        self._thread.start()

    def stop(self) -> float:
        """The monotonic second of the last renewal."""
        self._stopping.set()
        self._thread.join()
        return self.renewed

    def _renew(self) -> None:
        while not self._stopping.wait(3):
            self._write()

    def _write(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": "another-agent", "leaseDurationSeconds": LEASE_SECONDS, "renewTime": stamp}
        metadata = {"name": self._joined.name, "namespace": "kube-node-lease"}
        self._joined.apply(
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        )
        self.renewed = time.monotonic()


@contextmanager
def place_beside(node: LiveNode, plane: Plane, instance: Instance) -> Iterator[Place]:
    """A place at the API server of `node`, whichever that is."""
    if not node.place.embedded:
        with plane.place(instance) as place:
            yield place
        return
    kubeconfig = node.place.kubeconfig
    yield Place(kubeconfig, node.place.server, environment={"KUBECONFIG": str(kubeconfig)})
    node.kubectl("delete", "node", instance.name, "--ignore-not-found")
    node.kubectl("delete", "lease", "-n", "kube-node-lease", instance.name, "--ignore-not-found")
    node.kubectl("delete", "pods", "-l", "cluster=joined", "--force", "--grace-period=0")


@pytest.fixture(scope="module")
def joined(node: LiveNode, plane: Plane) -> Iterator[Joined]:
    """Not up yet; gone from guest and cluster after the module."""
    with claimed("joined", FLOW_NUMBERS) as instance, place_beside(node, plane, instance) as place:
        made = Joined(instance.name, place, VKUBELET_DISABLE_TAINT="false")
        made.reset()
        try:
            yield made
        finally:
            made.reset()


def here(name: str, tolerates: bool = True, **spec: Any) -> dict[str, Any]:
    """A Pod that only the joined node may take."""
    if tolerates:
        spec["tolerations"] = [TOLERATION]
    pod = shell_pod(name, "echo here; sleep 3600", **spec)
    pod["metadata"]["labels"]["cluster"] = "joined"
    return pod


def test_a_node_joins_the_cluster_that_kubeconfig_names(joined: Joined, node: LiveNode) -> None:
    printed = joined.up()
    kubeconfig = joined.place.environment["KUBECONFIG"]
    assert printed.splitlines()[0] == (
        f"joining {joined.place.server} as node {joined.name} (KUBECONFIG={kubeconfig}); "
        "for the embedded server: make run KUBECONFIG="
    )
    assert f"export KUBECONFIG={joined.place.told}" in printed
    assert not joined.instance.admin_kubeconfig.exists()
    wanted = {name: "EXITED" if name == "apiserver" else "RUNNING" for name in joined.instance.programs}
    wait_for("the launcher's end", lambda: joined.states() == wanted)
    # Kubernetes' own taints are gone once its controller has seen that the node is Ready.
    wait_for("the taint alone", lambda: joined.node()["spec"]["taints"] == [TAINT])
    assert "taints" not in node.node()["spec"]


def test_only_what_tolerates_its_taint_runs_there(joined: Joined) -> None:
    selector: dict[str, Any] = {"nodeSelector": {"kubernetes.io/hostname": joined.name}}
    joined.apply(here("refused", tolerates=False, **selector), here("taken", **selector))
    taken = joined.wait_ready("taken")
    assert taken["spec"]["nodeName"] == joined.name
    wait_for("its log", lambda: joined.kubectl("logs", "taken") == "here\n")
    refused = joined.wait_pod("refused", lambda pod: pod.get("status", {}).get("conditions"))
    condition = refused["status"]["conditions"][0]
    assert (phase(refused), condition["type"], condition["status"]) == ("Pending", "PodScheduled", "False")
    assert "untolerated taint" in condition["message"]
    joined.kubectl("delete", "pod", "refused", "--wait=true")


def test_its_stop_leaves_the_other_instance_alone(joined: Joined, node: LiveNode) -> None:
    node.apply(shell_pod("neighbour", "sleep 3600"))
    programs = sorted({"apiserver", "api-watcher", "cri-bridge", "containerd"} - node.idle)
    before = container(node.wait_ready("neighbour"))["containerID"]
    pids = [node.pid(program) for program in programs]
    joined.down()
    assert joined.leftovers() == []
    assert [node.pid(program) for program in programs] == pids
    assert is_ready(node.pod("neighbour"))
    assert container(node.pod("neighbour"))["containerID"] == before
    assert joined.node()["metadata"]["name"] == joined.name
    node.kubectl("delete", "pod", "neighbour", "--wait=true")
    joined.kubectl("delete", "pod", "taken", "--force", "--grace-period=0")


def test_another_agents_node_is_left_alone_until_its_lease_is_old(joined: Joined) -> None:
    joined.kubectl("delete", "node", joined.name)
    agent = Agent(joined)
    try:
        joined.apply(here("bound", nodeName=joined.name))
        made = joined.node()

        def reason() -> str:
            """What `vkcri up` says of the other agent when its time is over; "" where api-watcher has not said it."""
            told = joined.run(str(BIN / "vkcri"), "up", "--timeout", "30", check=False).splitlines()[-1]
            return told if "belongs to another agent" in told else ""

        assert "VKUBELET_NODE_NAME" in wait_for("what keeps it from Ready", reason, 2 * PATIENCE)
        assert joined.log().count("belongs to another agent") == 1
        now = joined.node()
        assert annotations(now) == annotations(made)
        assert (now["metadata"]["uid"], now["metadata"].get("labels")) == (
            made["metadata"]["uid"],
            made["metadata"].get("labels"),
        )
        assert now.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "") == ""
        lease = joined.get("lease", "-n", "kube-node-lease", joined.name)
        assert lease["spec"]["holderIdentity"] == "another-agent"
        assert not joined.pod("bound")["status"].get("containerStatuses")
        assert container_count(joined) == 0
    finally:
        last = agent.stop()
    wait_for(
        "the Node is taken over", lambda: ANNOTATION in joined.node()["metadata"]["annotations"], LEASE_SECONDS + 25
    )
    assert time.monotonic() - last >= LEASE_SECONDS - 1
    joined.wait_ready("bound")
    joined.kubectl("delete", "pod", "bound", "--wait=true")


def annotations(node: dict[str, Any]) -> dict[str, str]:
    """A Node's, without the one that Kubernetes' own controller gives it."""
    given: dict[str, str] = node["metadata"].get("annotations", {})
    return {key: value for key, value in given.items() if key != "node.alpha.kubernetes.io/ttl"}


def container_count(joined: Joined) -> int:
    """Containers in the joined instance's own containerd, sandboxes included."""
    assert Path(joined.instance.runtime_endpoint.removeprefix("unix://")).exists()
    return len(joined.ctr("containers", "list", "-q").split())
