"""All workers by pod UID: who is to be there, by the topic `pods` and by what CRI holds, and who is told what.

Fed by the `pods` subscription's thread, the relist thread and hints; each call is quick and only wakes workers. A pod
that CRI has and `pods` lacks is an orphan only once `pods` is synced for the pod's own source: then it is rebuilt from
its CRI annotations and ended as they say. A static pod waits until no other of its full name is left: a changed
manifest is another pod of the same name, whose put and whose predecessor's delete may come in either order.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bridge.actions import Eviction
from bridge.admission import Admission
from bridge.cluster import runtime_class_key
from bridge.relist import Box, Listing
from bridge.spec import names
from bridge.worker import Worker
from vkcri.api import pods, times
from vkcri.queue import Change

SOURCES = ("api", "file")
log = logging.getLogger(__name__)


class Roster:
    """The register. make(pod) builds a worker; synced(source): whether `pods` is."""

    def __init__(
        self,
        make: Callable[[Mapping[str, Any]], Worker],
        admission: Admission,
        synced: Callable[[str], bool],
        now: Callable[[], float],
    ) -> None:
        self._make = make
        self._admission = admission
        self._synced = synced
        self._now = now
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._desired: dict[str, Mapping[str, Any]] = {}
        self._references: dict[str, set[str]] = {}  # key of a configMap, secret or runtime class -> UIDs
        self._keys: dict[str, frozenset[str]] = {}  # the same by UID
        self._listing: Listing | None = None
        self._owed: dict[str, Eviction] = {}  # to those who have no worker yet

    def pod_changed(self, change: Change) -> None:
        """A change of topic `pods`."""
        if change.value is None:
            with self._lock:
                pod = self._desired.pop(change.key, None)
                worker = self._workers.get(change.key)
                if worker is None:
                    self._refer(change.key, None)
            if worker is None:
                self._admission.forget(change.key)
                with self._lock:
                    self._owed.pop(change.key, None)
            elif pod is not None:
                self._admission.leave(change.key)
                worker.put(pod, gone=True)
            return
        pod = pods.from_source(json.loads(change.value), change.source)
        if pods.is_mirror(pod):
            return
        with self._lock:
            waits = change.key not in self._workers and self._is_name_taken(pod)
        if pods.is_terminal(pods.status(pod)):
            self._admission.release(change.key)
        elif not waits:  # else it would be judged beside the one that it takes over from
            self._admission.offer(change.key, pod)
        with self._lock:
            self._desired[change.key] = pod
            self._refer(change.key, pod)
            worker = self._workers.get(change.key)
            may_begin = self._may_begin(pod)
        if worker is not None:
            worker.put(pod)
        elif may_begin:
            self._begin([pod])

    def pods_synced(self, source: str) -> None:
        """`pods` was read whole for that source: what waited begins, and what it lacks is an orphan."""
        log.debug("pods of source %s are synced", source)
        self._settle()

    def runtime_changed(self, changed: set[str], listing: Listing) -> None:
        """CRI shows something new of these pods; called with every pod after the first reading."""
        with self._lock:
            first, self._listing = self._listing is None, listing
            workers = [worker for uid in changed if (worker := self._workers.get(uid)) is not None]
        for worker in workers:
            worker.listed(listing.get(worker.uid, ()))
        if first or any(uid not in self._workers for uid in changed):
            self._settle()

    def object_changed(self, key: str) -> None:
        """A configMap, a secret or a runtime class has changed."""
        with self._lock:
            workers = [self._workers[uid] for uid in self._references.get(key, ()) if uid in self._workers]
        for worker in workers:
            worker.try_now()

    def wake_all(self) -> None:
        """Something that any pod may have waited for is there."""
        for worker in self.workers():
            worker.wake()

    def evict(self, uid: str, eviction: Eviction) -> bool:
        """The node ends the pod, as Worker.evict; one that has no worker yet is ended as soon as it has one."""
        with self._lock:
            worker = self._workers.get(uid)
            if worker is None:
                if uid in self._desired:
                    self._owed[uid] = eviction
                return uid in self._desired
        return worker.evict(eviction)

    def wake(self, uid: str) -> None:
        """Something of this pod has changed that its worker reads elsewhere."""
        worker = self.worker(uid)
        if worker is not None:
            worker.wake()

    def worker(self, uid: str) -> Worker | None:
        with self._lock:
            return self._workers.get(uid)

    def workers(self) -> list[Worker]:
        with self._lock:
            return list(self._workers.values())

    def find(self, namespace: str, name: str) -> Worker | None:
        """The worker of the pod of that name; the newest if there are two (one of which is ending)."""
        with self._lock:
            pod_of = {uid: worker.pod for uid, worker in self._workers.items()}
            found = [uid for uid, pod in pod_of.items() if (pods.namespace(pod), pods.name(pod)) == (namespace, name)]
            found.sort(key=lambda uid: str(pod_of[uid]["metadata"].get("creationTimestamp") or ""))
            return self._workers[found[-1]] if found else None

    def running_logs(self) -> list[tuple[str, str]]:
        """(container id, path of its log) of every container that ran when its worker last looked."""
        found = [item for worker in self.workers() for item in worker.observed.containers]
        return [(item.id, item.log_path) for item in found if item.state == "running"]

    def wanted(self) -> set[str]:
        """Every UID that `pods` has, mirror pods aside."""
        with self._lock:
            return set(self._desired)

    def desired(self) -> dict[bool, int]:
        """How many pods are wanted, by whether they are static."""
        with self._lock:
            static = [pods.is_static(pod) for pod in self._desired.values()]
        return {kind: static.count(kind) for kind in (False, True)}

    def known(self) -> set[str]:
        """Every UID that is wanted or worked on."""
        with self._lock:
            return {*self._desired, *self._workers}

    def complete(self) -> bool:
        """Whether all sources of `pods` are synced and CRI was read, so that an unknown UID belongs to nobody."""
        with self._lock:
            return self._listing is not None and all(self._synced(source) for source in SOURCES)

    def forget(self, worker: Worker) -> None:
        """The worker has nothing left to do: a pod of the same UID that is wanted again gets a new one."""
        with self._lock:
            if self._workers.get(worker.uid) is worker:
                del self._workers[worker.uid]
            again = self._desired.get(worker.uid)
            self._refer(worker.uid, again)
            waiting = [pod for uid, pod in self._desired.items() if uid != worker.uid and self._takes_over(pod, worker)]
        if again is not None:
            self._begin([again])
        self._begin(waiting)

    def try_all(self) -> None:
        """What kept pods from being started is over."""
        for worker in self.workers():
            worker.try_now()

    def _may_begin(self, pod: Mapping[str, Any]) -> bool:
        """Whether its worker may start: the source is known whole, so that admission sees every older pod, and CRI was
        read once, so that it sees every pod that is there already."""
        return self._listing is not None and self._synced(pods.source(pod))

    def _takes_over(self, pod: Mapping[str, Any], ended: Worker) -> bool:
        """Whether this static pod may have waited for the ended one's name. The lock is held."""
        return pods.is_static(pod) and pods.full_name(pod) == ended.name and self._may_begin(pod)

    def _is_name_taken(self, pod: Mapping[str, Any]) -> bool:
        """Whether a static pod has to wait for another of its name. The lock is held."""
        name, uid = pods.full_name(pod), pods.uid(pod)
        others = (worker for other, worker in self._workers.items() if other != uid)
        return pods.is_static(pod) and any(it.name == name and pods.is_static(it.pod) for it in others)

    def _settle(self) -> None:
        """Start the workers that may start, and end orphans."""
        with self._lock:
            if self._listing is None:
                return
            listing = self._listing
            waiting = [pod for uid, pod in self._desired.items() if uid not in self._workers and self._may_begin(pod)]
            orphans = [
                rebuilt
                for uid, boxes in listing.items()
                if uid not in self._workers and uid not in self._desired
                if (rebuilt := rebuild(uid, boxes, self._now())) is not None and self._synced(pods.source(rebuilt))
            ]
        self._admission.count(listing)
        for pod in orphans:
            log.warning("pod %s (%s) is not wanted by anybody: ending it", pods.full_name(pod), pods.uid(pod))
        self._begin(orphans, gone=True)  # first: a static pod waits for the one whose name it has
        self._begin(waiting)

    def _begin(self, found: Iterable[Mapping[str, Any]], *, gone: bool = False) -> None:
        """Give each a worker, by what `pods` says now: it may have changed since `found` was collected."""
        for pod in found:
            uid = pods.uid(pod)
            with self._lock:
                newest = self._desired.get(uid)
                if uid in self._workers or (newest is not None) == gone:
                    continue
                if not gone and self._is_name_taken(newest or pod):
                    continue  # forget(its worker) comes back to it
                if not gone and not pods.is_terminal(pods.status(newest or pod)):
                    self._admission.offer(uid, newest or pod)  # if it was not, or was withdrawn meanwhile
                worker = self._workers[uid] = self._make(newest or pod)
                if gone:
                    worker.put(pod, gone=True)
                if (owed := self._owed.pop(uid, None)) is not None:
                    worker.evict(owed)
            worker.wake()

    def _refer(self, uid: str, pod: Mapping[str, Any] | None) -> None:
        """Exactly what the pod names now concerns it; nothing once it is None. The lock is held."""
        keys = _references(pod) if pod is not None else frozenset()
        before = self._keys.pop(uid, frozenset())
        for key in before - keys:
            self._references[key].remove(uid)
            if not self._references[key]:
                del self._references[key]
        for key in keys - before:
            self._references.setdefault(key, set()).add(uid)
        if keys:
            self._keys[uid] = keys


def _references(pod: Mapping[str, Any]) -> frozenset[str]:
    """The keys of all objects whose change concerns the pod."""
    classes = [runtime_class_key(pods.runtime_class(pod))] if pods.runtime_class(pod) else []
    return frozenset((*pods.references(pod), *classes))


def rebuild(uid: str, boxes: Iterable[Box], now: float) -> dict[str, Any] | None:
    """A Pod from what CRI's labels and annotations say of it, enough to end it; None where they say too little."""
    listed = sorted(boxes, key=lambda box: box.created_at)
    labels = next((box.labels for box in listed), {})
    if not labels.get(names.POD_NAME) or not labels.get(names.POD_NAMESPACE):
        log.warning("sandbox or container of pod %s lacks our labels; it is left alone", uid)
        return None
    annotations: dict[str, str] = {}
    for box in listed:
        annotations |= box.annotations
    metadata: dict[str, Any] = {
        "name": labels[names.POD_NAME],
        "namespace": labels[names.POD_NAMESPACE],
        "uid": uid,
        "annotations": {pods.SOURCE_ANNOTATION: annotations.get(pods.SOURCE_ANNOTATION, "api")},
        "deletionTimestamp": times.seconds(times.of(now)),
    }
    spec: dict[str, Any] = {"containers": []}
    for key, holder, field in (
        (names.DELETION_GRACE, metadata, "deletionGracePeriodSeconds"),
        (names.TERMINATION_GRACE, spec, "terminationGracePeriodSeconds"),
    ):
        if annotations.get(key, "").isdigit():
            holder[field] = int(annotations[key])
    return {"metadata": metadata, "spec": spec, "status": {}}
