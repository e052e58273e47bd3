"""Pods that nobody will finish: bound to a node that is gone, deleted before they had one, or over for long.

Looks every 20 s. A node that is deleted and registers again at once (api-watcher does) loses no pod: only one that has
been missing for 40 s counts as gone.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver import internal, pod_actions
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf

Object = dict[str, Any]
PERIOD: Final = 20.0
QUARANTINE: Final = 40.0
MOST_TERMINATED: Final = 1000  # Kubernetes keeps 12,500 in a whole cluster; this is one node
_NOW: Final = {"gracePeriodSeconds": 0}


class PodCollector:
    """One key. `clock`: monotonic seconds."""

    name = "pod-gc"

    def __init__(self, ctx: RequestContext, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ctx = ctx
        self._clock = clock
        self._missing: dict[str, float] = {}
        self.sources: Mapping[str, KeysOf] = {}

    def all_keys(self) -> Iterable[str]:
        return ["all"]

    def reconcile(self, _key: str) -> float | None:
        found = self._ctx.store.list("/pods")[0]
        gone = self._gone_nodes(found)
        for pod in found:
            node = pods.spec(pod).get("nodeName") or ""
            if node in gone:
                self._fail(pod)
                self._delete(pod)
            elif not node and pods.deletion_timestamp(pod):
                self._delete(pod)
        over = [pod for pod in found if pods.is_terminal(pods.status(pod)) and not pods.deletion_timestamp(pod)]
        over.sort(key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        for pod in over[: max(0, len(over) - MOST_TERMINATED)]:
            self._delete(pod)
        return PERIOD

    def _gone_nodes(self, found: list[Object]) -> set[str]:
        """Names that pods are bound to and that have had no Node object for the length of the quarantine."""
        present = {node["metadata"]["name"] for node in self._ctx.store.list("/nodes")[0]}
        now = self._clock()
        missing = {pods.spec(pod).get("nodeName") or "" for pod in found} - present - {""}
        self._missing = {name: self._missing.get(name, now) for name in missing}
        return {name for name, since in self._missing.items() if now - since >= QUARANTINE}

    def _fail(self, pod: Object) -> None:
        if pods.is_terminal(pods.status(pod)):
            return

        def change(current: Object) -> Object:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}
            message = "PodGC: node no longer exists"
            pod_actions.set_condition(current, {**condition, "message": message}, self._ctx.now())
            current["status"]["phase"] = "Failed"
            return current

        internal.update(self._ctx, "/pods", pods.namespace(pod), pods.name(pod), change, subresource="status")

    def _delete(self, pod: Object) -> None:
        options = {**_NOW, "preconditions": {"uid": pods.uid(pod)}}
        internal.delete(self._ctx, "/pods", pods.namespace(pod), pods.name(pod), options)
