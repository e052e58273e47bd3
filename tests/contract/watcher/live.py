"""api-watcher and the embedded API server as real processes of one instance, and a provider that the test plays."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.living import living
from tests.waiting import PATIENCE
from vkcri.api import times
from vkcri.instance import Instance
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig
from vkcri.queue import Change, Publisher, Subscription

PROGRAMS = {"apiserver": "vkcri.apiserver.main", "api-watcher": "vkcri.watcher.main"}


class Program:
    """One running program; its output in a file."""

    def __init__(self, name: str, log: Path, **environ: str) -> None:
        self.name = name
        self.log = log
        self._environ = {
            key: value for key, value in os.environ.items() if not key.startswith(("VK", "KUBE"))
        } | environ
        self.start()

    def start(self) -> None:
        code = f"from {PROGRAMS[self.name]} import main; main()"
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-c", code], env=self._environ, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )

    def said(self, text: str) -> int:
        return self.log.read_text(errors="replace").count(text)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it the signal and wait; its exit status."""
        if self._child.poll() is None:
            self._child.send_signal(number)
        return self._child.wait(PATIENCE)


class Guest:
    """One instance: folders, programs, and the provider's side of its queue. A context manager that leaves nothing."""

    def __init__(self, instance: Instance, tmp_path: Path) -> None:
        self.instance = instance
        self._tmp_path = tmp_path
        self._programs: list[Program] = []
        self._held = ExitStack()
        self.seen: list[tuple[str, bool]] = []  # pods topic: (UID, whether there)
        self.pods = Subscription(instance.queue_socket("watcher"), "pods", self._pod)
        self.objects = Subscription(instance.queue_socket("watcher"), "objects", lambda _: None)
        self.node = Subscription(instance.queue_socket("watcher"), "node", lambda _: None)
        self.provider = Publisher(instance.queue_socket("provider"), ("pod-status", "node-status", "events"))
        self.provider.mark_synced("pod-status")
        self.provider.mark_synced("node-status")
        self.provider.mark_synced("events")

    def __enter__(self) -> "Guest":
        self._remove()
        self.process = self._held.enter_context(living("provider", self.instance))
        self.provider.start(self.process)
        for subscription in (self.pods, self.objects, self.node):
            subscription.start(self.process)
        self.report_node()
        self.process.start_thread("node-status", self._repeat)
        return self

    def __exit__(self, *_: BaseException | type[BaseException] | TracebackType | None) -> None:
        for program in reversed(self._programs):
            program.end()
        try:
            self._held.close()
        finally:
            self._remove()

    def _repeat(self) -> None:
        """A provider that is silent for 40 s makes the node NotReady."""
        while not self.process.wait(5):
            self.report_node()

    def _remove(self) -> None:
        for folder in (self.instance.run_dir, self.instance.state_dir, self.instance.log_dir):
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, name: str, **environ: str) -> Program:
        log = self._tmp_path / f"{self.instance.name}-{name}.log"
        program = Program(name, log, VKCRI_INSTANCE=self.instance.name, VKUBELET_POD_IP="127.0.0.1", **environ)
        self._programs.append(program)
        return program

    def admin(self) -> Client:
        return Client(Kubeconfig(self.instance.admin_kubeconfig, "vkcri/test"))

    def _pod(self, change: Change) -> None:
        self.seen.append((change.key, change.value is not None))

    def pod(self, name: str) -> dict[str, Any] | None:
        """The pod of that name as the provider gets it."""
        for raw in self.pods.items().values():
            found: dict[str, Any] = json.loads(raw)
            if found["metadata"]["name"] == name:
                return found
        return None

    def report_node(self, ready: str = "True") -> None:
        """node-status, as a provider repeats it."""
        now = times.seconds(times.of(time.time()))
        conditions = [
            {"type": kind, "status": "False", "reason": "Good", "message": "m"}
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ]
        conditions.append({"type": "Ready", "status": ready, "reason": "KubeletReady", "message": "it is"})
        amounts = {"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "10Gi"}
        value = {
            "capacity": amounts,
            "allocatable": amounts,
            "nodeInfo": {"machineID": "m", "operatingSystem": "linux", "architecture": "amd64"},
            "conditions": conditions,
            "reported": now,
            "relisted": now,
        }
        self.provider.put("node-status", "node", json.dumps(value).encode())

    def report_pod(self, pod: dict[str, Any], phase: str, *, finished: bool = False) -> None:
        metadata = pod["metadata"]
        ready = "True" if phase == "Running" else "False"
        conditions = [
            {"type": kind, "status": ready, "lastTransitionTime": times.seconds(times.of(time.time()))}
            for kind in ("Initialized", "ContainersReady", "Ready")
        ]
        state: dict[str, Any] = {"running": {"startedAt": metadata["creationTimestamp"]}}
        if phase != "Running":
            state = {"terminated": {"exitCode": 0, "reason": "Completed"}}
        container = {"name": "c", "ready": phase == "Running", "restartCount": 0, "image": "x", "imageID": ""}
        status = {
            "phase": phase,
            "conditions": conditions,
            "podIP": "10.244.0.7",
            "podIPs": [{"ip": "10.244.0.7"}],
            "startTime": metadata["creationTimestamp"],
            "containerStatuses": [{**container, "state": state, "lastState": {}}],
        }
        value = {"namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"], "status": status}
        self.provider.put("pod-status", metadata["uid"], json.dumps({**value, "finished": finished}).encode())
