"""Events are kept for an hour after their last repeat, and the server's own are written here."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vkcri.api import pods, times
from vkcri.apiserver import internal
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf

Object = dict[str, Any]
KEPT: Final = 3600.0
PERIOD: Final = 60.0


class EventExpiry:
    """One key. `clock`: seconds since the epoch."""

    name = "event-expiry"

    def __init__(self, ctx: RequestContext, *, clock: Callable[[], float] = time.time) -> None:
        self._ctx = ctx
        self._clock = clock
        self.sources: Mapping[str, KeysOf] = {}

    def all_keys(self) -> Iterable[str]:
        return ["all"]

    def reconcile(self, _key: str) -> float | None:
        until = self._clock() - KEPT
        for event in self._ctx.store.list("/events", predicate=lambda event: last_seen(event) < until)[0]:
            metadata = event["metadata"]
            internal.delete(self._ctx, "/events", metadata["namespace"], metadata["name"])
        return PERIOD


def last_seen(event: Object) -> float:
    """When an event was last told, in seconds since the epoch."""
    stamps = [event.get("lastTimestamp"), (event.get("series") or {}).get("lastObservedTime"), event.get("eventTime")]
    stamps.append(event["metadata"].get("creationTimestamp"))
    return max(times.to_epoch(stamp) for stamp in stamps if stamp)


def record(ctx: RequestContext, pod: Object, type_: str, reason: str, message: str, *, component: str) -> None:
    """Write an event about a pod, or count one up that says the same. The name is derived from what it says."""
    now = ctx.now()
    told = "/".join((pods.uid(pod), type_, reason, message))
    name = f"{pods.name(pod)}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    reference = {"kind": "Pod", "apiVersion": "v1", "namespace": pods.namespace(pod), "name": pods.name(pod)}
    event: Object = {
        "metadata": {"name": name, "namespace": pods.namespace(pod)},
        "involvedObject": {**reference, "uid": pods.uid(pod), "resourceVersion": pod["metadata"]["resourceVersion"]},
        "type": type_,
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": component},
        "reportingComponent": component,
    }
    with ctx.store.transaction():
        if ctx.store.get("/events", pods.namespace(pod), name) is None:
            internal.create(ctx, "/events", event)
            return

        def count(old: Object) -> Object:
            return {**old, "count": old.get("count", 1) + 1, "lastTimestamp": now}

        internal.update(ctx, "/events", pods.namespace(pod), name, count)
