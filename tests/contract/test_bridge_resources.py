"""cri-bridge on a real containerd: runtime classes, and what a pod's cgroups hold it to."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cgroups import mounted_hierarchies
from tests.contract.bridge_node import BridgeNode, pod, wait_for
from vkcri.config import Instance

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-resources")]
TRAP = 'trap "exit 0" TERM; while true; do sleep 0.1; done'


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    logs = tmp_path_factory.mktemp("logs")
    node = BridgeNode(claim("core").name, logs, VKCRI_RUNTIME_HANDLERS="test-handler")
    try:
        node.start()
        yield node
    finally:
        node.stop()


def add_class(node: BridgeNode, name: str, handler: str) -> None:
    value = {"metadata": {"name": name}, "handler": handler}
    node.watcher.put("runtimeclasses", name, json.dumps(value).encode())


def cgroup(node: BridgeNode, spec: dict[str, Any], controller: str, level: str = "burstable") -> Path:
    """The pod's cgroup folder."""
    found = mounted_hierarchies()
    root = found.unified or found.v1[controller]
    path = root / node.instance.cgroup_root.strip("/") / "kubepods" / level / f"pod{spec['metadata']['uid']}"
    assert path.is_dir(), path
    return path


def test_a_pod_runs_by_the_handler_of_its_class(node: BridgeNode) -> None:
    add_class(node, "tested", "test-handler")
    spec = pod("classed", TRAP, runtimeClassName="tested")
    uid = node.put(spec)
    node.wait_phase(spec, "Running")
    assert [box.runtime_handler for box in node.sandboxes(uid)] == ["test-handler"]
    node.delete(spec)


def test_a_class_that_is_missing_is_said_and_waited_for(node: BridgeNode) -> None:
    spec = pod("early", TRAP, runtimeClassName="late")
    node.put(spec)
    text = 'Failed to create pod sandbox: runtimeclass.node.k8s.io "late" not found'
    wait_for("the event", lambda: node.reasons(spec).get("FailedCreatePodSandBox") == text)
    assert node.status(spec)["phase"] == "Pending"
    add_class(node, "late", "test-handler")
    node.wait_phase(spec, "Running", 5)
    node.delete(spec)


def test_a_handler_that_the_runtime_lacks_is_told_in_its_words(node: BridgeNode) -> None:
    add_class(node, "foreign", "kata-qemu")
    spec = pod("foreign", TRAP, runtimeClassName="foreign")
    node.put(spec)
    event = wait_for("the event", lambda: node.reasons(spec).get("FailedCreatePodSandBox"))
    assert event.startswith("Failed to create pod sandbox: ")
    assert 'no runtime for "kata-qemu" is configured' in event
    assert node.status(spec)["phase"] == "Pending"
    node.delete(spec)


def test_the_overhead_of_a_class_is_in_the_pods_cgroup_and_not_in_its_qos_class(node: BridgeNode) -> None:
    add_class(node, "heavy", "test-handler")
    resources = {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    overhead = {"cpu": "250m", "memory": "16Mi"}
    spec = pod("heavy", TRAP, runtimeClassName="heavy", overhead=overhead)
    spec["spec"]["containers"][0]["resources"] = resources
    node.put(spec)
    status = node.wait_phase(spec, "Running")
    assert status["containerStatuses"][0]["resources"] == resources
    if mounted_hierarchies().version == 2:
        folder = cgroup(node, spec, "")
        assert (folder / "memory.max").read_text().strip() == str(80 << 20)
        assert (folder / "cpu.max").read_text().split() == ["45000", "100000"]
    else:
        assert (cgroup(node, spec, "memory") / "memory.limit_in_bytes").read_text().strip() == str(80 << 20)
        assert (cgroup(node, spec, "cpu") / "cpu.cfs_quota_us").read_text().strip() == "45000"
        assert (cgroup(node, spec, "cpu") / "cpu.shares").read_text().strip() == str(350 * 1024 // 1000)
    node.delete(spec)
    best_effort = pod("light", TRAP, runtimeClassName="heavy", overhead=overhead)
    node.put(best_effort)
    assert node.wait_phase(best_effort, "Running")["qosClass"] == "BestEffort"
    assert cgroup(node, best_effort, "memory", "besteffort")
    node.delete(best_effort)
