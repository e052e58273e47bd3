"""Kubernetes Events as state: a key for each object, reason and message, its value counting the repeats; one key for
all messages once there are many that are alike (vkcri.queue.correlation).

api-watcher turns the topic `events` of each role into Events of the API server. Any thread may record; entries go an
hour after they were last seen, as the API server's own do, and the oldest go first beyond a thousand.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from vkcri.queue.correlation import COMBINED, Aggregator
from vkcri.queue.publisher import Publisher

TOPIC = "events"
KEEP = timedelta(hours=1)
MOST = 1000
MESSAGE_LIMIT = 1024  # Kubernetes' own limit on an Event's message


def _utc_now() -> datetime:
    return datetime.now(UTC)


class EventRecorder:
    """Records into a publisher's topic `events`, which it marks synced at once: nothing is kept over a restart."""

    def __init__(
        self, publisher: Publisher, component: str, host: str, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        self._publisher = publisher
        self._source = {"component": component, "host": host}
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._seen: dict[str, datetime] = {}
        self._aggregator = Aggregator()
        publisher.mark_synced(TOPIC)
        publisher.every_few_seconds(self.collect)

    def event(
        self,
        involved: dict[str, Any],
        type_: str,
        reason: str,
        message: str,
        annotations: Mapping[str, str] | None = None,
        at: datetime | None = None,
    ) -> None:
        """One more time. involved: an ObjectReference; type_: Normal or Warning; reason: a word in CamelCase;
        annotations: of the Event that this becomes; at: when it was, if not now: who tells the same again after a
        restart tells the same Event."""
        now = self._clock()
        when = at or now
        message, key = _cut(message), event_key(involved, type_, reason, _cut(message))
        group = event_key({**involved, "fieldPath": ""}, type_, reason, COMBINED)
        with self._lock:
            if self._aggregator.is_one_of_many(group, message, now.timestamp()):
                message, key = _cut(COMBINED + message), group
            entry = self._entries.get(key)
            if entry is None:
                entry = self._new(involved, type_, reason, message, when)
            if annotations:
                entry["annotations"] = dict(annotations)
            entry["count"] += 1
            entry |= {"lastTimestamp": _format(when), "message": message}
            self._entries[key] = entry
            self._entries.move_to_end(key)
            self._seen[key] = now
            self._publisher.put(TOPIC, key, json.dumps(entry, separators=(",", ":")).encode())
        self.collect()

    def collect(self) -> None:
        """Drop what was last seen an hour ago, and the oldest beyond the limit."""
        now = self._clock()
        with self._lock:
            while self._entries:
                key = next(iter(self._entries))
                if len(self._entries) <= MOST and now - self._seen[key] < KEEP:
                    return
                del self._entries[key], self._seen[key]
                self._publisher.delete(TOPIC, key)

    def _new(self, involved: dict[str, Any], type_: str, reason: str, message: str, now: datetime) -> dict[str, Any]:
        return {
            "involvedObject": involved,
            "type": type_,
            "reason": reason,
            "message": message,
            "count": 0,
            "firstTimestamp": _format(now),
            "lastTimestamp": _format(now),
            "source": self._source,
        }


def event_key(involved: dict[str, Any], type_: str, reason: str, message: str) -> str:
    """NAMESPACE/KIND/NAME/UID/REASON/HASH; events about an object without namespace live in `default`. A container's
    fieldPath is part of the hash, so that two containers of a pod with the same trouble are two events."""
    text = "\n".join(filter(None, (type_, involved.get("fieldPath", ""), message)))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    place = (involved.get("namespace") or "default", involved.get("kind", ""), involved.get("name", ""))
    return "/".join((*place, involved.get("uid", ""), reason, digest))


def pod_reference(pod: dict[str, Any], container: str | None = None, field: str = "containers") -> dict[str, Any]:
    """The ObjectReference of a pod, or of a container in that field of its spec."""
    metadata = pod.get("metadata", {})
    reference = {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": metadata.get("namespace", ""),
        "name": metadata.get("name", ""),
        "uid": metadata.get("uid", ""),
    }
    if metadata.get("resourceVersion"):
        reference["resourceVersion"] = metadata["resourceVersion"]
    if container is not None:
        reference["fieldPath"] = f"spec.{field}{{{container}}}"
    return reference


def node_reference(name: str) -> dict[str, Any]:
    """The ObjectReference of a node in events. The kubelet puts the name where the UID belongs, and kubectl describe
    looks for that."""
    return {"apiVersion": "v1", "kind": "Node", "name": name, "uid": name}


def _cut(message: str) -> str:
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 3] + "..."


def _format(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
