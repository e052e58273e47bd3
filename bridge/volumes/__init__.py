"""Volumes of pods on this guest: set up, kept fresh, taken away. One folder a pod: <volumes_dir>/<uid>/<plugin>/<name>.

Called by pods' workers, one at a time for each pod, many pods at once. State is the disk and the mount table; memory
holds only caches, so that a restarted bridge goes on where it was.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from bridge.spec import names
from bridge.spec.context import ContainerFiles, NotHeardOf, Objects, PodContext, Prepared
from bridge.volumes import (
    atomic,
    configmap,
    downward,
    emptydir,
    files,
    hostpath,
    mounting,
    ownership,
    projected,
    removal,
    secret,
)
from bridge.volumes.source import NotReady, Surroundings, Tokens, frozen
from bridge.volumes.tokens import TokenCache
from vkcri.api import pods
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, Unavailable, VkcriError

__all__ = ["NotReady", "Volumes"]

_PROJECTED: dict[str, ModuleType] = {
    "configMap": configmap,
    "secret": secret,
    "downwardAPI": downward,
    "projected": projected,
}
_PLAIN: dict[str, ModuleType] = {"emptyDir": emptydir, "hostPath": hostpath}
_PLUGINS = {kind: module.PLUGIN for kind, module in (*_PROJECTED.items(), ("emptyDir", emptydir))}
_PLUGINS["hostPath"] = "kubernetes.io/host-path"
_UID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,127}")
_log = logging.getLogger(__name__)


class Volumes:
    """All pods' volumes. objects: topic `objects`; tokens: the queue request "token"; now: seconds since the epoch;
    node: the Node (its allocatable is the default of resourceFieldRef and bounds memory volumes);
    observe(plugin, seconds, failed): each set-up of a volume."""

    def __init__(
        self,
        settings: RuntimeSettings,
        objects: Objects,
        tokens: Tokens,
        now: Callable[[], float] = time.time,
        node: Callable[[], Mapping[str, Any]] = dict,
        observe: Callable[[str, float, bool], None] = lambda _plugin, _seconds, _failed: None,
    ) -> None:
        self._root = settings.instance.volumes_dir
        self._objects = objects
        self._now = now
        self._node = node
        self._observe = observe
        self._tokens = TokenCache(tokens, now)
        self._lock = threading.Lock()
        self._immutable: dict[str, dict[str, bytes]] = {}
        self._root.mkdir(mode=0o750, parents=True, exist_ok=True)
        _link(settings.instance.volumes_link, self._root)

    def prepare(self, pod: pods.Pod) -> Mapping[str, Prepared]:
        """Every volume of the pod by name, set up if it is not yet. Idempotent. Raises NotReady (FailedMount)."""
        around = self._surroundings(pod)
        return {volume["name"]: self._volume(volume, around) for volume in pods.spec(pod).get("volumes") or []}

    def refresh(self, pod: pods.Pod) -> float | None:
        """Project again what changed. Seconds until the next refresh is due by itself (a token's), None if never. What
        cannot be projected stays as it is: the rest is done, then NotReady is raised with the first reason."""
        around = self._surroundings(pod)
        first: NotReady | None = None
        for volume in pods.spec(pod).get("volumes") or []:
            if _kind(volume) in _PROJECTED:
                try:
                    self._volume(volume, around)
                except NotReady as error:
                    first = first or error
        if first:
            raise first
        due = self._tokens.due(pods.uid(pod))
        return None if due is None else max(due - self._now(), 0.0)

    def container_files(
        self, pod: pods.Pod, container: dict[str, Any], ctx: PodContext, attempt: int
    ) -> ContainerFiles:
        """The host files of one attempt of a container, for PodContext.files. Raises Invalid with the kubelet's
        message."""
        return files.container_files(self._pod_folder(pods.uid(pod)), pod, container, ctx, attempt)

    def termination_file(self, uid: str, container: str, attempt: int) -> Path:
        """Where that attempt's termination message is, if it wrote one."""
        return files.termination_file(self._path(uid), container, attempt)

    def teardown(self, uid: str, progress: Callable[[], object] = lambda: None) -> None:
        """Unmount and remove everything of the pod; progress() is called for each file. Idempotent. Raises Unavailable
        where a mount stays: nothing is removed then, since it might be the node's own files that are bound there."""
        folder = self._path(uid)
        mounting.unmount_below(folder)
        try:
            removal.remove_tree(folder, progress)
        except FileNotFoundError:
            _log.debug("volumes of %s are gone already", uid)
        except OSError as error:
            raise Unavailable(f"volumes of {uid} cannot be removed: {error}") from error
        self._tokens.forget(uid)
        with self._lock:
            self._immutable.pop(uid, None)

    def measurable(self, pod: pods.Pod) -> list[tuple[str, Path, bool]]:
        """(name, folder, whether it is local ephemeral storage) of each volume whose use can be counted, as far as it
        is set up: those that lie in the pod's own folder. A hostPath has no numbers of its own, as with the kubelet."""
        found = []
        for volume in pods.spec(pod).get("volumes") or []:
            kind = _kind(volume)
            plugin = getattr(_PROJECTED.get(kind) or _PLAIN.get(kind), "PLUGIN", "")
            path = self._path(pods.uid(pod)) / plugin.replace("/", "~") / str(volume["name"])
            if plugin and path.is_dir():
                in_memory = bool((volume.get(kind) or {}).get("medium"))
                found.append((str(volume["name"]), path, kind in ("emptyDir", "configMap") and not in_memory))
        return found

    def hosts_file(self, uid: str) -> Path:
        """The pod's managed hosts file; it may not be there."""
        return files.hosts_file(self._path(uid))

    def known(self) -> set[str]:
        """The UIDs that have something on disk."""
        return {entry.name for entry in os.scandir(self._root) if entry.is_dir(follow_symlinks=False)}

    def _volume(self, volume: Mapping[str, Any], around: Surroundings) -> Prepared:
        name, kind = str(volume["name"]), _kind(volume)
        began, failed = time.monotonic(), True
        try:
            if kind in _PROJECTED:
                path = self._project(name, kind, volume[kind] or {}, around)
            elif kind in _PLAIN:
                path = _PLAIN[kind].prepare(name, volume.get(kind) or {}, around)
            elif kind == "image":
                failed = False
                return Prepared("", kind, read_only=True)  # the runtime mounts it: bridge.launch
            else:
                raise Refused(f"volumes of kind {kind} are not supported by this node")
            failed = False
        except (VkcriError, OSError) as error:
            message = f'MountVolume.SetUp failed for volume "{name}" : {error}'
            raise NotReady(message, pending=isinstance(error, NotHeardOf)) from error
        finally:
            self._observe(_PLUGINS.get(kind, f"kubernetes.io/{kind.lower()}"), time.monotonic() - began, failed)
        return Prepared(str(path), kind, read_only=kind in _PROJECTED)

    def _project(self, name: str, kind: str, source: Mapping[str, Any], around: Surroundings) -> Path:
        module = _PROJECTED[kind]
        path = around.path(module.PLUGIN, name)
        mode = 0o644 if source.get("defaultMode") is None else int(source["defaultMode"])
        if kind == "projected":
            payload = projected.payload(source, around, mode, path)
        else:
            payload = module.payload(source, around, mode)
        if module.IN_MEMORY:
            path.mkdir(mode=0o750, parents=True, exist_ok=True)
            if not mounting.is_mounted(path):
                mounting.mount_tmpfs(path)
        else:
            emptydir.make_folder(path, 0o777, None)
        atomic.write(path, payload, group=ownership.fs_group(around.pod))
        return path

    def _surroundings(self, pod: pods.Pod) -> Surroundings:
        try:
            names.check_names(pod)
        except VkcriError as error:
            raise NotReady(str(error)) from error
        uid = pods.uid(pod)
        with self._lock:
            seen = self._immutable.setdefault(uid, {})
        status = self._node().get("status") or {}
        return Surroundings(
            pod=pod,
            folder=self._pod_folder(uid),
            objects=frozen(self._objects, seen),
            token=lambda source, path: self._tokens.get(pod, source, path),
            allocatable=status.get("allocatable") or status.get("capacity") or {},
        )

    def _pod_folder(self, uid: str) -> Path:
        folder = self._path(uid)
        folder.mkdir(mode=0o750, exist_ok=True)
        return folder

    def _path(self, uid: str) -> Path:
        if not _UID.fullmatch(uid) or ".." in uid:
            raise NotReady(f"metadata.uid: Invalid value: {uid!r}")
        return self._root / uid


def _kind(volume: Mapping[str, Any]) -> str:
    """The volume's one source; a volume without any is an emptyDir, as the API server defaults it."""
    return next((key for key, value in volume.items() if key != "name" and value is not None), "emptyDir")


def _link(link: Path, target: Path) -> None:
    """<run>/volumes -> <state>/volumes, for people: /run is small and noexec on many guests."""
    link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(link)
