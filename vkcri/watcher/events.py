"""The topic `events` of each role, brought to the API server as Events.

One thread, `events`; the roles' subscriptions only mark keys. An Event's name comes from its key, its component and its
first time, so creating it twice is harmless: the second time it is patched with the newer count and message. As in
client-go, one component's events of one type about one object are limited to a burst of 25 and one more every five
minutes; what is held back is not lost as a count, since the next one that goes out carries it. That many which are
alike become one is each role's own work (vkcri.queue.correlation).
"""

import hashlib
import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from vkcri.backoff import Backoff
from vkcri.errors import Conflict, Invalid, NotFound, Refused, VkcriError
from vkcri.kube.client import MERGE, Client
from vkcri.lifecycle import Process
from vkcri.queue import Change, Subscription
from vkcri.watcher.dirty import DirtyKeys
from vkcri.watcher.metrics import Metrics

ROLES = ("watcher", "provider", "kubelet", "proxy")
BURST = 25
REFILL_SECONDS = 300.0
MOST_OBJECTS = 4096  # as client-go's cache
RETRY = Backoff(first=0.5, factor=2.0, most=30.0, jitter=0.2)
log = logging.getLogger(__name__)


class Allowance:
    """A token bucket for each source, object and type."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens, at that time)

    def take(self, key: str) -> bool:
        """Whether one more event may go out."""
        now = self._clock()
        tokens, then = self._buckets.pop(key, (float(BURST), now))
        tokens = min(float(BURST), tokens + (now - then) / REFILL_SECONDS)
        allowed = tokens >= 1.0
        self._buckets[key] = (tokens - 1.0 if allowed else tokens, now)
        while len(self._buckets) > MOST_OBJECTS:
            self._buckets.popitem(last=False)
        return allowed


class EventWriter:
    """Subscribes to every role's events and posts them."""

    def __init__(self, process: Process, client: Client, metrics: Metrics) -> None:
        self._process = process
        self._client = client
        self._metrics = metrics
        self._dirty = DirtyKeys()
        self._allowance = Allowance()
        self._lock = threading.Lock()
        self._posted: OrderedDict[str, str] = OrderedDict()  # role|key -> name, of Events that the API server has
        self._attempts: dict[str, int] = {}
        self._roles = {role: self._subscription(role) for role in ROLES}

    def start(self) -> None:
        self._process.on_stop(self._dirty.close)
        for subscription in self._roles.values():
            subscription.start(self._process)
        self._process.start_thread("events", self._work)

    def _subscription(self, role: str) -> Subscription:
        def changed(change: Change) -> None:
            if change.value is not None:
                self._dirty.add(f"{role}|{change.key}")

        return Subscription(self._process.instance.queue_socket(role), "events", changed)

    def _work(self) -> None:
        while (key := self._dirty.take()) is not None:
            retry: float | None = None
            try:
                with self._process.expect(f"the event {key}", 60):
                    retry = self._bring(key)
            finally:
                self._dirty.done(key, retry)

    def _bring(self, key: str) -> float | None:
        """Post one; the seconds until it must be tried again."""
        role, _, topic_key = key.partition("|")
        raw = self._roles[role].get(topic_key)
        if raw is None:
            self._attempts.pop(key, None)
            return None
        entry = json.loads(raw)
        try:
            if key in self._attempts or self._allowance.take(_limited_by(entry)):
                self._post(key, topic_key, entry)
            else:
                self._metrics.count("events_held_back_total")
        except (
            NotFound,
            Refused,
            Invalid,
        ) as error:  # its namespace is gone or ends, or the API server will not have it
            self._metrics.count("events_dropped_total")
            log.debug("event %s: dropped: %s", topic_key, error)
        except VkcriError as error:
            attempt = self._attempts[key] = self._attempts.get(key, -1) + 1
            if attempt == 0:
                log.info("event %s: %s; trying again", topic_key, error)
            return max(RETRY.delay(attempt), getattr(error, "retry_after", None) or 0.0)
        self._attempts.pop(key, None)
        return None

    def _post(self, key: str, topic_key: str, entry: dict[str, Any]) -> None:
        event = as_event(topic_key, entry)
        collection = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        name = event["metadata"]["name"]
        path = f"{collection}/{name}"
        newer = {field: event[field] for field in ("count", "lastTimestamp", "message")}
        if self._posted.get(key) == name:
            try:
                self._client.patch(path, newer, content_type=MERGE)
                return
            except NotFound:
                log.debug("event %s has expired at the API server; making it again", name)
        try:
            self._client.create(collection, event)
        except Conflict:
            self._client.patch(path, newer, content_type=MERGE)
        self._metrics.count("events_posted_total")
        self._posted[key] = name
        self._posted.move_to_end(key)
        while len(self._posted) > MOST_OBJECTS:
            self._posted.popitem(last=False)


def as_event(key: str, entry: dict[str, Any]) -> dict[str, Any]:
    """A core/v1 Event from a topic's entry."""
    involved, source = entry["involvedObject"], entry.get("source") or {}
    digest = hashlib.sha256("\n".join((key, source.get("component", ""), entry["firstTimestamp"])).encode()).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{involved.get('name', 'unknown')[:236]}.{digest[:16]}",
            "namespace": involved.get("namespace") or "default",
            **({"annotations": entry["annotations"]} if entry.get("annotations") else {}),
        },
        "involvedObject": involved,
        "type": entry["type"],
        "reason": entry["reason"],
        "message": entry["message"],
        "count": entry["count"],
        "firstTimestamp": entry["firstTimestamp"],
        "lastTimestamp": entry["lastTimestamp"],
        "source": source,
        "reportingComponent": source.get("component", ""),
        "reportingInstance": source.get("host", ""),
    }


def _limited_by(entry: dict[str, Any]) -> str:
    involved, source = entry["involvedObject"], entry.get("source") or {}
    about = [involved.get(field) for field in ("kind", "namespace", "name", "uid", "apiVersion")]
    return "/".join(str(part) for part in (source.get("component"), source.get("host"), *about, entry.get("type")))
