"""cri-bridge and a private containerd as real processes, and api-watcher's half of the queue in the test itself.

Everything is of an instance of its own and is removed by `stop`, whatever happened before.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from bridge.pb.runtime.v1 import api_pb2
from bridge.runtime import Runtime
from tests.waiting import PATIENCE, wait_for
from vkcri.config import RuntimeSettings
from vkcri.errors import VkcriError
from vkcri.instance import Instance
from vkcri.lifecycle import Process
from vkcri.queue import Change, Publisher, Subscription

SHELL = "localhost/vkcri/shell:1"
BIN = Path(sys.executable).parent
NODE = "bridge-test"
TOPICS = ("pods", "objects", "services", "endpointslices", "runtimeclasses", "node")
T = TypeVar("T")


class BridgeNode:
    """One node's runtime half. `statuses` has the newest value of pod-status by UID, `events` all of `events`."""

    def __init__(self, name: str, logs: Path, **environment: str) -> None:
        self.instance = Instance(name)
        self.settings = RuntimeSettings(instance=self.instance)
        self.logs = logs
        self.environment = environment
        self.process = Process("test", self.instance, end=lambda _: None)
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self.statuses: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[str, dict[str, Any]]] = []
        self.events: dict[str, dict[str, Any]] = {}
        self.node_status: dict[str, Any] = {}
        self._runtime: Runtime | None = None

    def start(self) -> None:
        for folder in (self.instance.queues_dir, self.instance.locks_dir, self.instance.state_dir):
            folder.mkdir(parents=True, exist_ok=True)
        self.run("containerd")
        self.watcher = Publisher(self.instance.queue_socket("watcher"), TOPICS, sources={"pods": ("api", "file")})
        for topic in TOPICS:
            for source in ("api", "file") if topic == "pods" else ("",):
                self.watcher.mark_synced(topic, source=source)
        self.set_node({})
        self.watcher.serve("token", self._token)
        self.watcher.start(self.process)
        self.run_bridge()
        provider = self.instance.queue_socket("provider")
        for topic in ("pod-status", "events", "node-status"):
            Subscription(provider, topic, self._heard).start(self.process)
        wait_for("a Ready node", self.ready)

    def run(self, program: str) -> None:
        with (self.logs / f"{program}.log").open("ab") as log:
            self.programs[program] = subprocess.Popen(
                [BIN / f"vkcri-{program}"],
                env={
                    **os.environ,
                    "VKCRI_INSTANCE": self.instance.name,
                    "VKUBELET_NODE_NAME": NODE,
                    "VKCRI_LOG_LEVEL": "DEBUG" if program == "cri-bridge" else "INFO",
                    "KUBECONFIG": "",
                    **self.environment,
                },
                stdout=log,
                stderr=log,
            )

    def run_bridge(self) -> None:
        self.run("cri-bridge")

    def end(self, program: str, *, kill: bool = False) -> None:
        process = self.programs.pop(program)
        process.kill() if kill else process.terminate()
        process.wait(PATIENCE)

    def stop(self) -> None:
        """End the programs and remove everything of the instance."""
        self.process.drain()
        if self._runtime is not None:
            self._runtime.close()
        if "cri-bridge" in self.programs:
            self.end("cri-bridge")
        subprocess.run(
            [BIN / "vkcri-cri-bridge", "--cleanup"],
            env={**os.environ, "VKCRI_INSTANCE": self.instance.name},
            timeout=120,
            check=False,
        )
        for program in list(self.programs):
            self.end(program)
        for folder in (self.instance.run_dir, self.instance.state_dir, self.instance.log_dir):
            shutil.rmtree(folder, ignore_errors=True)

    def ready(self) -> bool:
        conditions = {item["type"]: item["status"] for item in self.node_status.get("conditions", [])}
        return conditions.get("Ready") == "True"

    def set_node(self, labels: dict[str, str]) -> None:
        node = {
            "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, **labels}},
            "spec": {},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]},
        }
        self.watcher.put("node", NODE, json.dumps(node).encode())

    def put(self, pod: dict[str, Any]) -> str:
        """Publish the pod; its UID."""
        uid = str(pod["metadata"]["uid"])
        self.watcher.put("pods", uid, json.dumps(pod).encode(), source="api")
        return uid

    def delete(self, pod: dict[str, Any], grace: int | None = None) -> None:
        """As the API server: the pod gets its deletionTimestamp, and goes once it is finished."""
        self.mark_deleted(pod, grace)
        uid = pod["metadata"]["uid"]
        wait_for(f"{uid} finished", lambda: self.statuses.get(uid, {}).get("finished"))
        self.remove(pod)

    def mark_deleted(self, pod: dict[str, Any], grace: int | None = None) -> None:
        seconds = pod["spec"].get("terminationGracePeriodSeconds", 30) if grace is None else grace
        pod["metadata"] |= {"deletionTimestamp": "2026-11-23T00:00:00Z", "deletionGracePeriodSeconds": seconds}
        self.put(pod)

    def remove(self, pod: dict[str, Any]) -> None:
        """The API object is gone."""
        self.watcher.delete("pods", pod["metadata"]["uid"], source="api")

    def status(self, pod: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.statuses.get(pod["metadata"]["uid"], {}).get("status", {})
        return found

    def wait_status(
        self, pod: dict[str, Any], what: str, probe: Callable[[dict[str, Any]], Any], seconds: float = 60.0
    ) -> dict[str, Any]:
        """The pod's status once the probe is true of it."""

        def look() -> dict[str, Any] | None:
            status = self.status(pod)
            with contextlib.suppress(KeyError, IndexError, TypeError):
                if status and probe(status):
                    return status
            return None

        try:
            return wait_for(what, look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; status {json.dumps(self.status(pod), indent=1)}") from error

    def wait_phase(self, pod: dict[str, Any], phase: str, seconds: float = 60.0) -> dict[str, Any]:
        return self.wait_status(pod, f"phase {phase}", lambda status: status["phase"] == phase, seconds)

    def reasons(self, pod: dict[str, Any]) -> dict[str, str]:
        """Event reason -> message, of the pod."""
        uid = pod["metadata"]["uid"]
        found = [item for item in list(self.events.values()) if item["involvedObject"]["uid"] == uid]
        return {item["reason"]: item["message"] for item in found}

    def told(self, pod: dict[str, Any], reason: str) -> str:
        """The message of the pod's newest event of that reason, once there is one: events follow statuses."""
        return wait_for(f"event {reason}", lambda: self.reasons(pod).get(reason))

    def containers(self, uid: str) -> list[api_pb2.Container]:
        """What CRI has of the pod."""
        selector = {"io.kubernetes.pod.uid": uid}
        request = api_pb2.ListContainersRequest(filter=api_pb2.ContainerFilter(label_selector=selector))
        return list(self.runtime().list_containers(request).containers)

    def sandboxes(self, uid: str) -> list[api_pb2.PodSandbox]:
        selector = {"io.kubernetes.pod.uid": uid}
        request = api_pb2.ListPodSandboxRequest(filter=api_pb2.PodSandboxFilter(label_selector=selector))
        return list(self.runtime().list_pod_sandbox(request).items)

    def runtime(self) -> Runtime:
        if self._runtime is None:
            self._runtime = Runtime(self.settings.runtime_endpoint)
        return self._runtime

    def execute(self, pod: dict[str, Any], container: str, command: str) -> str:
        """Run a command in that container, as kubectl exec would; what it says."""
        (found,) = [item.id for item in self.containers(pod["metadata"]["uid"]) if item.metadata.name == container]
        request = api_pb2.ExecSyncRequest(container_id=found, cmd=["/bin/sh", "-c", command])
        answer = self.runtime().exec_sync(request)
        assert answer.exit_code == 0, answer.stderr
        return answer.stdout.decode()

    def log(self, pod: dict[str, Any], container: str, attempt: int = 0) -> str:
        metadata = pod["metadata"]
        folder = self.instance.pod_logs_dir / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        path = folder / container / f"{attempt}.log"
        return path.read_text() if path.exists() else ""

    def leftovers(self, uid: str) -> list[str]:
        """Everything on the guest that still names the pod."""
        found = [f"container {item.id}" for item in self.containers(uid)]
        found += [f"sandbox {item.id}" for item in self.sandboxes(uid)]
        found += [str(path) for path in self.instance.pod_logs_dir.glob(f"*{uid}*")]
        found += [str(path) for path in self.instance.volumes_dir.glob(f"{uid}*")]
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if uid in line]
        found += [str(path) for path in _cgroups(uid)]
        return found

    def _heard(self, change: Change) -> None:
        if change.topic == "events":
            if change.value is not None:
                self.events[change.key] = json.loads(change.value)
        elif change.topic == "node-status":
            self.node_status = json.loads(change.value or b"{}")
        elif change.value is None:
            self.statuses.pop(change.key, None)
        else:
            self.statuses[change.key] = json.loads(change.value)
            self.history.append((change.key, self.statuses[change.key]["status"]))

    def _token(self, body: dict[str, Any], seconds: float) -> dict[str, str]:
        del body, seconds
        raise VkcriError("no tokens in this test")


@contextmanager
def running(name: str, logs: Path, **environment: str) -> Iterator[BridgeNode]:
    """A Ready one on the instance of that name; nothing of it is left at the end."""
    node = BridgeNode(name, logs, **environment)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def _cgroups(uid: str) -> Iterator[Path]:
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        for name in names:
            if uid in name:
                yield Path(folder, name)


def pod(name: str, script: str = "sleep 1000", **spec: Any) -> dict[str, Any]:
    """A Pod as an API server would send it, with one container `main` that runs the script."""
    containers = spec.pop("containers", None) or [container("main", script)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": str(uuid.uuid4()),
            "creationTimestamp": "2026-11-23T00:00:00Z",
            "generation": 1,
        },
        "spec": {
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "Default",
            "enableServiceLinks": False,
            "nodeName": NODE,
            "containers": containers,
            **spec,
        },
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


def container(name: str, script: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": SHELL,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", script],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        **more,
    }
