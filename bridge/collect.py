"""What nobody needs any more: old dead containers and sandboxes, log folders, volumes and cgroups of pods that are
gone.

One thread, `collect`, every minute. It removes only what carries our label, lies below our own folders and, for pods as
a whole, only once `pods` is synced for every source: a UID that is unknown then belongs to nobody. Rules: the
kubelet's, one dead container for each container of a pod, and a dead sandbox only where a newer one has taken its
place.

The thread `eviction` has it done at once where the node is short of disk; one at a time does. What lies on the disk is
listed first and who is known is asked afterwards, again before each removal, since that may take minutes: a pod that
comes meanwhile keeps what it has.
"""

import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.cgroups import Cgroups
from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Box, Relist
from bridge.roster import Roster
from bridge.runtime import Runtime
from bridge.volumes import Volumes
from vkcri.errors import VkcriError
from vkcri.lifecycle import Process, held

PERIOD = 60.0
STEP_SECONDS = 600.0  # for what is removed by one call; a round takes as long as there is something to remove
_LOG_FOLDER = re.compile(r"(?P<namespace>[a-z0-9-]+)_(?P<name>[a-z0-9.-]+)_(?P<uid>[A-Za-z0-9][A-Za-z0-9.-]*)")
log = logging.getLogger(__name__)


class Collector:
    """Removes what is left over. removed(id): a container or sandbox is gone."""

    def __init__(
        self,
        runtime: Runtime,
        relist: Relist,
        roster: Roster,
        volumes: Volumes,
        cgroups: Cgroups,
        logs: Path,
        removed: Callable[[str], object],
    ) -> None:
        self._runtime = runtime
        self._relist = relist
        self._roster = roster
        self._volumes = volumes
        self._cgroups = cgroups
        self._logs = logs
        self._removed = removed
        self._lock = threading.Lock()

    def start(self, process: Process) -> None:
        def loop() -> None:
            while not process.wait(PERIOD):
                with process.expect("a step of garbage collection", STEP_SECONDS) as expectation:
                    self.collect(expectation.refresh)

        process.start_thread("collect", loop)

    def collect(self, progress: Callable[[], object] = lambda: None) -> None:
        """One round; progress() is called for all that is gone."""
        with held(self._lock, progress):
            self._collect(progress)

    def delete_unused(self, progress: Callable[[], object] = lambda: None) -> None:
        """Of pods that have ended, the containers and their logs, too: the node is short of disk
        (DeleteAllUnusedContainers). progress() as collect's."""
        with held(self._lock, progress):
            self._collect(progress)
            for uid, boxes in self._relist.listing.items():
                worker = self._roster.worker(uid)
                if worker is not None and worker.over:
                    for box in sorted(boxes, key=lambda box: box.is_sandbox):
                        self._remove(box)
                        progress()

    def _collect(self, progress: Callable[[], object]) -> None:
        if self._relist.relisted is None:
            return
        for boxes in self._relist.listing.values():
            for box in surplus(boxes):
                self._remove(box)
                progress()
        self._remove_strays(progress)

    def _is_stray(self, uid: str) -> bool:
        """Whether nobody has that pod, as of now."""
        return self._roster.complete() and uid not in self._roster.known() and uid not in self._relist.listing

    def _remove(self, box: Box) -> None:
        try:
            if box.is_sandbox:
                self._runtime.remove_pod_sandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=box.id))
                self._removed(box.id)
                return
            status = self._runtime.container_status(api_pb2.ContainerStatusRequest(container_id=box.id)).status
            self._runtime.remove_container(api_pb2.RemoveContainerRequest(container_id=box.id))
            self._removed(box.id)
            path = Path(status.log_path)
            if status.log_path and path.is_relative_to(self._logs):
                for file in path.parent.glob(f"{path.name}*"):
                    file.unlink(missing_ok=True)
        except (VkcriError, OSError) as error:
            log.info("%s %s is left over and stays: %s", "sandbox" if box.is_sandbox else "container", box.id, error)

    def _remove_strays(self, progress: Callable[[], object]) -> None:
        """Files, mounts and cgroups of pods that are neither wanted nor in CRI."""
        if not self._roster.complete():
            return
        for uid in sorted({*self._volumes.known(), *self._cgroups.known()}):
            if not self._is_stray(uid):
                continue
            log.info("pod %s is gone: removing its volumes and cgroup", uid)
            try:
                self._volumes.teardown(uid, progress)
                self._cgroups.remove_pod(uid)
            except VkcriError as error:
                log.warning("volumes or cgroup of pod %s stay: %s", uid, error)
        for uid, folder in log_folders(self._logs):
            if self._is_stray(uid):
                shutil.rmtree(folder, ignore_errors=True)  # of the runtime's files, no more than a pod has logs
                progress()


def surplus(boxes: Iterable[Box]) -> list[Box]:
    """The containers and sandboxes of one pod that may go, containers first. Pure."""
    listed = sorted(boxes, key=lambda box: box.created_at, reverse=True)
    found: list[Box] = []
    dead: set[str] = set()
    for box in listed:
        if not box.is_sandbox and box.state == api_pb2.CONTAINER_EXITED:
            if box.name in dead:
                found.append(box)
            dead.add(box.name)
    used = {box.sandbox_id for box in listed if not box.is_sandbox}
    sandboxes = [box for box in listed if box.is_sandbox]
    old = [box for box in sandboxes[1:] if box.state == api_pb2.SANDBOX_NOTREADY and box.id not in used]
    return found + old


def log_folders(root: Path) -> list[tuple[str, Path]]:
    """(UID, folder) of the pods' log folders below root."""
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return []  # no pod has logged anything yet
    found = []
    for entry in entries:
        match = _LOG_FOLDER.fullmatch(entry.name)
        if match and entry.is_dir() and not entry.is_symlink():
            found.append((match["uid"], entry))
    return found
