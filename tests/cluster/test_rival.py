"""The real kubelet and kube-proxy beside everything else on the guest, and CoreDNS, which pods ask through kube-proxy.

They want three more programs than the control plane, so they are a target of their own: make test-rival.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import containerd
from tests.cluster import processes
from tests.cluster.control import Cluster
from tests.cluster.pki import DOMAIN
from tests.cluster.rival import NODE, Rival
from tests.flow.live import container, is_ready, shell_pod
from tests.instances import RIVAL_NUMBERS
from tests.waiting import wait_for
from vkcri.errors import ConfigError, NotFound

pytestmark = [pytest.mark.rival, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(600)]
KERNEL = tuple(Path("/proc/sys") / name for name in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"))


@pytest.fixture
def rival(cluster: Cluster) -> Iterator[Rival]:
    node = Rival(cluster)
    node.stop()  # of a run that was killed
    yield node
    node.stop()


def kubectl(cluster: Cluster, *arguments: str, text: str | None = None) -> str:
    command = ["kubectl", f"--kubeconfig={cluster.admin_kubeconfig}", *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60).stdout


def run_pod(cluster: Cluster, name: str, script: str) -> str:
    """Create a pod, wait until it is Ready, and give its address."""
    kubectl(cluster, "create", "-f", "-", text=json.dumps(shell_pod(name, script)))

    def ready() -> str:
        pod = json.loads(kubectl(cluster, "get", "pod", name, "-o", "json"))
        return pod["status"]["podIP"] if is_ready(pod) else ""

    return wait_for(f"pod {name} is Ready", ready)


def guest() -> dict[str, list[str]]:
    """What the guest has that a kubelet adds to."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return {
        "tables": sorted(line for line in tables.splitlines() if "kube" in line),
        "kernel": [path.read_text() for path in KERNEL],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if "rival-" in line],
        "cgroups": sorted(map(str, Path("/sys/fs/cgroup").glob("*/vk-cri-rival-*"))),
        "folders": sorted(map(str, (path for path in map(Path, FOLDERS) if path.exists()))),
        "bridges": sorted(name for name in os.listdir("/sys/class/net") if name in BRIDGES),
    }


BRIDGES = {f"vkcri{number}" for number in RIVAL_NUMBERS}
FOLDERS = ["/var/lib/kubelet", "/var/log/containers"]
FOLDERS += [
    f"{parent}/vk-cri-rival-{number}" for parent in ("/run", "/var/lib", "/var/log") for number in RIVAL_NUMBERS
]


def test_a_pod_runs_resolves_names_survives_the_kubelet_and_leaves_nothing(cluster: Cluster, rival: Rival) -> None:
    before = guest()
    rival.start()
    cluster.start_dns()
    address = run_pod(cluster, "served", "echo hello; exec sleep 3600")
    assert address.startswith(str(cluster.place.pod_range).rpartition(".")[0].rpartition(".")[0])
    wait_for("its log", lambda: kubectl(cluster, "logs", "served") == "hello\n")
    found = kubectl(cluster, "exec", "served", "--", "nslookup", f"kubernetes.default.svc.{DOMAIN}")
    assert f"Address: {cluster.place.service_range[1]}" in found
    assert f"Server:\t\t{cluster.place.dns}" in found

    ours = {program: rival.pid(program) for program in ("kubelet", "kube-proxy")}
    identity = kubectl(cluster, "get", "pod", "served", "-o", "jsonpath={.status.containerStatuses[0].containerID}")
    for pid in (*ours.values(), containerd.our_pid(rival.settings)):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    rival.start()

    def another() -> bool:
        try:
            return rival.pid("kubelet") != ours["kubelet"]
        except NotFound:
            return False

    def same() -> bool:
        pod = json.loads(kubectl(cluster, "get", "pod", "served", "-o", "json"))
        status = container(pod)
        return is_ready(pod) and (status["containerID"], status["restartCount"]) == (identity, 0)

    wait_for("another kubelet", another)
    wait_for("the same container", same)

    os.kill(rival.pid("kubelet"), signal.SIGKILL)
    pid = containerd.our_pid(rival.settings)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert rival.stop()
    assert guest() == before
    assert processes.running(rival.folder) == {}
    assert NODE not in kubectl(cluster, "get", "nodes", "-o", "name")
    assert not rival.stop(), "a second stop is harmless"


def test_a_guest_with_a_kubelet_of_its_own_is_refused(rival: Rival, tmp_path: Path) -> None:
    other = tmp_path / "kubelet"
    other.symlink_to("/bin/sleep")
    with subprocess.Popen([str(other), "600"]) as process:
        try:
            with pytest.raises(ConfigError, match=rf"a kubelet runs on this guest \(pid {process.pid}\)"):
                rival.start()
        finally:
            process.kill()
