"""Create to Ready through the whole node, against a plain loop of the same CRI calls; `make run` to Ready; memory.

A node on an instance of its own is brought up. Pods and raw sandboxes take turns in one run, so that both meet the same
machine; the ratio of the medians is the figure. Memory is PSS of supervisord and its programs with 20 pods, a line
each.
"""

import json
import random
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.flow.live import SHELL_IMAGE, LiveNode, is_ready, live_node, shell_pod
from tests.flow.planes import EmbeddedPlane
from tests.waiting import wait_for
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig

ROUNDS = 11
PODS = 20
_PODS = "/api/v1/namespaces/default/pods"


def main() -> None:
    """Print the three figures. Removes the instance at the end."""
    with live_node(EmbeddedPlane(), "bench") as node:
        node.run("make", "install", timeout=600)
        started = time.monotonic()
        node.up()
        print(f"make run on an installed guest to Ready: {time.monotonic() - started:.1f} s (aim: 10 s)")
        create_to_ready(node)
        memory(node)


def create_to_ready(node: LiveNode) -> None:
    client = Client(Kubeconfig(node.instance.admin_kubeconfig, "vkcri-bench"))
    runtime = Runtime(node.instance.runtime_endpoint)
    ours, raw = [], []
    for number in range(ROUNDS):
        for measure in random.sample(("ours", "raw"), 2):
            if measure == "ours":
                ours.append(one_pod(client, runtime, f"bench-{number}"))
            else:
                raw.append(one_raw(runtime, node, f"raw-{number}"))
    runtime.close()
    ratio = statistics.median(ours) / statistics.median(raw)
    print(
        f"create to Ready: {statistics.median(ours) * 1000:.0f} ms, raw CRI {statistics.median(raw) * 1000:.0f} ms, "
        f"ratio {ratio:.2f} (medians of {ROUNDS}, in random order; aim: 1.5)"
    )


def one_pod(client: Client, runtime: Runtime, name: str) -> float:
    """Seconds from the POST of a pod to its condition Ready, seen by a watch. Returns once the deleted pod's sandbox is
    gone, so that its end does not run beside the next measurement."""
    pod = shell_pod(name, "sleep 3600", terminationGracePeriodSeconds=0)
    started = time.monotonic()
    version = client.create(_PODS, pod)["metadata"]["resourceVersion"]
    params = {"resourceVersion": version, "fieldSelector": f"metadata.name={name}"}
    with client.watch(_PODS, params=params, read_timeout=60.0) as lines:
        for line in lines:
            if is_ready(json.loads(line)["object"]):
                break
        else:
            raise AssertionError(f"the watch ended before {name} was Ready")
    seconds = time.monotonic() - started
    client.delete(f"{_PODS}/{name}", {"gracePeriodSeconds": 0})
    chosen = cri.PodSandboxFilter(label_selector={"io.kubernetes.pod.name": name})
    request = cri.ListPodSandboxRequest(filter=chosen)
    wait_for(f"sandbox of {name} is gone", lambda: not runtime.list_pod_sandbox(request).items)
    return seconds


def one_raw(runtime: Runtime, node: LiveNode, name: str) -> float:
    """Seconds for RunPodSandbox, CreateContainer and StartContainer of the same container; removed afterwards."""
    config = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="raw"),
        hostname=name,
        log_directory=str(node.instance.pod_logs_dir / f"raw_{name}_{name}"),
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=f"{node.instance.cgroup_root}/raw"),
    )
    container = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"),
        image=cri.ImageSpec(image=SHELL_IMAGE),
        command=["sh", "-c", "sleep 3600"],
        log_path="main.log",
        linux=cri.LinuxContainerConfig(),
    )
    started = time.monotonic()
    sandbox = runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
    request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
    runtime.start_container(cri.StartContainerRequest(container_id=runtime.create_container(request).container_id))
    seconds = time.monotonic() - started
    runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    return seconds


def memory(node: LiveNode) -> None:
    """PSS with 20 pods, supervisord and each program save containerd; the embedded API server on a line of its own."""
    node.apply(*(shell_pod(f"load-{number}", "sleep 3600", terminationGracePeriodSeconds=0) for number in range(PODS)))
    wait_for("all pods are Ready", lambda: ready_pods(node) == PODS, 120)
    time.sleep(10)  # the figure is that of a node at rest, not of one that starts pods
    rows = {"supervisord": pss(node.supervisord_pid())}
    rows |= {name: pss(node.pid(name)) for name in node.instance.programs if name not in ("containerd", "apiserver")}
    for name, mebibytes in rows.items():
        print(f"memory with {PODS} pods: {name} {mebibytes:.0f} MB PSS")
    print(f"memory with {PODS} pods: all of these {sum(rows.values()):.0f} MB PSS (aim: 200)")
    print(f"memory with {PODS} pods: apiserver (embedded) {pss(node.pid('apiserver')):.0f} MB PSS (aim: 70)")


def ready_pods(node: LiveNode) -> int:
    items: list[dict[str, Any]] = node.get("pods")["items"]
    return sum(1 for pod in items if is_ready(pod))


def pss(pid: int) -> float:
    """Proportional set size in MB of a process and its children."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    pids = (
        [pid]
        if "supervisord" in Path(f"/proc/{pid}/cmdline").read_text()
        else [pid, *map(int, children.stdout.split())]
    )
    return sum(_pss_of(item) for item in pids) * 1024 / 1e6


def _pss_of(pid: int) -> int:
    """In kB of 1,024 bytes, as the kernel counts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0
