"""A topic as JSON lines, for people: `vkcri queue tail TOPIC` calls `tail`. Reads only; runs on the caller's thread.

One line a thing: {"put": KEY, "source", "bytes", "value"}, {"delete": KEY}, {"synced": SOURCE}. The topic `objects`
holds Secrets: its lines have no value.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vkcri.errors import Invalid, Unavailable
from vkcri.instance import Instance
from vkcri.pb import queue_pb2 as pb
from vkcri.queue import messages
from vkcri.queue.channel import Channel
from vkcri.queue.publisher import PING_SECONDS

SECRET_TOPICS = frozenset({"objects"})
ROLES = ("watcher", "provider", "kubelet", "proxy")
OWNERS = {
    "pods": "watcher",
    "objects": "watcher",
    "services": "watcher",
    "endpointslices": "watcher",
    "runtimeclasses": "watcher",
    "node": "watcher",
    "pod-status": "provider",
    "node-status": "provider",
}
CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 3 * PING_SECONDS


def socket_of(instance: Instance, topic: str, role: str | None = None) -> Path:
    """The socket of the topic's owner. `events` and `notices` are each role's, so the role must be said. Raises
    Invalid."""
    owner = role or OWNERS.get(topic)
    if owner is None:
        if topic in ("events", "notices"):
            raise Invalid(f"every role has {topic} of its own: say which one ({', '.join(ROLES)})")
        raise Invalid(f"unknown topic {topic!r}; there are {', '.join(sorted(OWNERS))}, events and notices")
    if owner not in ROLES:
        raise Invalid(f"unknown role {owner!r}; there are {', '.join(ROLES)}")
    return instance.queue_socket(owner)


def tail(path: Path, topic: str, write: Callable[[str], object], *, follow: bool = True, wait: float = 5.0) -> None:
    """Write the snapshot's lines and then each change's, until the owner is gone. Without `follow` it returns once
    every source known within `wait` seconds has sent its snapshot. Raises Unavailable where the owner is away,
    NotFound for a topic that it does not own."""
    for message in _messages(path, topic, None if follow else wait):
        line = _line(topic, message)
        if line is not None:
            write(json.dumps(line, ensure_ascii=False))


def snapshot(path: Path, topic: str, wait: float, *, source: str = "", partial: bool = False) -> dict[str, Any]:
    """A topic's values now, parsed, by key, once its owner has synced that source. Raises Unavailable where the owner
    is away or not synced within `wait` seconds; partial: then what it has."""
    values: dict[str, Any] = {}
    for message in _messages(path, topic, wait):
        kind = message.WhichOneof("kind")
        if kind == "put":
            values[message.put.key] = messages.from_json(message.put.value, message.put.key)
        elif kind == "delete":
            values.pop(message.delete.key, None)
        elif kind == "synced" and message.synced.source == source:
            return values
        elif kind == "failure":
            messages.raise_failure(message.failure)
    if partial:
        return values
    raise Unavailable(f"{path.name}: {topic} is not synced yet")


def _messages(path: Path, topic: str, wait: float | None) -> Iterator[pb.OwnerMessage]:
    """What the owner sends; with `wait` only what comes before its first ping or that many seconds: a ping means that
    it has nothing more to send."""
    channel = Channel.connect(path, CONNECT_SECONDS)
    until = float("inf") if wait is None else time.monotonic() + wait
    try:
        channel.send(messages.subscribe(topic), stall=CONNECT_SECONDS)
        while True:
            try:
                payload = channel.receive(silence=SILENCE_SECONDS, until=until)
            except Unavailable:
                if time.monotonic() >= until:
                    return
                raise
            if payload is None:
                raise Unavailable(f"{path.name}: the owner closed the connection")
            message = messages.parse_owner(payload)
            if wait is not None and message.HasField("ping"):
                return
            yield message
    finally:
        channel.close()


def _line(topic: str, message: pb.OwnerMessage) -> dict[str, Any] | None:
    kind = message.WhichOneof("kind")
    if kind == "put":
        line: dict[str, Any] = {"put": message.put.key, "source": message.put.source, "bytes": len(message.put.value)}
        if topic not in SECRET_TOPICS:
            line["value"] = messages.from_json(message.put.value, message.put.key)
        return line
    if kind == "delete":
        return {"delete": message.delete.key}
    if kind == "synced":
        return {"synced": message.synced.source}
    if kind == "failure":
        messages.raise_failure(message.failure)
    return None
