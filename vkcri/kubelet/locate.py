"""Which file holds a container's log, and whether there can be one: the kubelet's checks in the kubelet's words.

Runs on a request's thread. The provider knows the path; while it is away the file is looked for where a provider puts
it (Instance.pod_logs_dir), so that logs stay readable when cri-bridge is down. A container's path is asked for once: it
never changes, and which container is meant the pod's status says, as it does for the kubelet.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vkcri.errors import Invalid, NotFound, Unavailable
from vkcri.instance import Instance
from vkcri.kubelet import logs
from vkcri.kubelet.follow import FolderWatches, follow
from vkcri.kubelet.pods import Pod, Pods
from vkcri.queue import request

PROVIDER_SECONDS = 5.0
KNOWN_PATHS = 4096  # beyond which all are forgotten and asked for anew
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_WAITING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


@dataclass(frozen=True)
class LogFile:
    """A container's log. `container_id` is empty where nobody could say it."""

    path: Path
    uid: str
    container: str
    container_id: str
    running: bool


class ContainerLogs:
    """Logs of this node's containers. Thread-safe."""

    def __init__(self, instance: Instance, pods: Pods, watches: FolderWatches) -> None:
        self._instance = instance
        self._pods = pods
        self._watches = watches
        self._known: dict[tuple[str, str, str], Path] = {}  # by the pod's UID, the container's name and its id

    def open(
        self, namespace: str, name: str, container: str, options: logs.Options, stop: Callable[[], bool]
    ) -> logs.Blocks:
        """The log as blocks of text, found and opened before the first. Raises NotFound, Invalid, with the kubelet's
        message."""
        file = self.locate(namespace, name, container, previous=options.previous)
        if not options.follow:
            return logs.read(file.path, options)
        return self._follow(file, options, stop)

    def _follow(self, file: LogFile, options: logs.Options, stop: Callable[[], bool]) -> logs.Blocks:
        with ExitStack() as stack:
            hint = stack.enter_context(self._watches.hints(file.path.parent))
            stack.enter_context(self._pods.waking(file.uid, hint))
            blocks = follow(file.path, options, hint, running=lambda: self._running(file), stop=stop)
            stack.callback(blocks.close)
            return logs.Blocks(blocks, stack.pop_all().close)

    def _running(self, file: LogFile) -> bool:
        """Whether the container may still write; in doubt it may. Asks the provider where its status is behind."""
        said = self._pods.running(file.uid, file.container, file.container_id)
        if said is not None or not self._pods.statuses.connected:
            return said is not False
        pod = self._pods.get(file.uid)
        if pod is None:
            return False
        try:
            now = self._ask(pod, file.container, previous=False)
        except Unavailable:
            return True
        except (NotFound, Invalid):
            return False
        return now.container_id == file.container_id and now.running

    def locate(self, namespace: str, name: str, container: str, *, previous: bool) -> LogFile:
        """The file of a container's newest log, or of the one before. Raises NotFound, Invalid."""
        pod = self._pods.find(namespace, name)
        if pod is None:
            if self._pods.known() or not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
                raise NotFound(f'pod "{name}" does not exist')
            return self._search(namespace, name, "*", container, previous=previous)
        if container not in pod.containers():
            raise NotFound(f'container "{container}" not found in pod "{name}"')
        container_id = log_container(pod, container, previous=previous)
        path = self._known.get((pod.uid, container, _bare(container_id)))
        if path is not None and path.exists():
            running = not previous and "running" in ((pod.container_status(container) or {}).get("state") or {})
            return LogFile(path, pod.uid, container, container_id, running)
        try:
            file = self._ask(pod, container, previous=previous)
        except Unavailable:
            file = self._search(pod.namespace, pod.name, pod.uid, container, previous=previous)
            return replace(file, container_id=container_id)
        if len(self._known) >= KNOWN_PATHS:
            self._known.clear()
        self._known[pod.uid, container, _bare(file.container_id)] = file.path
        return file

    def _ask(self, pod: Pod, container: str, *, previous: bool) -> LogFile:
        body = {"namespace": pod.namespace, "pod": pod.name, "container": container, "previous": previous}
        answer = request(self._instance.queue_socket("provider"), "log-path", body, timeout=PROVIDER_SECONDS)
        try:
            path, container_id, running = Path(answer["path"]), str(answer["containerID"]), bool(answer["running"])
        except (KeyError, TypeError) as error:
            raise Unavailable(f"log-path: the provider's answer is not understood: {error!r}") from error
        return LogFile(path, pod.uid, container, container_id, running)

    def _search(self, namespace: str, name: str, uid: str, container: str, *, previous: bool) -> LogFile:
        """Look where providers put logs: <namespace>_<pod>_<uid>/<container>/<restart count>.log."""
        if not _NAME.fullmatch(container):
            raise NotFound(f'container "{container}" not found in pod "{name}"')
        folders = self._instance.pod_logs_dir.glob(f"{namespace}_{name}_{uid}/{container}")
        stamped = sorted((folder.stat().st_mtime_ns, folder) for folder in folders)
        if stamped:
            folder = stamped[-1][1]
            numbers = sorted(int(item.stem) for item in folder.glob("*.log") if item.stem.isdecimal())
            if len(numbers) > previous:
                found_uid = folder.parent.name.rpartition("_")[2]
                return LogFile(folder / f"{numbers[-1 - previous]}.log", found_uid, container, "", not previous)
        raise NotFound(f'no log of container "{container}" in pod "{name}" on this node')


def _bare(container_id: str) -> str:
    """Without the runtime's scheme."""
    return container_id.rpartition("/")[2]


def log_container(pod: Pod, container: str, *, previous: bool) -> str:
    """The ID of the container whose log is wanted. Raises Invalid in the kubelet's words where there is none yet."""
    status = pod.container_status(container)
    if status is None:
        raise Invalid(f'container "{container}" in pod "{pod.name}" is not available')
    state = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated") or {}
    where = f'container "{container}" in pod "{pod.name}"'
    if previous:
        if not last.get("containerID"):
            raise Invalid(f"previous terminated {where} not found")
        return str(last["containerID"])
    if "running" in state:
        return str(status.get("containerID") or "")
    if "terminated" in state or last:
        found = (state.get("terminated") or {}).get("containerID") or last.get("containerID")
        if not found:
            raise Invalid(f"{where} is terminated")
        return str(found)
    raise Invalid(f"{where} is waiting to start{_why(state)}")


def _why(state: dict[str, Any]) -> str:
    if "waiting" not in state:
        return " - no logs yet"
    reason = str((state["waiting"] or {}).get("reason") or "")
    return f": {_WAITING.get(reason, reason)}"
