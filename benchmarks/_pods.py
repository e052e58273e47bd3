"""What the measurements do with pods of one node as a client of the API server: create, watch, wait, remove."""

import base64
import http.client
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.flow.live import is_ready, shell_pod
from tests.waiting import wait_for
from vkcri.kube.client import Client

PODS = "/api/v1/namespaces/default/pods"
WAIT_SECONDS = 180.0


@dataclass(frozen=True)
class Contender:
    """One node: its name, and its processes by what they are (`node`: what is compared, `containerd`: beside it)."""

    name: str
    pids: Callable[[], Mapping[str, Sequence[int]]]


class Pods:
    """A client of the API server, an administrator, and names for its pods."""

    def __init__(self, client: Client, kubeconfig: Path) -> None:
        self._client = client
        self._kubectl = ["kubectl", f"--kubeconfig={kubeconfig}"]
        self._number = 0

    def _name(self) -> str:
        self._number += 1
        return f"bench-{self._number}"

    @contextmanager
    def _fifos(self, names: Sequence[str] = ("fifo",)) -> Iterator[Path]:
        """A folder with fifos of these names."""
        with tempfile.TemporaryDirectory(prefix="vkcri-bench-") as folder:
            for name in names:
                os.mkfifo(Path(folder) / name)
            yield Path(folder)

    @contextmanager
    def _pod(
        self, node: Contender, script: str, folder: Path | None = None, **spec: Any
    ) -> Iterator[tuple[str, float]]:
        """A Ready pod's name and how long that took; it is gone at the end. Every container has `folder` as /work."""
        name = self._name()
        pod = shell_pod(name, script, **{"terminationGracePeriodSeconds": 0, **spec})
        if folder is not None:
            pod["spec"]["volumes"] = [{"name": "work", "hostPath": {"path": str(folder)}}]
            for container in pod["spec"]["containers"]:
                container["volumeMounts"] = [{"name": "work", "mountPath": "/work"}]
        with self._removed([name]):
            began = time.monotonic()
            self._until_ready(self._create(node, pod), [name])
            yield name, time.monotonic() - began

    def _create(self, node: Contender, pod: dict[str, Any]) -> str:
        """Create a pod on that node; gives its resource version."""
        pod["spec"]["nodeName"] = node.name
        return str(self._client.create(PODS, pod)["metadata"]["resourceVersion"])

    def _until_ready(self, version: str, names: Sequence[str]) -> None:
        """Wait until all of these were Ready after that version. Raises AssertionError where the watch ends first."""
        waiting = set(names)
        with self._watch(version, names[0] if len(names) == 1 else "") as events:
            for event in events:
                if is_ready(event["object"]):
                    waiting.discard(event["object"]["metadata"]["name"])
                if not waiting:
                    return
        raise AssertionError(f"the watch ended before these were Ready: {', '.join(sorted(waiting))}")

    @contextmanager
    def _removed(self, names: Sequence[str]) -> Iterator[None]:
        """Whatever becomes of the measurement, these pods are gone at its end."""
        try:
            yield
        finally:
            for name in filter(self._exists, names):
                self._client.delete(f"{PODS}/{name}", {"gracePeriodSeconds": 0})
            self._gone(names)

    @contextmanager
    def _watch(self, version: str, name: str = "") -> Iterator[Iterator[dict[str, Any]]]:
        params = {"resourceVersion": version, **({"fieldSelector": f"metadata.name={name}"} if name else {})}
        with self._client.watch(PODS, params=params, read_timeout=WAIT_SECONDS) as lines:
            yield map(json.loads, lines)

    def _version(self, name: str) -> str:
        return str(self._client.get(f"{PODS}/{name}")["metadata"]["resourceVersion"])

    def _exists(self, name: str) -> bool:
        found = self._client.get(PODS, params={"fieldSelector": f"metadata.name={name}"})
        return bool(found["items"])

    def _is_ready(self, name: str) -> bool:
        return is_ready(self._client.get(f"{PODS}/{name}"))

    def _gone(self, names: Sequence[str]) -> None:
        """Wait until they are, and a moment more: a node still cleans up behind a pod that a client sees no longer."""
        wait_for("the pods are gone", lambda: not any(map(self._exists, names)), WAIT_SECONDS)
        time.sleep(0.5)

    @contextmanager
    def _endpoint(self, node: Contender) -> Iterator[http.client.HTTPSConnection]:
        """A connection to a node's kubelet API, as the cluster's administrator."""
        status = self._client.get(f"/api/v1/nodes/{node.name}")["status"]
        (address,) = [item["address"] for item in status["addresses"] if item["type"] == "InternalIP"]
        port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # both may serve a self-signed one
        show = [*self._kubectl, "config", "view", "--raw", "--flatten", "-o", "json"]
        user = json.loads(subprocess.run(show, check=True, capture_output=True).stdout)["users"][0]["user"]
        with tempfile.NamedTemporaryFile() as pair:
            for key in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[key]) + b"\n")
            pair.flush()
            context.load_cert_chain(pair.name)
        connection = http.client.HTTPSConnection(address, port, timeout=60, context=context)
        try:
            yield connection
        finally:
            connection.close()

    def _timed(self, command: list[str]) -> float:
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return time.monotonic() - began
