"""Taint eviction: pods leave a node that gets a taint NoExecute which they do not tolerate, or not for ever.

As Kubernetes' taint eviction controller: the least tolerationSeconds of the tolerations that cover the node's taints
counts, from when this controller saw it first; the pod then gets the condition DisruptionTarget, and is deleted with
its own grace. Only somebody's own taints do this here: where every node of a cluster is away, as the one of a guest
always is when it is, Kubernetes' node lifecycle controller takes its NoExecute taints back and evicts nobody.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from vkcri.api import placement, pods
from vkcri.apiserver import internal, pod_actions
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers import events
from vkcri.apiserver.controllers.loop import KeysOf
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
NAME: Final = "taint-eviction-controller"
_CONDITION: Final = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "DeletionByTaintManager",
    "message": "Taint manager: deleting due to NoExecute taint",
}


class TaintEviction:
    """One key: all pods on tainted nodes. `clock`: monotonic seconds."""

    name = "taint-eviction"

    def __init__(self, ctx: RequestContext, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ctx = ctx
        self._clock = clock
        self._since: dict[str, float] = {}  # pod UID -> since when its tolerations run out
        self.sources: Mapping[str, KeysOf] = {
            "/nodes": lambda node, _gone: ["all"] if self._since or no_execute(node) else [],
            "/pods": lambda pod, _gone: ["all"] if pods.spec(pod).get("nodeName") else [],
        }

    def all_keys(self) -> Iterable[str]:
        return ["all"]

    def reconcile(self, _key: str) -> float | None:
        """Delete those whose time is over; seconds until the next one's is."""
        tainted = {
            node["metadata"]["name"]: found for node in self._ctx.store.list("/nodes")[0] if (found := no_execute(node))
        }
        if not tainted and not self._since:
            return None
        now = self._clock()
        left: list[float] = []
        since: dict[str, float] = {}
        refused: StatusError | None = None
        for pod in self._ctx.store.list("/pods")[0]:
            if pods.deletion_timestamp(pod):
                continue
            seconds = tolerated_for(pod, tainted.get(str(pods.spec(pod).get("nodeName")), ()))
            try:
                remains = self._look(pod, seconds, now, since)
            except StatusError as error:
                refused = refused or error
            else:
                left += [] if remains is None else [remains]
        self._since = since
        if refused is not None:
            raise refused  # it is tried again; the others were not kept waiting
        return min(left, default=None)

    def _look(self, pod: Object, seconds: float | None, now: float, since: dict[str, float]) -> float | None:
        """One pod, which stands its node's taints for so many seconds: note in `since` from when on, until it is
        evicted. Seconds that remain, None for no longer or for ever. Raises StatusError."""
        uid = pods.uid(pod)
        if seconds is None:
            if uid in self._since:
                self._event(pod, f"Cancelling deletion of Pod {pods.full_name(pod)}")
            return None
        since[uid] = self._since.get(uid, now)
        remains = since[uid] + seconds - now
        if remains > 0:
            return remains
        self._evict(pod)
        del since[uid]
        return None

    def _evict(self, pod: Object) -> None:
        self._event(pod, f"Marking for deletion Pod {pods.full_name(pod)}")
        where = ("/pods", pods.namespace(pod), pods.name(pod))

        def change(current: Object) -> Object | None:
            if pods.uid(current) != pods.uid(pod):
                return None
            pod_actions.set_condition(current, dict(_CONDITION), self._ctx.now())
            return current

        try:
            internal.update(self._ctx, *where, change, subresource="status")
            internal.delete(self._ctx, *where, {"preconditions": {"uid": pods.uid(pod)}})
        except StatusError as error:
            if not internal.absent(error):
                raise

    def _event(self, pod: Object, message: str) -> None:
        try:
            events.record(self._ctx, pod, "Normal", "TaintManagerEviction", message, component=NAME)
        except StatusError as error:
            if error.code not in (403, 404):  # its namespace is going, or gone
                raise


def no_execute(node: Mapping[str, Any]) -> list[Object]:
    """The node's taints that drive pods away."""
    return [item for item in (node.get("spec") or {}).get("taints") or [] if item.get("effect") == "NoExecute"]


def tolerated_for(pod: Mapping[str, Any], taints: Sequence[Mapping[str, Any]]) -> float | None:
    """How many seconds the pod stands them all; None: for ever."""
    used = [placement.toleration_of(pod, taint) for taint in taints]
    if any(toleration is None for toleration in used):
        return 0.0
    limits = [item["tolerationSeconds"] for item in used if item and item.get("tolerationSeconds") is not None]
    return max(0.0, float(min(limits))) if limits else None
