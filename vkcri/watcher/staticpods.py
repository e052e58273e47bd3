"""Source `file` of topic `pods`: the static pods of a folder, or of one file, whatever becomes of the API server.

One thread, `static-pods`. It reads the whole folder at the start, at each hint of watchdog's and every REREAD_SECONDS
without one; what a file says is parsed again only when its bytes have changed. As the kubelet does it: names that begin
with a dot and folders are passed over, links are followed, of two files with one pod's name the later one in
alphabetical order counts, and a folder that is not there is an empty one. A file that cannot be used is said as a
notice and keeps the pod that it made before for BAD_SECONDS, since it may be half written; the others go on.
"""

import json
import logging
import stat
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from vkcri.api import pods as api
from vkcri.errors import Invalid
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
from vkcri.queue.notices import Notices
from vkcri.watcher import manifests

TOPIC, SOURCE = "pods", "file"
REREAD_SECONDS = 10.0
UNWATCHED_SECONDS = 1.0  # where there is no folder yet, or no watch to be had
SETTLE_SECONDS = 0.1  # from a hint to the reading: a file is seldom written by one call
BAD_SECONDS = 20.0  # the kubelet's fileCheckFrequency, after which it drops what it cannot read
log = logging.getLogger(__name__)
Pod = dict[str, Any]


class _File(NamedTuple):
    """What a file said last. data: None where it could not be read; pod: None where it never was one; bad_since: when
    it ceased to be one, and why."""

    data: bytes | None
    pod: Pod | None
    bad_since: float | None = None
    why: str = ""


class StaticPods:
    """The folder's pods. changed(full_name) is called for each that came, changed or went, on the folder's thread."""

    def __init__(
        self,
        publisher: Publisher,
        notices: Notices,
        path: Path,
        node_name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._notices = notices
        self._path = path
        self._node_name = node_name
        self._clock = clock
        self._lock = threading.Lock()
        self._files: dict[str, _File] = {}
        self._pods: dict[str, Pod] = {}  # by full name
        self._told: set[str] = set()
        self._hint = threading.Event()
        self._watch = _Watch(path, self._hint)
        self.changed: Callable[[str], object] = lambda _full_name: None

    def start(self, process: Process) -> None:
        process.on_stop(self._hint.set)
        process.start_thread("static-pods", lambda: self._run(process))

    def get(self, full_name: str) -> Pod | None:
        """The static pod of that NAMESPACE/NAME."""
        with self._lock:
            return self._pods.get(full_name)

    def names(self) -> list[str]:
        """The full names of all static pods."""
        with self._lock:
            return list(self._pods)

    def synced(self) -> bool:
        """Whether the folder was read whole, so that a static pod that is not here does not exist."""
        return self._publisher.synced(TOPIC, source=SOURCE)

    def _run(self, process: Process) -> None:
        try:
            while not process.stopping.is_set():
                self._hint.clear()
                with process.expect("the static pods' folder", 60) as waited:
                    watched = self._watched()
                    self.look(waited.refresh)
                if self._hint.wait(REREAD_SECONDS if watched else UNWATCHED_SECONDS):
                    process.wait(SETTLE_SECONDS)
        finally:
            self._watch.close()

    def _watched(self) -> bool:
        """Whether what is there now is watched; said where it should be and is not."""
        key = f"{self._path} (its watch)"
        try:
            watched = self._watch.follow()
        except OSError as error:
            self._say(key, f"static pods: no watch of {self._path}, it is read each second: {error}")
            return False
        self._hush(key)
        return watched

    def look(self, progress: Callable[[], object] = lambda: None) -> None:
        """Read what is there and publish it; progress() is called before each file. Where the folder itself cannot be
        read, all stays as it is."""
        try:
            listed = self._listed()
        except OSError as error:
            self._say(str(self._path), f"static pods: {self._path} cannot be read: {error.strerror}")
            return
        self._hush(str(self._path))
        for name in set(self._files) - {str(file) for file in listed}:
            del self._files[name]
            self._hush(name)
            self._hush(f"{name} (its UID)")
        for file in listed:
            progress()
            self._read(file)
        self._publish()

    def _listed(self) -> list[Path]:
        """The files to read, in the order in which the later one wins. Raises OSError."""
        try:
            mode = self._path.stat().st_mode
        except FileNotFoundError:
            return []
        if stat.S_ISREG(mode):
            return [self._path]
        return sorted(file for file in self._path.iterdir() if not file.name.startswith(".") and self._is_file(file))

    def _is_file(self, file: Path) -> bool:
        try:
            mode = file.stat().st_mode
        except OSError:
            return False  # it went meanwhile, or is a link to nowhere
        if not stat.S_ISREG(mode):
            log.debug("static pods: %s is no file and is passed over", file)
        return stat.S_ISREG(mode)

    def _read(self, file: Path) -> None:
        """What the file says now; the bytes of before are not parsed again, whether they are a pod or not."""
        name, held = str(file), self._files.get(str(file))
        data: bytes | None = None
        try:
            with file.open("rb") as stream:
                data = stream.read(manifests.MOST_BYTES + 1)
            if held is None or held.data != data:
                self._files[name] = _File(data, self._parsed(name, data))
            elif held.bad_since is not None:
                self._bad(name, held, data, held.why)
                return
            self._hush(name)
        except FileNotFoundError:
            self._files.pop(name, None)
            self._hush(name)
            self._hush(f"{name} (its UID)")
        except (OSError, Invalid) as error:
            self._bad(name, held, data, str(error))
        except Exception as error:
            log.exception("static pods: %s: a bug", name)
            self._bad(name, held, data, f"{type(error).__name__}: {error}")

    def _parsed(self, name: str, data: bytes) -> Pod:
        """The pod that these bytes are. Raises Invalid."""
        if len(data) > manifests.MOST_BYTES:
            raise Invalid(f"more than {manifests.MOST_BYTES} bytes")
        pod, warnings = manifests.read(data, name, self._node_name)
        for warning in warnings:
            log.warning("static pod %s: %s", api.full_name(pod), warning)
        self._publisher.check(TOPIC, api.uid(pod), _encoded(_seen(pod, None)), source=SOURCE)
        return pod

    def _bad(self, name: str, held: _File | None, data: bytes | None, why: str) -> None:
        """A file that is no manifest: said, and its pod of before goes on for a while."""
        since = self._clock() if held is None or held.bad_since is None else held.bad_since
        over = held is None or self._clock() - since >= BAD_SECONDS
        self._files[name] = _File(data, None if over or held is None else held.pod, since, why)
        self._say(name, f"static pods: {name} is not run: {why.removeprefix(f'{name}: ')}")

    def _publish(self) -> None:
        """Bring the topic to what the files say, each pod with the time at which it was first seen."""
        wanted = self._wanted()
        with self._lock:
            before = self._pods
            after = {name: _seen(pod, before.get(name)) for name, pod in wanted.items()}
        values = {api.uid(pod): _encoded(pod) for pod in after.values()}
        if after == before and self.synced():
            return  # nobody is woken for nothing
        self._publisher.replace(TOPIC, values, source=SOURCE)
        with self._lock:
            self._pods = after
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name), after.get(name)
            if old != new:
                uid = api.uid(new) if new is not None else "none any more"
                log.info("static pod %s: %s", name, uid)
                self.changed(name)

    def _wanted(self) -> dict[str, Pod]:
        """The files' pods by full name: of two of one name, and of two with one UID of their own, the later counts."""
        found = {name: held.pod for name, held in sorted(self._files.items()) if held.pod is not None}
        last_of_name = {api.full_name(pod): name for name, pod in found.items()}
        found = {name: pod for name, pod in found.items() if last_of_name[api.full_name(pod)] == name}
        last_of_uid = {api.uid(pod): name for name, pod in found.items()}
        for name in self._files:
            other = last_of_uid[api.uid(found[name])] if name in found else name
            if other != name:
                self._say(f"{name} (its UID)", f"static pods: {name} is not run: {other} has the same metadata.uid")
            else:
                self._hush(f"{name} (its UID)")
        return {api.full_name(pod): pod for name, pod in found.items() if last_of_uid[api.uid(pod)] == name}

    def _say(self, key: str, message: str) -> None:
        self._told.add(key)
        self._notices.put(f"static:{key}", message)

    def _hush(self, key: str) -> None:
        if key in self._told:
            self._told.discard(key)
            self._notices.clear(f"static:{key}")


class _Watch:
    """watchdog's watch of the folder (or the file), set anew where another has taken its place."""

    def __init__(self, path: Path, hint: threading.Event) -> None:
        self._path = path
        self._hint = hint
        self._observer: BaseObserver | None = None
        self._of: tuple[int, int] | None = None

    def follow(self) -> bool:
        """Watch what is there now. Whether there is a watch; raises OSError where there is something and it cannot be
        watched."""
        try:
            found = self._path.stat()
        except OSError:
            self.close()
            return False
        if self._of == (found.st_dev, found.st_ino) and self._observer is not None and self._observer.is_alive():
            return True
        self.close()
        observer = Observer()
        observer.schedule(_Hinter(self._hint), str(self._path), follow_symlink=True)
        observer.start()
        self._observer = observer
        self._of = (found.st_dev, found.st_ino)
        return True

    def close(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join()


class _Hinter(FileSystemEventHandler):
    """Any event but our own reading is a hint."""

    def __init__(self, hint: threading.Event) -> None:
        self._hint = hint

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in ("opened", "closed_no_write"):
            self._hint.set()


def _encoded(pod: Pod) -> bytes:
    return json.dumps(pod, separators=(",", ":")).encode()


def _seen(pod: Pod, before: Pod | None) -> Pod:
    """The pod with config.seen, the time of before where it is the same pod."""
    if before is not None and api.uid(before) == api.uid(pod):
        stamp = api.annotations(before)[manifests.SEEN_ANNOTATION]
    else:
        stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    annotations = {**api.annotations(pod), manifests.SEEN_ANNOTATION: stamp}
    return {**pod, "metadata": {**pod["metadata"], "annotations": annotations}}
