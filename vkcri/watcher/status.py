"""What the provider reports of its pods, brought to the API server; and the end of a pod whose deletion is complete.

A few worker threads, one at a time for a pod, each with the newest report. The patch is made against the newest copy of
the pod: the reflector's, or our own last answer until the reflector has caught up with it. A pod is deleted for good
(grace 0, UID precondition) by nobody but this module, and only once it has a deletionTimestamp, the provider has
finished with it, and the API server's copy shows a terminal phase, so that no outcome is ever lost. What is reported
of a static pod goes to its mirror pod, under the static pod's UID everywhere here; mirrors deletes those.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from vkcri.api import pods as api
from vkcri.backoff import Backoff
from vkcri.errors import Conflict, Invalid, NotFound, Refused, VkcriError
from vkcri.kube.client import Client
from vkcri.lifecycle import Process
from vkcri.queue import Change, Subscription
from vkcri.watcher.dirty import DirtyKeys
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.mirrors import static_uid_of
from vkcri.watcher.podpatch import status_patch
from vkcri.watcher.pods import Pods
from vkcri.watcher.versions import is_newer, version

WORKERS = 4
RETRY = Backoff(first=0.2, factor=2.0, most=10.0, jitter=0.2)
REFUSED_RETRY = 60.0  # what the server refused once it refuses again, until something changes
TOPIC = "pod-status"
log = logging.getLogger(__name__)


class StatusWriter:
    """pods.changed and pods.gone call `pod_changed` and `pod_gone`; the topic is subscribed to here. mirror(uid): the
    mirror pod of the static pod of that UID."""

    def __init__(self, process: Process, client: Client, metrics: Metrics) -> None:
        self._process = process
        self._client = client
        self._metrics = metrics
        self._dirty = DirtyKeys()
        self._lock = threading.Lock()
        self._written: dict[str, dict[str, Any]] = {}  # pod UID -> the pod of our last answer
        self._settled: dict[str, tuple[bytes, str]] = {}  # pod UID -> (report, version) that no patch brings closer
        self._attempts: dict[str, int] = {}
        self._since: dict[str, float] = {}  # pod UID -> when the first report came that is not written yet
        self._mirrored: dict[str, str] = {}  # a mirror pod's UID -> its static pod's
        self._pods: Pods | None = None
        self.mirror: Callable[[str], dict[str, Any] | None] = lambda _uid: None
        self.reports = Subscription(process.instance.queue_socket("provider"), TOPIC, self._reported)
        metrics.gauge("status_waiting", lambda: float(len(self._dirty)))

    def start(self, pods: Pods) -> None:
        self._pods = pods
        self._process.on_stop(self._dirty.close)
        self.reports.start(self._process)
        for number in range(WORKERS):
            self._process.start_thread(f"status-{number}", self._work)

    def pod_changed(self, uid: str, pod: dict[str, Any]) -> None:
        """The API server has a new state of it (the reflector's thread)."""
        with self._lock:
            if api.is_mirror(pod):
                uid = self._mirrored.setdefault(uid, static_uid_of(pod))
            written = self._written.get(uid)
            if written is not None and not is_newer(version(written), version(pod)):
                del self._written[uid]
        self._dirty.add(uid)

    def pod_gone(self, uid: str) -> None:
        """The API server has it no more."""
        with self._lock:
            uid = self._mirrored.pop(uid, uid)
            for table in (self._written, self._settled, self._attempts, self._since):
                table.pop(uid, None)

    def _reported(self, change: Change) -> None:
        if change.value is not None:
            with self._lock:
                self._since.setdefault(change.key, time.monotonic())
            self._dirty.add(change.key)

    def _work(self) -> None:
        while (uid := self._dirty.take()) is not None:
            retry: float | None = None
            try:
                with self._process.expect(f"the status of pod {uid}", 60):
                    retry = self._bring(uid)
            finally:
                self._dirty.done(uid, retry)

    def _bring(self, uid: str) -> float | None:
        """One pod; the seconds until it must be tried again, None where it is well."""
        report = self.reports.get(uid)
        pod = self._newest(uid)
        if report is None or pod is None:
            return None
        try:
            self._sync(uid, pod, report)
        except NotFound:
            log.debug("pod %s is gone at the API server", api.full_name(pod))
        except VkcriError as error:
            return self._failed(uid, pod, error)
        with self._lock:
            self._attempts.pop(uid, None)
        return None

    def _failed(self, uid: str, pod: dict[str, Any], error: VkcriError) -> float:
        with self._lock:
            attempt = self._attempts[uid] = self._attempts.get(uid, -1) + 1
        self._metrics.count("status_failures_total", error=type(error).__name__)
        if attempt == 0:
            log.warning("status of pod %s: %s; trying again", api.full_name(pod), error)
        if isinstance(error, Invalid | Refused):
            return REFUSED_RETRY
        return max(RETRY.delay(attempt), getattr(error, "retry_after", None) or 0.0)

    def _sync(self, uid: str, pod: dict[str, Any], report: bytes) -> None:
        document = json.loads(report)
        reported = document.get("status") or {}
        with self._lock:
            settled = self._settled.get(uid) == (report, version(pod))
        patch = {} if settled else status_patch(api.status(pod), reported)
        with self._lock:
            since = self._since.pop(uid, None)
        if patch:
            try:
                pod = self._patch(uid, pod, patch)
            except VkcriError:
                with self._lock:
                    self._since.setdefault(uid, time.monotonic() if since is None else since)
                raise
            left = status_patch(api.status(pod), reported)
            if left and left != patch:
                self._dirty.add(uid)  # there was more at the API server than what the patch was made from
            else:
                with self._lock:
                    self._settled[uid] = (report, version(pod))
            if since is not None:
                self._metrics.status_syncs.observe(time.monotonic() - since)
        if not document.get("finished") or not api.deletion_timestamp(pod) or api.is_mirror(pod):
            return
        if api.is_terminal(api.status(pod)):
            self._delete(uid, pod)
        else:
            phase = reported.get("phase")
            log.warning("pod %s: finished in phase %s, which is not final: not deleted", api.full_name(pod), phase)

    def _patch(self, uid: str, pod: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
        """Write it; the pod that the API server answers with."""
        began = time.monotonic()
        body = {"metadata": {"uid": api.uid(pod)}, "status": patch}
        answer = self._client.patch(f"{_path(pod)}/status", body)
        self._metrics.observe("status_patch", time.monotonic() - began)
        if api.uid(answer) != api.uid(pod):
            raise Conflict(f"UID {api.uid(answer)}, not {api.uid(pod)}")
        with self._lock:
            self._written[uid] = answer
        if "phase" in patch:
            log.info("pod %s is %s", api.full_name(pod), patch["phase"])
        return answer

    def _delete(self, uid: str, pod: dict[str, Any]) -> None:
        self._client.delete(_path(pod), {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})
        self._metrics.count("pods_deleted_total")
        log.info("pod %s: deleted, the provider has finished with it", api.full_name(pod))

    def _newest(self, uid: str) -> dict[str, Any] | None:
        """The reflector's copy or our last answer, whichever is newer; None for a pod that the API server has not."""
        assert self._pods is not None
        with self._lock:
            written = self._written.get(uid)  # before the copy: it is forgotten once that is as new
        pod = self._pods.get(uid) or self.mirror(uid)
        if pod is None or written is None or api.uid(written) != api.uid(pod):
            return pod
        return written if is_newer(version(written), version(pod)) else pod


def _path(pod: dict[str, Any]) -> str:
    return f"/api/v1/namespaces/{api.namespace(pod)}/pods/{api.name(pod)}"
