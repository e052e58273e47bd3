"""The thread `log-rotation`: container logs that grew too large are rotated, older ones compressed, the oldest removed.

As the kubelet's container_log_manager.go: N.log becomes N.log.TIME, and the runtime makes N.log anew; the newest
rotated file stays as it is, so that who reads it can finish; those before it become N.log.TIME.gz. Only logs of
containers that run are rotated: no other grows. What is left of a rotation that broke off is cleaned up by the next.
"""

import gzip
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bridge.pb.runtime.v1 import api_pb2
from bridge.runtime import Runtime
from vkcri.errors import VkcriError
from vkcri.lifecycle import Process

PERIOD = 10.0
STEP_SECONDS = 600.0  # for one log's next piece; a round takes as long as the logs are large
PIECE = 256 * 1024
_GZ, _TMP = ".gz", ".tmp"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tidying:
    """What becomes of a log's rotated files, by name, before the next one joins them."""

    remove: tuple[str, ...]
    compress: tuple[str, ...]


def tidying(rotated: Iterable[str], most: int) -> Tidying:
    """rotated: the names N.log.*; most: how many files a log may have, the current one and the one to come included.
    Pure."""
    names = sorted(rotated)
    unused = [name for name in names if name.endswith(_TMP) or f"{name}{_GZ}" in names]
    kept = [name for name in names if name not in unused]
    surplus = kept[: max(0, len(kept) - max(0, most - 2))]
    kept = kept[len(surplus) :]
    return Tidying((*unused, *surplus), tuple(name for name in kept if not name.endswith(_GZ)))


class LogRotation:
    """running(): (container id, log path) of every container that runs. most_bytes: a log of that size is rotated, a
    negative number turns rotation off; most_files: files a log may have."""

    def __init__(
        self,
        runtime: Runtime,
        running: Callable[[], Iterable[tuple[str, str]]],
        *,
        most_bytes: int,
        most_files: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._runtime = runtime
        self._running = running
        self._most_bytes = most_bytes
        self._most_files = most_files
        self._now = now

    def start(self, process: Process) -> None:
        if self._most_bytes < 0:
            return

        def loop() -> None:
            while not process.wait(PERIOD):
                with process.expect("a step of log rotation", STEP_SECONDS) as expectation:
                    self.look(expectation.refresh)

        process.start_thread("log-rotation", loop)

    def look(self, progress: Callable[[], object] = lambda: None) -> None:
        """One round over all logs; progress() is called for each, and for each piece that is packed."""
        for container_id, path in list(self._running()):
            progress()
            if path:
                try:
                    self._look_at(container_id, Path(path), progress)
                except (OSError, VkcriError) as error:
                    log.warning("the log of container %s is not rotated: %s", container_id, error)

    def _look_at(self, container_id: str, path: Path, progress: Callable[[], object]) -> None:
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            self._reopen(container_id)  # a rotation broke off, or somebody removed the file: the runtime makes it anew
            return
        if size >= self._most_bytes:
            self.rotate(container_id, path, progress)

    def rotate(self, container_id: str, path: Path, progress: Callable[[], object] = lambda: None) -> None:
        """Rotate that log now. Raises OSError, Unavailable: then the log is where it was."""
        found = tidying((item.name for item in path.parent.glob(f"{path.name}.*")), self._most_files)
        for name in found.remove:
            path.with_name(name).unlink(missing_ok=True)
        for name in found.compress:
            compress(path.with_name(name), progress)
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self._now()))
        rotated = path.with_name(f"{path.name}.{stamp}")
        if rotated.exists():
            return  # the clock went back, or this second has one: the next round rotates it
        path.rename(rotated)
        try:
            self._reopen(container_id)
        except VkcriError:
            if not path.exists():
                rotated.rename(path)
            raise

    def _reopen(self, container_id: str) -> None:
        self._runtime.reopen_container_log(api_pb2.ReopenContainerLogRequest(container_id=container_id))


def compress(path: Path, progress: Callable[[], object]) -> None:
    """PATH becomes PATH.gz, which appears whole; progress() is called for each piece. Raises OSError."""
    scratch = path.with_name(f"{path.name}{_TMP}")
    try:
        with path.open("rb") as source, scratch.open("wb") as target:
            os.fchmod(target.fileno(), path.stat().st_mode & 0o777)
            with gzip.GzipFile(path.name, "wb", 6, target) as packed:
                while piece := source.read(PIECE):
                    packed.write(piece)
                    progress()
        scratch.rename(path.with_name(f"{path.name}{_GZ}"))
    finally:
        scratch.unlink(missing_ok=True)
    path.unlink()
