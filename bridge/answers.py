"""The requests that the provider answers: streaming URLs of exec, attach and port-forward, and where a log lies.

Each runs on its connection's own thread (vkcri.queue) with the seconds that the asker has left. Everything is asked of
CRI anew, and no more of that one pod than the answer wants; nothing is remembered.
"""

import base64
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bridge.observe import Container, container_of
from bridge.pb.runtime.v1 import api_pb2
from bridge.roster import Roster
from bridge.runtime import Runtime
from bridge.spec import names
from bridge.worker import Worker
from vkcri.api import pods
from vkcri.errors import Conflict, Invalid, NotFound, Refused
from vkcri.queue import Publisher

Body = Mapping[str, Any]


class Answers:
    """serve() registers all of them."""

    def __init__(self, runtime: Runtime, roster: Roster, cri_label: str) -> None:
        self._runtime = runtime
        self._roster = roster
        self._cri_label = cri_label

    def serve(self, publisher: Publisher) -> None:
        publisher.serve("exec", self.exec)
        publisher.serve("attach", self.attach)
        publisher.serve("port-forward", self.port_forward)
        publisher.serve("log-path", self.log_path)
        publisher.serve("run", self.run)
        publisher.serve("checkpoint", self.checkpoint)

    def exec(self, body: Body, seconds: float) -> dict[str, str]:
        """{"url"} that serves one exec session. Raises NotFound, Invalid."""
        request = api_pb2.ExecRequest(
            container_id=self._running(body),
            cmd=[str(part) for part in body.get("command") or []],
            tty=bool(body.get("tty")),
            stdin=bool(body.get("stdin")),
            stdout=bool(body.get("stdout")),
            stderr=bool(body.get("stderr")) and not body.get("tty"),
        )
        if not request.cmd:
            raise Invalid("you must specify at least 1 command for the container")
        return {"url": _absolute(self._runtime.exec(request, seconds=seconds).url)}

    def attach(self, body: Body, seconds: float) -> dict[str, str]:
        """{"url"} that serves one attach session. Raises NotFound, Invalid."""
        request = api_pb2.AttachRequest(
            container_id=self._running(body),
            tty=bool(body.get("tty")),
            stdin=bool(body.get("stdin")),
            stdout=bool(body.get("stdout")),
            stderr=bool(body.get("stderr")) and not body.get("tty"),
        )
        return {"url": _absolute(self._runtime.attach(request, seconds=seconds).url)}

    def port_forward(self, body: Body, seconds: float) -> dict[str, str]:
        """{"url"} that serves one port-forward session. Raises NotFound, Conflict."""
        worker = self._worker(body)
        ready = api_pb2.PodSandboxStateValue(state=api_pb2.SANDBOX_READY)
        wanted = api_pb2.PodSandboxFilter(label_selector=self._labels(worker), state=ready)
        sandboxes = self._runtime.list_pod_sandbox(api_pb2.ListPodSandboxRequest(filter=wanted)).items
        if not sandboxes:
            raise Conflict(f"pod {worker.name} has no sandbox that runs")
        sandbox = max(sandboxes, key=lambda item: (item.created_at, item.metadata.attempt))
        request = api_pb2.PortForwardRequest(
            pod_sandbox_id=sandbox.id, port=[int(port) for port in body.get("ports") or []]
        )
        return {"url": _absolute(self._runtime.port_forward(request, seconds=seconds).url)}

    def run(self, body: Body, seconds: float) -> dict[str, str]:
        """{"output"}: what a command printed to both streams, in base64. Raises NotFound, Invalid with the kubelet's
        message for one that fails."""
        command = [str(part) for part in body.get("command") or []]
        request = api_pb2.ExecSyncRequest(container_id=self._running(body), cmd=command)
        answer = self._runtime.exec_sync(request, seconds=seconds)
        output = answer.stdout + answer.stderr
        if answer.exit_code:
            words = output.decode(errors="replace")
            raise Invalid(f"command '{' '.join(command)}' exited with {answer.exit_code}: {words}")
        return {"output": base64.b64encode(output).decode()}

    def checkpoint(self, body: Body, seconds: float) -> dict[str, str]:
        """{"location"}: where the container's state was written. Raises NotFound, Refused in gRPC's words where the
        runtime has no checkpoints."""
        del seconds
        location = Path(str(body["location"]))
        request = api_pb2.CheckpointContainerRequest(
            container_id=self._running(body), location=str(location), timeout=int(body.get("timeout") or 0)
        )
        location.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._runtime.checkpoint_container(request)
        except Refused as error:
            raise Refused(f"rpc error: code = Unimplemented desc = {error}") from error
        return {"location": str(location)}

    def log_path(self, body: Body, seconds: float) -> dict[str, Any]:
        """{"path", "containerID", "running"} of a container's newest run, or of the one before. Raises NotFound,
        Invalid with the kubelet's messages."""
        del seconds
        namespace, name, container = (str(body.get(key) or "") for key in ("namespace", "pod", "container"))
        worker = self._roster.find(namespace, name)
        if worker is None:
            raise NotFound(f'pod "{name}" not found')
        if pods.container(worker.pod, container) is None:
            raise NotFound(f'container "{container}" not found in pod "{name}"')
        runs = self._runs(worker, container)
        newest = next(runs, None)
        if body.get("previous"):
            if newest is not None and newest.state == "exited" and _restarting(worker, container):
                return _log(newest)
            before = next(runs, None)
            if before is None:
                raise Invalid(f'previous terminated container "{container}" in pod "{name}" not found')
            return _log(before)
        if newest is None:
            raise Invalid(_waiting_message(worker, container, name))
        return _log(newest)

    def _worker(self, body: Body) -> Worker:
        worker = self._roster.worker(str(body.get("uid") or ""))
        if worker is None:
            raise NotFound("pod not found")
        return worker

    def _labels(self, worker: Worker) -> dict[str, str]:
        return {names.POD_UID: worker.uid, names.INSTANCE: self._cri_label}

    def _listed(self, worker: Worker, name: str, **state: Any) -> list[api_pb2.Container]:
        """The containers of that name, newest first."""
        wanted = api_pb2.ContainerFilter(label_selector=self._labels(worker), **state)
        items = self._runtime.list_containers(api_pb2.ListContainersRequest(filter=wanted)).containers
        found = [item for item in items if (item.labels.get(names.CONTAINER_NAME) or item.metadata.name) == name]
        return sorted(found, key=lambda item: (item.created_at, item.metadata.attempt), reverse=True)

    def _runs(self, worker: Worker, name: str) -> Iterator[Container]:
        """Those that have been started, newest first; each is asked for as it is wanted."""
        for item in self._listed(worker, name):
            try:
                answer = self._runtime.container_status(api_pb2.ContainerStatusRequest(container_id=item.id))
            except NotFound:
                continue
            found = container_of(answer.status, item.pod_sandbox_id)
            if found.state != "created":
                yield found

    def _running(self, body: Body) -> str:
        """The id of the container that runs under that name."""
        worker, name = self._worker(body), str(body.get("container") or "")
        running = self._listed(worker, name, state=api_pb2.ContainerStateValue(state=api_pb2.CONTAINER_RUNNING))
        if not running:
            raise NotFound(f'container not found ("{name}")')
        return running[0].id


def _log(run: Container) -> dict[str, Any]:
    return {"path": run.log_path, "containerID": f"containerd://{run.id}", "running": run.state == "running"}


def _status(worker: Worker, container: str) -> Mapping[str, Any]:
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for item in worker.status.get(field) or []:
            if item["name"] == container:
                return dict(item)
    return {}


def _restarting(worker: Worker, container: str) -> bool:
    """Whether the newest run is shown as lastState: the container waits for its next one."""
    status = _status(worker, container)
    return "waiting" in (status.get("state") or {}) and "terminated" in (status.get("lastState") or {})


def _waiting_message(worker: Worker, container: str, name: str) -> str:
    """Why there is no log, in the kubelet's words."""
    reason = ((_status(worker, container).get("state") or {}).get("waiting") or {}).get("reason") or ""
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        what = "trying and failing to pull image" if reason == "ImagePullBackOff" else "image can't be pulled"
        return f'container "{container}" in pod "{name}" is waiting to start: {what}'
    return f'container "{container}" in pod "{name}" is waiting to start: {reason or "not started yet"}'


def _absolute(url: str) -> str:
    """The runtime's URL; one without a host is at the runtime on this machine."""
    parsed = urllib.parse.urlsplit(url)
    if not parsed.scheme or not parsed.hostname:
        raise Invalid(f"the runtime gave no streaming URL: {url!r}")
    return url
