"""What log-server knows of the node's pods: the topics `pods` (api-watcher's) and `pod-status` (cri-bridge's), merged.

Raw bytes are kept by the subscriptions, an object is parsed when somebody asks. The subscriptions' threads only keep
the index by name and wake followers. The newest status is the provider's; without one, the API server's copy counts.
A static pod's mirror pod is not among them: what is asked of it is asked of the static pod.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vkcri.api import times
from vkcri.api.pods import MIRROR_ANNOTATION, from_source
from vkcri.instance import Instance
from vkcri.kubelet.follow import Hint
from vkcri.lifecycle import Process
from vkcri.queue import Change, Subscription

_SPECS = {"initContainers": "init", "containers": "container", "ephemeralContainers": "ephemeral"}
_STATUSES = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
LOG = logging.getLogger(__name__)
_SEEN = "kubernetes.io/config.seen"
API = "api"  # the source of `pods` that is the API server; the other is the static folder


@dataclass(frozen=True)
class Pod:
    """A pod with its newest status. `object` is the Pod as a raw dict, its status included."""

    uid: str
    namespace: str
    name: str
    object: dict[str, Any]

    @property
    def status(self) -> dict[str, Any]:
        return self.object.get("status") or {}

    def containers(self) -> dict[str, str]:
        """Container name -> init, container or ephemeral; from the status where the spec is not known."""
        spec = self.object.get("spec") or {}
        found = {item["name"]: kind for field, kind in _SPECS.items() for item in spec.get(field) or ()}
        kinds = zip(_STATUSES, _SPECS.values(), strict=True)
        return found or {item["name"]: kind for field, kind in kinds for item in self.status.get(field) or ()}

    def container_status(self, container: str) -> dict[str, Any] | None:
        """The ContainerStatus of that name, of whichever kind."""
        return next((item for item in container_statuses(self.status) if item.get("name") == container), None)


def container_statuses(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All ContainerStatuses of a PodStatus."""
    for field in _STATUSES:
        yield from status.get(field) or ()


class Pods:
    """The node's pods by namespace and name. Thread-safe."""

    def __init__(self, instance: Instance) -> None:
        self._lock = threading.Lock()
        self._names: dict[str, tuple[str, str]] = {}  # UID -> namespace, name
        self._uids: dict[tuple[str, str], set[str]] = {}
        self._seen: dict[str, str] = {}  # UID -> when it was first heard of here (RFC 3339)
        self._hints: dict[str, set[Hint]] = {}  # UID -> followers
        self._mirrors: dict[str, str] = {}  # a mirror pod's UID -> its static pod's
        self.pods = Subscription(instance.queue_socket("watcher"), "pods", self._changed)
        self.statuses = Subscription(instance.queue_socket("provider"), "pod-status", self._changed)
        self._node = Subscription(instance.queue_socket("provider"), "node-status", lambda _change: None)

    def start(self, process: Process) -> None:
        for subscription in (self.pods, self.statuses, self._node):
            subscription.start(process)

    def relisted(self) -> str:
        """When the provider last read its runtime whole (RFC 3339); empty where it never said."""
        value = self._node.get("node")
        try:
            return str(json.loads(value)["relisted"]) if value else ""
        except (ValueError, KeyError, TypeError):
            return ""

    def known(self) -> bool:
        """Whether a pod that is not here does not exist: the API server's pods were read at least once."""
        return self.pods.synced(API)

    def find(self, namespace: str, name: str) -> Pod | None:
        """The pod of that name; of two (one on its way out) the younger, of two static pods the one that goes on."""
        with self._lock:
            uids = list(self._uids.get((namespace, name), ()))
        found = [pod for pod in map(self.get, uids) if pod is not None]
        return max(found, key=_youth, default=None)

    def translated(self, uid: str) -> str:
        """The static pod's UID for its mirror pod's, any other as it is (kubelet: TranslatePodUID)."""
        with self._lock:
            return self._mirrors.get(uid, uid)

    def all(self) -> list[Pod]:
        """Every pod, sorted by namespace and name."""
        with self._lock:
            uids = list(self._names)
        found = [pod for pod in map(self.get, uids) if pod is not None]
        return sorted(found, key=lambda pod: (pod.namespace, pod.name, pod.uid))

    def listed(self) -> list[dict[str, Any]]:
        """Every pod as a kubelet lists its own: without a type, and with where it comes from and since when it is
        known, which the kubelet writes into its annotations (pkg/kubelet/config)."""
        return [self._listed(pod) for pod in self.all()]

    def _listed(self, pod: Pod) -> dict[str, Any]:
        with self._lock:
            seen = self._seen.get(pod.uid)
        metadata = pod.object["metadata"]
        annotations = {**({_SEEN: seen} if seen else {}), **(metadata.get("annotations") or {})}
        kept = {key: value for key, value in pod.object.items() if key not in ("kind", "apiVersion")}
        listed = {**kept, "metadata": {**metadata, "annotations": annotations}}
        return from_source(listed, self.pods.source(pod.uid) or API)

    def get(self, uid: str) -> Pod | None:
        """The pod of that UID. One that only the provider still has counts until `pods` is known."""
        with self._lock:
            if uid not in self._names:
                return None
        raw, raw_status = self.pods.get(uid), self.statuses.get(uid)
        report = json.loads(raw_status) if raw_status is not None else None
        if raw is not None:
            value = json.loads(raw)
        elif report is not None and not self.known():
            names = {"namespace": report["namespace"], "name": report["name"], "uid": uid}
            value = {"metadata": names}
        else:
            return None
        if report is not None:
            value["status"] = report["status"]
        metadata = value["metadata"]
        return Pod(uid, metadata.get("namespace") or "default", metadata["name"], value)

    def running(self, uid: str, container: str, container_id: str) -> bool | None:
        """Whether the provider reports that container ID as running; None where it reports nothing of it."""
        raw = self.statuses.get(uid)
        if raw is None:
            return False if self.statuses.connected and self.statuses.synced() else None
        for item in container_statuses(json.loads(raw)["status"]):
            if item.get("name") != container:
                continue
            states = item.get("state") or {}
            ended = (states.get("terminated") or {}, (item.get("lastState") or {}).get("terminated") or {})
            if any(same_container(state.get("containerID"), container_id) for state in ended):
                return False
            if same_container(item.get("containerID"), container_id):
                return "running" in states
        return None

    @contextmanager
    def waking(self, uid: str, hint: Hint) -> Iterator[None]:
        """Give that hint whenever the pod or its status changes."""
        with self._lock:
            self._hints.setdefault(uid, set()).add(hint)
        try:
            yield
        finally:
            with self._lock:
                self._hints[uid].discard(hint)
                if not self._hints[uid]:
                    del self._hints[uid]

    def _changed(self, change: Change) -> None:
        """On the subscriptions' threads."""
        names, static = None, ""
        if change.value is not None:
            try:
                value = json.loads(change.value)
                names = _names(value)
                static = _mirrored(value)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                LOG.warning("topic %s: %s is no pod and is left out: %r", change.topic, change.key, error)
                return
        gone = change.value is None and self.pods.get(change.key) is None and self.statuses.get(change.key) is None
        with self._lock:
            if change.value is None:
                self._mirrors.pop(change.key, None)
            elif static:
                self._mirrors[change.key] = static
                return
            if gone:
                self._seen.pop(change.key, None)
            if gone and (old := self._names.pop(change.key, None)) is not None:
                self._uids[old].discard(change.key)
                if not self._uids[old]:
                    del self._uids[old]
            elif names is not None:
                self._names[change.key] = names
                self._seen.setdefault(change.key, times.nanoseconds(times.of(time.time())))
                self._uids.setdefault(names, set()).add(change.key)
            hints = list(self._hints.get(change.key, ()))
        for hint in hints:
            hint.give()


def _youth(pod: Pod) -> tuple[str, str]:
    """By which the younger pod is the greater; a static pod has been seen, not created."""
    metadata = pod.object["metadata"]
    annotations = metadata.get("annotations") or {}
    return str(metadata.get("creationTimestamp") or ""), str(annotations.get("kubernetes.io/config.seen") or "")


def _mirrored(value: dict[str, Any]) -> str:
    """The UID of the static pod that a Pod is the mirror of; "" for any other."""
    return str(((value.get("metadata") or {}).get("annotations") or {}).get(MIRROR_ANNOTATION) or "")


def _names(value: dict[str, Any]) -> tuple[str, str]:
    """Namespace and name of a Pod or of a pod-status."""
    metadata = value.get("metadata") or value
    if "metadata" not in value and not isinstance(value["status"], dict):
        raise TypeError("the status is no object")
    return str(metadata.get("namespace") or "default"), str(metadata["name"])


def same_container(one: object, other: str) -> bool:
    """Whether two container IDs are one, with or without the runtime's scheme; an empty one is nobody's."""
    return isinstance(one, str) and bool(one) and one.rpartition("/")[2] == other.rpartition("/")[2]
