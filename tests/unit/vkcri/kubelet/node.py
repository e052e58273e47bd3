"""A node for log-server's tests: the real program on an instance of its own, with the two owners it talks to played by
real Publishers with prepared data."""

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

from tests.instances import claimed
from tests.waiting import PATIENCE, until
from vkcri import certs
from vkcri.config import KubeletSettings
from vkcri.errors import Invalid, NotFound, Refused, VkcriError
from vkcri.kubelet import main
from vkcri.lifecycle import Process, make_folders
from vkcri.queue import Publisher

TOKENS = {"admin-token": "admin", "scraper-token": "scraper", "pod-token": "system:serviceaccount:default:default"}
ALLOWED = {
    "admin": {"proxy", "pods", "metrics", "stats", "log", "healthz", "configz", "checkpoint", "statusz"},
    "scraper": {"metrics", "healthz"},
}


class Node:
    """One log-server and its neighbours."""

    def __init__(self) -> None:
        self._claim = contextlib.ExitStack()
        self.instance = self._claim.enter_context(claimed("logsrv"))
        self.remove()
        make_folders(self.instance)
        self.settings = KubeletSettings(instance=self.instance, node_name="n1", pod_ip="127.0.0.1")
        self.authority = certs.CertificateAuthority.create("cluster-ca")
        self.reviews: list[tuple[str, dict[str, Any]]] = []
        self.log_paths: dict[tuple[str, str, str, bool], dict[str, Any] | VkcriError] = {}
        self.answers: dict[str, Any] = {}  # of the provider, by request: what it gives, or raises
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.stream_url = ""
        self.stream_requests: list[tuple[str, dict[str, Any]]] = []
        self.errors: list[int] = []
        self._neighbours: dict[str, tuple[Process, Publisher]] = {}
        self.process = Process("log-server", self.instance, end=self.errors.append)
        self.thread: threading.Thread | None = None

    # The neighbours

    def start_watcher(self, *, synced: bool = True) -> Publisher:
        watcher = Publisher(self.instance.queue_socket("watcher"), ("pods",), sources={"pods": ("api", "file")})
        watcher.serve("client-ca", lambda _body, _left: {"pem": self.authority.certificate.decode()})
        watcher.serve("token-review", self._review_token)
        watcher.serve("access-review", self._review_access)
        watcher.set_metrics(lambda: "# TYPE watches gauge\nwatches 3\n")
        if synced:
            watcher.mark_synced("pods", source="api")
        return self._start("watcher", watcher)

    def start_provider(self) -> Publisher:
        provider = Publisher(self.instance.queue_socket("provider"), ("pod-status", "node-status", "events"))
        provider.serve("log-path", self._log_path)
        for name in ("stats", "container-metrics", "running-pods", "run", "checkpoint", "configz", "usage"):
            provider.serve(name, lambda body, _left, name=name: self._answer(name, body))  # type: ignore[misc]
        for name in ("exec", "attach", "port-forward"):
            provider.serve(name, lambda body, _left, name=name: self._stream(name, body))  # type: ignore[misc]
        provider.mark_synced("pod-status")
        return self._start("provider", provider)

    def stop_neighbour(self, role: str) -> None:
        process, _ = self._neighbours.pop(role)
        process.drain()

    def _start(self, role: str, publisher: Publisher) -> Publisher:
        process = Process(role, self.instance, end=self.errors.append)
        publisher.start(process)
        self._neighbours[role] = (process, publisher)
        return publisher

    def publisher(self, role: str) -> Publisher:
        return self._neighbours[role][1]

    def _review_token(self, body: dict[str, Any], left: float) -> dict[str, Any]:
        del left
        self.reviews.append(("token", body))
        name = TOKENS.get(body["token"])
        return {"authenticated": bool(name), "user": {"username": name, "groups": ["g"]}} if name else {}

    def _review_access(self, body: dict[str, Any], left: float) -> dict[str, Any]:
        del left
        self.reviews.append(("access", body))
        attributes = body["resourceAttributes"]
        good = attributes["resource"] == "nodes" and attributes["name"] == "n1" and attributes["group"] == ""
        return {"allowed": good and attributes["subresource"] in ALLOWED.get(body["user"], set()), "denied": False}

    def _log_path(self, body: dict[str, Any], left: float) -> dict[str, Any]:
        del left
        answer = self.log_paths.get((body["namespace"], body["pod"], body["container"], body["previous"]))
        if answer is None:
            raise NotFound("no such log")
        if isinstance(answer, VkcriError):
            raise answer
        return answer

    def _answer(self, name: str, body: dict[str, Any]) -> Any:
        self.asked.append((name, body))
        found = self.answers.get(name, Refused(f"no {name} here"))
        if isinstance(found, VkcriError):
            raise found
        return found

    def _stream(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        self.stream_requests.append((name, body))
        if not self.stream_url:
            raise Invalid("nothing to stream to")
        return {"url": self.stream_url}

    # Pods

    def put_pod(self, name: str, *containers: str, uid: str = "", namespace: str = "default") -> str:
        uid = uid or f"uid-{name}"
        spec = {"containers": [{"name": container} for container in containers or ("main",)]}
        metadata = {"name": name, "namespace": namespace, "uid": uid, "creationTimestamp": "2026-11-23T10:00:00Z"}
        value = json.dumps({"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}).encode()
        self.publisher("watcher").put("pods", uid, value, source="api")
        return uid

    def put_status(self, name: str, statuses: list[dict[str, Any]], *, uid: str = "", phase: str = "Running") -> None:
        uid = uid or f"uid-{name}"
        status = {"phase": phase, "containerStatuses": statuses}
        value = {"namespace": "default", "name": name, "uid": uid, "status": status, "finished": False}
        self.publisher("provider").put("pod-status", uid, json.dumps(value).encode())

    def log_file(self, name: str, container: str = "main", number: int = 0) -> Path:
        folder = self.instance.pod_logs_dir / f"default_{name}_uid-{name}" / container
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{number}.log"

    def run_pod(self, name: str, log: bytes = b"", container: str = "main") -> Path:
        """A pod with one running container and its log."""
        self.put_pod(name, container)
        path = self.log_file(name, container)
        path.write_bytes(log)
        self.log_paths["default", name, container, False] = {"path": str(path), "containerID": "c1", "running": True}
        self.put_status(name, [running(container)])
        until(lambda: "running" in self.states(name))
        return path

    def until_known(self, name: str) -> None:
        """Until log-server has a pod, with its status or without."""
        until(lambda: bool(self.states(name)))

    def states(self, name: str) -> list[str]:
        """The states of a pod's containers, as log-server knows them."""
        return [item["state"] for pod in self.people_pods() if pod["name"] == name for item in pod["containers"]]

    # The program

    def start(self) -> None:
        def body() -> None:
            main.run(self.process, self.settings)

        self.thread = threading.Thread(target=body, daemon=True)
        self.thread.start()
        until(lambda: self.listens(self.settings.log_api_port))

    @staticmethod
    def listens(port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def close(self) -> None:
        self.process.drain()
        if self.thread is not None:
            self.thread.join(PATIENCE)
            assert not self.thread.is_alive()
        for role in list(self._neighbours):
            self.stop_neighbour(role)
        self.release()
        assert self.errors == []

    def release(self) -> None:
        """Remove the folders and let others have the instance."""
        self.remove()
        self._claim.close()

    def remove(self) -> None:
        for folder in (self.instance.run_dir, self.instance.state_dir, self.instance.log_dir):
            shutil.rmtree(folder, ignore_errors=True)

    # Clients

    def trust(self, certificate: tuple[bytes, bytes] | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.instance.certificates_dir / "kubelet.crt")
        if certificate is not None:
            path = self.instance.state_dir / "client.pem"
            path.write_bytes(b"".join(certificate))
            context.load_cert_chain(path)
        return context

    def kubelet(self, context: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost", self.settings.kubelet_port, timeout=PATIENCE, context=context or self.trust()
        )

    def get(
        self, path: str, token: str = "admin-token", method: str = "GET", context: ssl.SSLContext | None = None
    ) -> tuple[int, str]:
        """The kubelet API's answer."""
        client = self.kubelet(context)
        try:
            value = token if " " in token else f"Bearer {token}"
            client.request(method, path, headers={"Authorization": value} if token else {})
            response = client.getresponse()
            return response.status, response.read().decode()
        finally:
            client.close()

    def people(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", seconds: float = PATIENCE
    ) -> http.client.HTTPResponse:
        """The log API's answer; the caller reads it."""
        client = http.client.HTTPConnection("127.0.0.1", self.settings.log_api_port, timeout=seconds)
        try:
            client.request(
                method, path, headers={"Connection": "close", **(self.bearer if headers is None else headers)}
            )
            return client.getresponse()
        finally:
            client.close()

    def people_pods(self) -> list[dict[str, Any]]:
        with self.people("/pods") as response:
            return json.load(response)  # type: ignore[no-any-return]

    @property
    def token(self) -> str:
        return self.instance.log_api_token_file.read_text().strip()

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


def running(name: str = "main", container_id: str = "containerd://c1", **more: Any) -> dict[str, Any]:
    state = {"running": {"startedAt": "2026-11-23T10:00:00Z"}}
    return {"name": name, "containerID": container_id, "ready": True, "restartCount": 0, "state": state, **more}


def terminated(name: str = "main", container_id: str = "containerd://c1", **more: Any) -> dict[str, Any]:
    state = {"terminated": {"exitCode": 0, "reason": "Completed", "containerID": container_id}}
    return {"name": name, "containerID": container_id, "ready": False, "restartCount": 0, "state": state, **more}


def waiting(reason: str, name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason}}, **more}
