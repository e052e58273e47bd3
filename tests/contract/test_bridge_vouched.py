"""What only some runtimes can do, on the one that these tests run on: done where it vouches for it, else refused with a
reason and never dropped. `make test RUNTIME=1.6` shows the one, RUNTIME=2 the other."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.spec import names
from tests.contract.bridge_node import SHELL, BridgeNode, container, pod, running
from tests.waiting import wait_for
from vkcri.instance import Instance
from vkcri.queue import request

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-vouched")]
TRAP = 'trap "exit 0" TERM; while true; do sleep 0.1; done'


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    with running(claim("vouch").name, tmp_path_factory.mktemp("logs")) as node:
        yield node


@pytest.fixture(scope="module")
def modern(node: BridgeNode) -> bool:
    """Whether this is containerd 2."""
    version = node.runtime().version(cri.VersionRequest(version="v1")).runtime_version
    return int(version.lstrip("v").split(".")[0]) >= 2


@pytest.fixture(scope="module")
def image_volumes(node: BridgeNode) -> tuple[bool, bool]:
    """Whether this containerd mounts images, and a path of them."""
    version = node.runtime().version(cri.VersionRequest(version="v1")).runtime_version
    since = tuple(int(part) for part in version.lstrip("v").split(".")[:2])
    return since >= (2, 1), since >= (2, 2)


def said(node: BridgeNode, spec: dict[str, Any]) -> list[str]:
    """The lines of its first container's log before the `end` that its script says last: the runtime may write them
    after the container's end."""
    node.wait_phase(spec, "Succeeded")
    wait_for("its last word", lambda: node.log(spec, "main").endswith(" F end\n"))
    return node.log(spec, "main").splitlines()[:-1]


def counted(node: BridgeNode, family: str) -> float:
    """The bridge's counter of that name, without labels."""
    page: str = request(node.instance.queue_socket("provider"), "metrics", {}, timeout=30.0)["text"]
    return sum(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{family} "))


def test_strict_groups_are_the_pods_own_or_the_pod_is_refused(node: BridgeNode, modern: bool) -> None:
    context = {"supplementalGroupsPolicy": "Strict", "supplementalGroups": [4321], "runAsUser": 0, "runAsGroup": 0}
    spec = pod("strict", "id -G; echo end", restartPolicy="Never", securityContext=context)
    node.put(spec)
    if modern:
        assert said(node, spec)[0].endswith("F 0 4321")
    else:
        status = node.wait_phase(spec, "Failed")
        assert status["reason"] == "SupplementalGroupsPolicyNotSupported"
        message = "SupplementalGroupsPolicy=Strict is not supported in this node"
        assert status["message"] == f"Pod was rejected: {message}"
        assert node.told(spec, "SupplementalGroupsPolicyNotSupported") == message
    node.delete(spec)


@pytest.mark.parametrize("mode", ["Enabled", "IfPossible"])
def test_a_recursive_read_only_mount_is_so_below_too_or_refused(node: BridgeNode, modern: bool, mode: str) -> None:
    """/dev of the node has file systems of its own below it."""
    volumes = [{"name": "host", "hostPath": {"path": "/dev"}}]
    script = "grep ' /in/' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; echo end"
    spec = pod("rro", script, restartPolicy="Never", volumes=volumes)
    mount = {"name": "host", "mountPath": "/in", "readOnly": True, "recursiveReadOnly": mode}
    spec["spec"]["containers"][0]["volumeMounts"] = [mount]
    node.put(spec)
    if modern or mode == "IfPossible":
        found = {line.rpartition(" ")[2] for line in said(node, spec)}
        assert found == ({"ro"} if modern else {"rw"})
    else:
        assert refused(node, spec).endswith("but it is not supported by the runtime")
    node.delete(spec)


def test_a_stop_signal_that_the_runtime_drops_is_refused_and_leaves_no_container(node: BridgeNode) -> None:
    main = container("main", TRAP, lifecycle={"stopSignal": "SIGUSR1"})
    spec = pod("signal", containers=[main], os={"name": "linux"})
    uid = node.put(spec)
    message = "container main: lifecycle.stopSignal is not supported by this node's runtime"
    assert refused(node, spec) == message
    assert node.told(spec, "Failed") == f"Error: {message}"
    wait_for("no container", lambda: not node.containers(uid))
    node.delete(spec)


def test_a_pod_has_users_of_its_own_or_waits_with_the_reason(node: BridgeNode) -> None:
    """With volumes on disk and in memory, whose files are root's as the pod sees them. The range outlives the
    bridge and goes with the pod."""
    handlers = node.runtime().status(cri.StatusRequest()).runtime_handlers
    able = any(item.features.user_namespaces for item in handlers if not item.name)
    volumes = [{"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]
    script = f"cat /proc/self/uid_map; touch /disk/x /memory/x; stat -c %u:%g /disk/x /memory/x /etc/hosts; {TRAP}"
    spec = pod("users", script, hostUsers=False, volumes=volumes)
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("disk", "memory")]
    spec["spec"]["containers"][0]["volumeMounts"] = mounts
    uid = node.put(spec)
    if not able:
        message = "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
        event = f"Failed to create pod sandbox: {message}"
        wait_for("the event", lambda: node.reasons(spec).get("FailedCreatePodSandBox") == event)
        node.wait_phase(spec, "Pending")
        assert node.sandboxes(uid) == []
        assert counted(node, "kubelet_started_user_namespaced_pods_errors_total") >= 1
        node.delete(spec)
        return
    node.wait_phase(spec, "Running")
    assert counted(node, "kubelet_started_user_namespaced_pods_total") >= 1
    first = node.sandboxes(uid)[0].annotations[names.FIRST_ID]
    wait_for("the container's words", lambda: len(node.log(spec, "main").splitlines()) >= 4)
    lines = [line.partition(" F ")[2].split() for line in node.log(spec, "main").splitlines()]
    assert lines == [["0", first, "65536"], ["0:0"], ["0:0"], ["0:0"]]
    assert int(first) // 65536 == 1 + node.instance.index * 655
    node.end("cri-bridge", kill=True)
    node.run_bridge()
    other = pod("others", script, hostUsers=False, volumes=volumes)
    other["spec"]["containers"][0]["volumeMounts"] = mounts
    node.put(other)
    node.wait_phase(other, "Running")
    assert node.sandboxes(other["metadata"]["uid"])[0].annotations[names.FIRST_ID] == str(int(first) + 65536)
    for one in (spec, other):
        node.delete(one)


def with_image(name: str, script: str, reference: str = SHELL, **mount: Any) -> dict[str, Any]:
    """A pod that has the image at /image."""
    source = {"reference": reference, "pullPolicy": "IfNotPresent" if reference == SHELL else "Never"}
    spec = pod(name, script, restartPolicy="Never", volumes=[{"name": "tools", "image": source}])
    spec["spec"]["containers"][0]["volumeMounts"] = [{"name": "tools", "mountPath": "/image", **mount}]
    return spec


def test_an_image_is_a_volume_that_cannot_be_written_or_the_pod_waits_with_the_reason(
    node: BridgeNode, image_volumes: tuple[bool, bool]
) -> None:
    spec = with_image(
        "image", "cat /image/etc/passwd | head -n 1; touch /image/x 2>/dev/null || echo read-only; echo end"
    )
    uid = node.put(spec)
    if image_volumes[0]:
        lines = [line.partition(" F ")[2] for line in said(node, spec)]
        assert lines == ["root:x:0:0:root:/root:/bin/sh", "read-only"]
        assert node.told(spec, "Pulled").startswith(f'Container image "{SHELL}" already present on machine')
        (made,) = node.containers(uid)
        assert made.annotations[names.IMAGE_VOLUMES].startswith("sha256:")
    else:
        message = 'volume "tools": image volumes are not supported by this node\'s runtime'
        assert refused(node, spec) == message
        assert node.told(spec, "Failed") == f"Error: {message}"
        assert node.containers(uid) == []
    node.delete(spec)


def test_a_sub_path_of_an_image_is_mounted_alone_or_refused(node: BridgeNode, image_volumes: tuple[bool, bool]) -> None:
    spec = with_image("image-path", "cat /image/passwd | head -n 1; echo end", subPath="etc")
    node.put(spec)
    if image_volumes[1]:
        assert [line.partition(" F ")[2] for line in said(node, spec)] == ["root:x:0:0:root:/root:/bin/sh"]
    else:
        what = "subPath of an image is" if image_volumes[0] else "image volumes are"
        assert refused(node, spec) == f'volume "tools": {what} not supported by this node\'s runtime'
    node.delete(spec)


def test_an_image_that_is_not_there_keeps_the_container_that_mounts_it_waiting(
    node: BridgeNode, image_volumes: tuple[bool, bool]
) -> None:
    spec = with_image("no-image", "true", "localhost/nobody/nothing:1")
    node.put(spec)
    reason = "ErrImageNeverPull" if image_volumes[0] else "CreateContainerConfigError"
    told = refused(node, spec, reason)
    if image_volumes[0]:
        message = 'Container image "localhost/nobody/nothing:1" is not present with pull policy of Never'
        assert told == message
        assert node.told(spec, "ErrImageNeverPull") == message
        assert node.told(spec, "Failed") == "Error: ErrImageNeverPull"
    node.delete(spec)


def refused(node: BridgeNode, spec: dict[str, Any], reason: str = "CreateContainerConfigError") -> str:
    """What is said of its first container, once that waits for this reason."""

    def waiting(status: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = status["containerStatuses"][0]["state"]["waiting"]
        return found

    status = node.wait_status(spec, reason, lambda status: waiting(status)["reason"] == reason)
    return str(waiting(status)["message"])
