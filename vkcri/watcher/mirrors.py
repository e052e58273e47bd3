"""Mirror pods: the API server's copies of this node's static pods, which people see, and which nobody runs.

One thread, `mirrors`, one full name at a time. Source: tryReconcileMirrorPods, deleteOrphanedMirrorPods and
pod/mirror_client.go. A mirror pod whose hash is another's, or that somebody deletes, is removed at once and made
again; one whose static pod is gone, or has become another, waits until the provider has done with the pod that it was
of, so that its end is seen. NodeRestriction demands the owner, and refuses a copy of what no static pod may refer to.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from vkcri.api import pods as api
from vkcri.backoff import Backoff
from vkcri.errors import Conflict, NotFound, VkcriError
from vkcri.kube.client import Client
from vkcri.lifecycle import Process
from vkcri.queue import Subscription
from vkcri.watcher.dirty import DirtyKeys
from vkcri.watcher.manifests import HASH_ANNOTATION
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.staticpods import StaticPods

RETRY = Backoff(first=0.5, factor=2.0, most=30.0, jitter=0.2)
LOOK_AGAIN = 1.0  # while something else must happen first
log = logging.getLogger(__name__)
Pod = Mapping[str, Any]


class Step(Enum):
    """What one full name's mirror pod needs."""

    NOTHING = "nothing"
    WAIT = "wait"
    CREATE = "create"
    DELETE = "delete"
    REPLACE = "replace"


def plan(static: Pod | None, mirror: Pod | None, *, known: bool, lingers: bool | None) -> Step:
    """Pure. known: whether a static pod that is not given does not exist. lingers: whether another static pod of that
    name has not come to its end yet, None where the provider has not said."""
    if mirror is not None and is_held(mirror):
        return Step.WAIT
    if static is None:
        if mirror is None:
            return Step.NOTHING
        return Step.DELETE if known and lingers is False else Step.WAIT
    if mirror is None:
        return Step.WAIT if lingers else Step.CREATE
    if not is_mirror_of(mirror, static):
        return Step.REPLACE if lingers is False else Step.WAIT
    return Step.REPLACE if api.deletion_timestamp(mirror) else Step.NOTHING


def is_held(mirror: Pod) -> bool:
    """Whether it is deleted already, and only somebody's finalizer keeps it: another deletion would change nothing."""
    metadata = mirror["metadata"]
    over = api.deletion_timestamp(mirror) is not None and metadata.get("deletionGracePeriodSeconds") == 0
    return over and bool(metadata.get("finalizers"))


def is_mirror_of(mirror: Pod, static: Pod) -> bool:
    """By their hashes, as the kubelet: what the API server has made of the rest does not matter."""
    return api.annotations(mirror).get(api.MIRROR_ANNOTATION) == api.annotations(static)[HASH_ANNOTATION]


def mirror_of(static: Pod, node: Pod) -> dict[str, Any]:
    """The mirror pod to create: the static pod, its hash, and its Node as controller."""
    metadata = {key: value for key, value in static["metadata"].items() if key not in ("uid", "creationTimestamp")}
    annotations = api.annotations(static)
    metadata["annotations"] = {**annotations, api.MIRROR_ANNOTATION: annotations[HASH_ANNOTATION]}
    owner = {"apiVersion": "v1", "kind": "Node", "name": api.name(node), "uid": api.uid(node), "controller": True}
    return {**static, "metadata": {**metadata, "ownerReferences": [owner]}}


class Mirrors:
    """Keeps them. pods.changed and pods.gone call `pod_changed` and `pod_gone`, static.changed `static_changed`.
    node(): the Node, None while there is none of ours."""

    def __init__(
        self,
        process: Process,
        client: Client,
        static: StaticPods,
        reports: Subscription,
        node: Callable[[], Pod | None],
        metrics: Metrics,
    ) -> None:
        self._process = process
        self._client = client
        self._static = static
        self._reports = reports
        self._node = node
        self._metrics = metrics
        self._dirty = DirtyKeys()
        self._lock = threading.Lock()
        self._held: dict[str, dict[str, Any]] = {}  # full name -> the mirror pod as the API server has it
        self._names: dict[str, str] = {}  # a mirror pod's UID -> its full name
        self._attempts: dict[str, int] = {}
        self._listed = False
        about = "The number of mirror pods the kubelet will try to create (one per admitted static pod)"
        metrics.registry.gauge("kubelet_mirror_pods", about, lambda: float(len(static.names())))

    def start(self) -> None:
        """The Node is ours."""
        self._process.on_stop(self._dirty.close)
        self._process.start_thread("mirrors", self._work)

    def pods_listed(self) -> None:
        """All mirror pods that there are were told; any static pod without one needs one."""
        self._listed = True
        with self._lock:
            names = {*self._held, *self._static.names()}
        for name in names:
            self._dirty.add(name)

    def static_changed(self, full_name: str) -> None:
        self._dirty.add(full_name)

    def pod_changed(self, uid: str, pod: dict[str, Any]) -> None:
        """The API server has a new state of a pod (the reflector's thread)."""
        if not api.is_mirror(pod):
            self.pod_gone(uid)  # where it was one
            return
        name = api.full_name(pod)
        with self._lock:
            self._held[name] = pod
            self._names[uid] = name
        self._dirty.add(name)

    def pod_gone(self, uid: str) -> None:
        with self._lock:
            name = self._names.pop(uid, None)
            if name is None:
                return
            held = self._held.get(name)
            if held is not None and api.uid(held) == uid:
                del self._held[name]
        self._dirty.add(name)

    def find(self, static_uid: str) -> dict[str, Any] | None:
        """The mirror pod of the static pod of that UID."""
        with self._lock:
            return next((pod for pod in self._held.values() if static_uid_of(pod) == static_uid), None)

    def _work(self) -> None:
        while (name := self._dirty.take()) is not None:
            retry: float | None = None
            try:
                with self._process.expect(f"the mirror pod {name}", 60):
                    retry = self._bring(name)
            finally:
                self._dirty.done(name, retry)

    def _bring(self, name: str) -> float | None:
        """One mirror pod; the seconds until it must be looked at again, None where it is well."""
        static, node = self._static.get(name), self._node()
        with self._lock:
            mirror = self._held.get(name)
        if not self._listed:
            return None
        step = plan(static, mirror, known=self._static.synced(), lingers=self._lingers(name, static, mirror))
        if step == Step.NOTHING:
            self._attempts.pop(name, None)
            return None
        if step == Step.WAIT:
            return LOOK_AGAIN
        try:
            if mirror is not None:
                self._delete(name, mirror)
            if step == Step.DELETE or static is None:
                return LOOK_AGAIN
            if node is None or api.deletion_timestamp(node):
                return LOOK_AGAIN  # a mirror pod needs its Node as owner
            self._create(name, mirror_of(static, node))
        except VkcriError as error:
            return self._failed(name, error)
        return LOOK_AGAIN

    def _lingers(self, name: str, static: Pod | None, mirror: Pod | None) -> bool | None:
        """Whether the provider still has a static pod of that name that is not this one."""
        if mirror is not None and static is not None and is_mirror_of(mirror, static):
            return False  # the usual case, for which no report is read
        but = api.uid(static) if static is not None else ""
        for uid, value in self._reports.items().items():
            report = json.loads(value)
            if uid != but and f"{report.get('namespace')}/{report.get('name')}" == name:
                return True
        return False if self._reports.synced() else None

    def _create(self, name: str, pod: dict[str, Any]) -> None:
        """Raises Conflict, too, where our own watch lags, which the next try finds out."""
        self._client.create(f"/api/v1/namespaces/{api.namespace(pod)}/pods", pod)
        self._metrics.count("mirror_pods_created_total")
        log.info("mirror pod %s: created", name)

    def _delete(self, name: str, mirror: Pod) -> None:
        """At once, and only this one."""
        namespace, _, pod = name.partition("/")
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": api.uid(mirror)}}
        try:
            self._client.delete(f"/api/v1/namespaces/{namespace}/pods/{pod}", options)
            log.info("mirror pod %s: deleted", name)
        except (NotFound, Conflict) as error:
            log.debug("mirror pod %s: %s", name, error)

    def _failed(self, name: str, error: VkcriError) -> float:
        attempt = self._attempts[name] = self._attempts.get(name, -1) + 1
        self._metrics.count("mirror_pod_failures_total", error=type(error).__name__)
        if attempt == 0:
            log.warning("mirror pod %s: %s; trying again", name, error)
        return max(RETRY.delay(attempt), getattr(error, "retry_after", None) or 0.0)


def static_uid_of(mirror: Pod) -> str:
    """The UID of the static pod that this mirror pod shows."""
    return api.annotations(mirror).get(api.MIRROR_ANNOTATION, "")
