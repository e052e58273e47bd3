"""cri-bridge on a real containerd: runtime classes, and what a pod's cgroups hold it to."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cgroupfs import mounted_hierarchies
from tests.contract.bridge_node import BridgeNode, pod, running
from tests.waiting import wait_for
from vkcri.instance import Instance

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-resources")]
TRAP = 'trap "exit 0" TERM; while true; do sleep 0.1; done'


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    logs = tmp_path_factory.mktemp("logs")
    with running(claim("core").name, logs, VKCRI_RUNTIME_HANDLERS="test-handler") as node:
        yield node


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
    node.wait_phase(spec, "Pending")
    add_class(node, "late", "test-handler")
    node.wait_phase(spec, "Running")
    node.delete(spec)


def test_a_handler_that_the_runtime_lacks_is_told_in_its_words(node: BridgeNode) -> None:
    add_class(node, "foreign", "kata-qemu")
    spec = pod("foreign", TRAP, runtimeClassName="foreign")
    node.put(spec)
    event = wait_for("the event", lambda: node.reasons(spec).get("FailedCreatePodSandBox"))
    assert event.startswith("Failed to create pod sandbox: ")
    assert 'no runtime for "kata-qemu" is configured' in event
    node.wait_phase(spec, "Pending")
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


def amounts(cpu: str, memory: str, cpu_limit: str = "", memory_limit: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"requests": {"cpu": cpu, "memory": memory}}
    limits = {name: text for name, text in (("cpu", cpu_limit), ("memory", memory_limit)) if text}
    return {**found, "limits": limits} if limits else found


def resize(node: BridgeNode, spec: dict[str, Any], *resources: dict[str, Any]) -> None:
    """As the API server: the containers ask for other resources, and the generation says so."""
    for container_, wanted in zip(spec["spec"]["containers"], resources, strict=True):
        container_["resources"] = wanted
    spec["metadata"]["generation"] += 1
    node.put(spec)


def resize_conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["type"]: item for item in status["conditions"] if item["type"].startswith("PodResize")}


def settled(spec: dict[str, Any]) -> Any:
    """The status of a pod whose resize has been seen and is over."""
    generation = spec["metadata"]["generation"]
    return lambda status: status.get("observedGeneration") == generation and not resize_conditions(status)


def kernel(node: BridgeNode, spec: dict[str, Any], container_id: str = "") -> dict[str, str]:
    """What the kernel has of the pod's cgroup, or a container's in it, in v1's words."""

    def folder(name: str) -> Path:
        return cgroup(node, spec, name) / container_id

    if mounted_hierarchies().version == 2:
        quota = (folder("") / "cpu.max").read_text().split()[0]
        return {"memory": (folder("") / "memory.max").read_text().strip(), "quota": "-1" if quota == "max" else quota}
    return {
        "memory": (folder("memory") / "memory.limit_in_bytes").read_text().strip(),
        "quota": (folder("cpu") / "cpu.cfs_quota_us").read_text().strip(),
        "shares": (folder("cpu") / "cpu.shares").read_text().strip(),
    }


def first_id(status: dict[str, Any]) -> str:
    return str(status["containerStatuses"][0]["containerID"]).removeprefix("containerd://")


def test_a_running_container_grows_and_shrinks_in_place(node: BridgeNode) -> None:
    small, large = amounts("100m", "32Mi", "200m", "64Mi"), amounts("250m", "48Mi", "500m", "128Mi")
    spec = pod("grows", TRAP, restartPolicy="Never")
    spec["spec"]["containers"][0]["resources"] = small
    node.put(spec)
    before = node.wait_phase(spec, "Running")
    identity = first_id(before)
    for wanted, expected in (
        (large, {"memory": str(128 << 20), "quota": "50000", "shares": "256"}),
        (small, {"memory": str(64 << 20), "quota": "20000", "shares": "102"}),
    ):
        resize(node, spec, wanted)
        status = node.wait_status(spec, "resized", settled(spec))
        found = status["containerStatuses"][0]
        assert (found["allocatedResources"], found["resources"]) == (wanted["requests"], wanted)
        assert (first_id(status), found["restartCount"]) == (identity, 0)
        for name, text in expected.items():
            assert kernel(node, spec).get(name, text) == text
            assert kernel(node, spec, identity).get(name, text) == text
        assert status["resources"] == wanted
    start = 'Pod resize started: {"containers":[{"name":"main","resources":{"limits":'
    assert node.told(spec, "ResizeStarted").startswith(start)
    end = '"generation":3}'
    wait_for("the second one's event", lambda: node.reasons(spec).get("ResizeCompleted", "").endswith(end))
    node.delete(spec)


def test_an_init_container_that_runs_grows_in_place(node: BridgeNode) -> None:
    spec = pod("begins", TRAP)
    first = {**spec["spec"]["containers"][0], "name": "first", "resources": amounts("100m", "32Mi", "200m", "64Mi")}
    spec["spec"]["initContainers"] = [first]
    node.put(spec)
    status = node.wait_status(spec, "it runs", lambda it: it["initContainerStatuses"][0]["state"]["running"])
    identity = status["initContainerStatuses"][0]["containerID"].removeprefix("containerd://")
    first["resources"] = wanted = amounts("250m", "48Mi", "500m", "128Mi")
    spec["metadata"]["generation"] += 1
    node.put(spec)
    found = node.wait_status(spec, "resized", settled(spec))["initContainerStatuses"][0]
    assert (found["resources"], found["restartCount"]) == (wanted, 0)
    held = kernel(node, spec, identity)
    assert (held["memory"], held["quota"]) == (str(128 << 20), "50000")
    node.delete(spec)


def test_a_policy_that_wants_a_restart_gets_one_and_only_for_its_resource(node: BridgeNode) -> None:
    spec = pod("restarts", TRAP)
    spec["spec"]["containers"][0] |= {
        "resources": amounts("100m", "32Mi", "200m", "64Mi"),
        "resizePolicy": [
            {"resourceName": "cpu", "restartPolicy": "NotRequired"},
            {"resourceName": "memory", "restartPolicy": "RestartContainer"},
        ],
    }
    node.put(spec)
    identity = first_id(node.wait_phase(spec, "Running"))
    resize(node, spec, amounts("150m", "32Mi", "300m", "64Mi"))
    status = node.wait_status(spec, "resized", settled(spec))
    assert (first_id(status), status["containerStatuses"][0]["restartCount"]) == (identity, 0)
    resize(node, spec, amounts("150m", "33Mi", "300m", "64Mi"))
    status = node.wait_status(
        spec, "a restart", lambda it: settled(spec)(it) and it["containerStatuses"][0]["restartCount"] == 1
    )
    assert first_id(status) != identity
    assert "main resize requires restart" in node.told(spec, "Killing")
    assert kernel(node, spec, first_id(status))["quota"] == "30000"
    node.delete(spec)


def test_a_limit_below_what_is_used_is_an_error_until_it_is_taken_back(node: BridgeNode) -> None:
    roomy = amounts("10m", "32Mi", "", "64Mi")
    spec = pod("used", f"dd if=/dev/zero of=/dev/shm/x bs=1M count=8; {TRAP}")
    spec["spec"]["containers"][0]["resources"] = roomy
    node.put(spec)
    identity = first_id(node.wait_phase(spec, "Running"))
    wait_for("the memory is used", lambda: "copied" in node.log(spec, "main") or "out" in node.log(spec, "main"))
    resize(node, spec, amounts("10m", "32Ki", "", "64Ki"))
    status = node.wait_status(
        spec, "an error", lambda it: resize_conditions(it)["PodResizeInProgress"]["reason"] == "Error"
    )
    note = resize_conditions(status)["PodResizeInProgress"]
    assert "memory limit (65536) below current usage (" in note["message"]
    assert note["observedGeneration"] == 2
    assert status["containerStatuses"][0]["resources"]["limits"] == {"memory": "64Mi"}
    assert status["containerStatuses"][0]["allocatedResources"]["memory"] == "32Ki"
    assert kernel(node, spec, identity)["memory"] == str(64 << 20)
    node.told(spec, "ResizeError")
    resize(node, spec, roomy)
    node.wait_status(spec, "as before", settled(spec))
    node.delete(spec)


def test_what_does_not_fit_is_deferred_until_another_pod_leaves(node: BridgeNode) -> None:
    cpus = int(node.node_status["allocatable"]["cpu"])
    first, second = pod("first", TRAP), pod("second", TRAP)
    for spec in (first, second):
        spec["spec"]["containers"][0]["resources"] = amounts("100m", "16Mi")
        node.put(spec)
    for spec in (first, second):
        node.wait_phase(spec, "Running")
    resize(node, first, amounts(str(cpus), "16Mi"))
    status = node.wait_status(first, "deferred", lambda it: resize_conditions(it)["PodResizePending"])
    note = resize_conditions(status)["PodResizePending"]
    assert (note["status"], note["reason"], note["observedGeneration"]) == ("True", "Deferred", 2)
    text = f"requested: {cpus * 1000}, used: 100, capacity: {cpus * 1000}"
    assert note["message"] == f"Node didn't have enough resource: cpu, {text}"
    assert status["containerStatuses"][0]["allocatedResources"]["cpu"] == "100m"
    event = wait_for("the event", lambda: node.reasons(first).get("ResizeDeferred"))
    assert event.startswith("Pod resize OutOfcpu: ")
    node.delete(second)
    status = node.wait_status(first, "resized", settled(first))
    assert status["containerStatuses"][0]["allocatedResources"]["cpu"] == str(cpus)
    node.delete(first)


@pytest.mark.parametrize("known", [True, False])
def test_a_restarted_bridge_knows_what_was_granted(node: BridgeNode, known: bool) -> None:
    cpus = int(node.node_status["allocatable"]["cpu"])
    spec = pod("remembered", TRAP)
    spec["spec"]["containers"][0]["resources"] = amounts("100m", "16Mi", "200m")
    node.put(spec)
    identity = first_id(node.wait_phase(spec, "Running"))
    resize(node, spec, amounts(str(cpus + 1), "16Mi", str(cpus + 1)))
    status = node.wait_status(spec, "deferred", lambda it: resize_conditions(it)["PodResizePending"])
    since = resize_conditions(status)["PodResizePending"]["lastTransitionTime"]
    node.end("cri-bridge", kill=True)
    spec["status"] = status if known else {"phase": "Running"}
    if not known:  # the status never reached the API server: what runs still says what was granted
        spec["spec"]["containers"][0]["resources"] = amounts("150m", "16Mi", "300m")
    spec["metadata"]["generation"] += 1
    node.put(spec)
    node.run_bridge()
    if known:
        status = node.wait_status(
            spec,
            "still deferred",
            lambda it: it["observedGeneration"] == 3 and resize_conditions(it)["PodResizePending"],
        )
        assert resize_conditions(status)["PodResizePending"]["lastTransitionTime"] == since
        assert status["containerStatuses"][0]["resources"] == amounts("100m", "16Mi", "200m")
        assert kernel(node, spec, identity)["quota"] == "20000"
    else:
        node.wait_status(
            spec,
            "resized",
            lambda it: settled(spec)(it) and it["containerStatuses"][0]["resources"]["limits"]["cpu"] == "300m",
        )
        assert kernel(node, spec, identity)["quota"] == "30000"
        assert kernel(node, spec)["quota"] == "30000"
    node.delete(spec)


def test_a_pods_own_resources_change_for_it_and_for_containers_without_limits(node: BridgeNode) -> None:
    spec = pod("level", TRAP, resources=amounts("200m", "32Mi", "400m", "64Mi"))
    node.put(spec)
    identity = first_id(node.wait_phase(spec, "Running"))
    assert kernel(node, spec, identity)["quota"] == "40000"
    larger = amounts("300m", "32Mi", "600m", "96Mi")
    spec["spec"]["resources"] = larger
    resize(node, spec, {})
    status = node.wait_status(spec, "resized", lambda it: settled(spec)(it) and it["resources"] == larger)
    assert status["allocatedResources"] == larger["requests"]
    for where in ("", identity):
        assert {"quota": "60000", "memory": str(96 << 20)}.items() <= kernel(node, spec, where).items()
    assert first_id(status) == identity
    node.delete(spec)
