"""The real kubelet and kube-proxy as another node of a cluster, on a containerd of their own: `make rival`.

A kubelet stops every pod that it does not know on its CRI socket. So this one has a containerd of its own (vkcri's
launcher writes its configuration, on an instance that nothing else uses), and with it vkcri may run on the same guest
and in the same cluster, which is how `make bench RIVAL=1` lets them take turns. What the kubelet changes on a guest
beyond its folders, a few kernel settings, is put back by `stop`.
"""

import json
import os
import shutil
import subprocess
import threading
import urllib.request
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from bridge import cleanup, containerd, images_local, network
from bridge.cgroupfs import mounted_hierarchies
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.volumes import mounting
from tests.cluster import pki, processes, rival_config
from tests.cluster.control import Cluster
from tests.instances import RIVAL_NUMBERS
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, NotFound, Unavailable, VkcriError
from vkcri.instance import Instance

NODE = "rival"
PROGRAMS = ("kubelet", "kube-proxy")
_ELSEWHERE = ("/var/lib/kubelet", "/var/log/containers")  # what it makes outside its folders, whatever its flags say
_KERNEL_SETTINGS = (  # what the kubelet sets: pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


class Rival:
    """The rival node of one cluster. Two clusters whose numbers differ by a multiple of nine share an instance, and the
    second one's rival is refused."""

    def __init__(self, cluster: Cluster, node: str = NODE) -> None:
        self.cluster, self.node = cluster, node
        instance = Instance(f"rival-{RIVAL_NUMBERS[cluster.place.number % len(RIVAL_NUMBERS)]}")
        self.settings = RuntimeSettings(instance=instance, node_name=node, pod_ip=cluster.place.address)

    @property
    def folder(self) -> Path:
        return self.settings.instance.state_dir

    def start(self) -> None:
        """Build what is missing, start what does not run, and return once the node is Ready. Raises ConfigError or
        Unavailable."""
        kubelet, proxy = (self.cluster.program(name) for name in PROGRAMS)
        self._prepare()
        self._start_containerd()
        place, settings = self.cluster.place, self.settings
        identity = self.cluster.node_kubeconfig(self.node)
        self._serve("kubelet", rival_config.kubelet(place, settings, kubelet, self.node, identity), self._healthy)
        self._join_network()
        user = pki.client_kubeconfig(place, self.folder / "kube-proxy.conf", "system:kube-proxy")
        command = rival_config.kube_proxy(place, settings, proxy, self.node, user)
        self._serve("kube-proxy", command, self._ready)

    def stop(self) -> bool:
        """End and remove all of it, the Node too where the API server answers; whether there was anything. Harmless if
        repeated. Raises Unavailable naming what stays."""
        there = self.folder.exists()
        for program in PROGRAMS:
            processes.stop(self.folder, program)
        if not there:
            return False
        self._remove_node()
        for family in ("ip", "ip6"):
            subprocess.run(["nft", "delete", "table", family, "kube-proxy"], capture_output=True, check=False)
        self._remove_sandboxes()
        cleanup.cleanup(self.settings)
        processes.stop(self.folder, "containerd")
        mounting.unmount_below(rival_config.kubelet_root(self.settings))
        if self._before.exists():
            self._restore_guest()
        instance = self.settings.instance
        for folder in (instance.run_dir, instance.log_dir, instance.state_dir):
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                raise Unavailable(f"{folder} could not be removed")
        return True

    def pid(self, program: str) -> int:
        """The process of a program, not what it runs itself. Raises NotFound where it does not run."""
        for pid in processes.running(self.folder).get(program, []):
            if Path(f"/proc/{pid}/exe").resolve().name == program:
                return pid
        raise NotFound(f"{program} of {self.folder} does not run")

    def _prepare(self) -> None:
        """Folders, the kubelet's configuration and cgroup; how the guest was before."""
        instance = self.settings.instance
        self._refuse_others()
        root = rival_config.kubelet_root(self.settings)
        for folder in (self.folder, instance.run_dir, instance.log_dir, instance.pod_logs_dir, root):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "config.json").write_text(rival_config.kubelet_config(self.cluster.place, self.settings))
        if not self._before.exists():
            kernel = {name: (Path("/proc/sys") / name).read_text().strip() for name in _KERNEL_SETTINGS}
            absent = [path for path in _ELSEWHERE if not Path(path).exists()]
            kept = {"cluster": self.cluster.place.name, "kernel": kernel, "absent": absent}
            self._before.write_text(json.dumps(kept))
        _make_cgroup(instance.cgroup_root.strip("/"))

    def _refuse_others(self) -> None:
        """Two kubelets on one guest share /var/lib/kubelet/device-plugins, and the second takes it from the first."""
        ours = processes.running(self.folder).get("kubelet", [])
        for pid, words in containerd.processes():
            if Path(os.fsdecode(words[0])).name == "kubelet" and pid not in ours:
                raise ConfigError(f"a kubelet runs on this guest (pid {pid}): end it first")
        if (
            self._before.exists()
            and (name := json.loads(self._before.read_text())["cluster"]) != self.cluster.place.name
        ):
            raise ConfigError(f"{self.folder} is the rival's of {name}: make rival-stop first")

    def _start_containerd(self) -> None:
        """containerd with the pause image and the shell image, and without a network yet."""
        program, config = containerd.write_config(self.settings)
        command = containerd.command(self.settings, program, config)
        path = containerd.environment()["PATH"]
        if containerd.our_pid(self.settings) is None:  # its shims carry its mark too
            processes.start(self.folder, "containerd", command, self._log("containerd"), PATH=path)
        self._wait("containerd", self._answers)
        runtime = Runtime(self.settings.runtime_endpoint)
        try:
            images_local.ensure_images(runtime, self.settings)
        finally:
            runtime.close()

    def _join_network(self) -> None:
        """The default network on the range that the controller manager gave to the node."""
        self._wait("kubelet", lambda: bool(self._node().get("spec", {}).get("podCIDR")))
        runtime = Runtime(self.settings.runtime_endpoint)
        try:
            network.ensure_network(runtime, self.settings, IPv4Network(self._node()["spec"]["podCIDR"]))
            network.wait_ready(runtime, threading.Event().wait)
        finally:
            runtime.close()

    def _remove_sandboxes(self) -> None:
        """All that the kubelet made; its containerd is started for it where it was killed."""
        if not containerd.config_path(self.settings).exists():
            return
        self._start_containerd()
        runtime = Runtime(self.settings.runtime_endpoint)
        try:
            for sandbox in runtime.list_pod_sandbox(cri.ListPodSandboxRequest()).items:
                runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox.id))
                runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id))
        finally:
            runtime.close()

    def _remove_node(self) -> None:
        try:
            self.cluster.client().delete(f"/api/v1/nodes/{self.node}")
        except VkcriError:
            return  # it was never there, or the API server went first and takes it along

    def _restore_guest(self) -> None:
        before = json.loads(self._before.read_text())
        for name, value in before["kernel"].items():
            (Path("/proc/sys") / name).write_text(value)
        for path in before["absent"]:
            shutil.rmtree(path, ignore_errors=True)

    @property
    def _before(self) -> Path:
        """How the guest was before the first start."""
        return self.folder / "before.json"

    def _log(self, program: str) -> Path:
        return self.settings.instance.log_dir / f"{program}.log"

    def _serve(self, program: str, command: Any, probe: Any) -> None:
        path = containerd.environment()["PATH"]
        processes.serve(self.folder, program, command, self._log(program), probe, PATH=path)

    def _wait(self, program: str, probe: Any) -> None:
        processes.until(self.folder, program, self._log(program), probe)

    def _answers(self) -> bool:
        try:
            return containerd.answering(self.settings) is not None
        except VkcriError:
            return False

    def _healthy(self) -> bool:
        url = f"http://127.0.0.1:{rival_config.healthz_port(self.settings)}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _node(self) -> dict[str, Any]:
        try:
            return self.cluster.client().get(f"/api/v1/nodes/{self.node}")
        except NotFound:
            return {}

    def _ready(self) -> bool:
        conditions = self._node().get("status", {}).get("conditions", ())
        return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _make_cgroup(name: str) -> None:
    """A cgroup in every hierarchy: the kubelet wants its root to be there. A v1 cpuset takes its parent's sets."""
    for root in mounted_hierarchies().roots:
        folder = root / name
        folder.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (folder / file).exists() and not (folder / file).read_text().strip() and "cpuset" in root.parts:
                (folder / file).write_text((root / file).read_text())
