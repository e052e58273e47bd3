"""Topic `objects`: every configMap and secret that a published pod names, as bytes, `absent` or `forbidden`.

The Node authorizer lets a node read these one named object at a time, so each has a list and watch of its own, as the
kubelet's watching manager has, while any pod refers to it. A watch costs a thread and a connection: beyond MOST_WATCHES
objects the rest is read in turn by one thread, which is said once. Threads: `objects-N`, made as they are needed and
kept, and `objects-poll`. An immutable object is read once. A key that nothing refers to any more leaves the topic.
"""

import logging
import threading
from typing import Any

from vkcri.api import pods as api
from vkcri.errors import Invalid, NotFound, Refused, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.failures import Unauthenticated
from vkcri.kube.reflector import Callbacks, Item, Reflector
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
from vkcri.watcher.dirty import DirtyKeys

TOPIC = "objects"
MOST_WATCHES = 256
POLL_SECONDS = 10.0  # between two readings of an object that has no watch
POLL_PACE = 0.05
ABSENT = b"absent"
FORBIDDEN = b"forbidden"
PATIENCE = 3  # refusals before `forbidden`: the authorizer learns of a new pod's references a moment after we do
log = logging.getLogger(__name__)


class References:
    """pods.changed and pods.gone call `pod_changed` and `pod_gone`."""

    def __init__(
        self, process: Process, client: Client, publisher: Publisher, *, most_watches: int = MOST_WATCHES
    ) -> None:
        self._process = process
        self._client = client
        self._publisher = publisher
        self._most_watches = most_watches
        self._lock = threading.Lock()
        self._wanted: dict[str, set[str]] = {}  # pod UID -> keys
        self._users: dict[str, set[str]] = {}  # key -> pod UIDs
        self._watched: dict[str, Reflector | None] = {}  # None until its thread has begun
        self._threads = 0
        self._idle = 0
        self._open = DirtyKeys()
        self._polling = False

    def start(self) -> None:
        self._process.on_stop(self._open.close)
        self._publisher.mark_synced(TOPIC)

    def pod_changed(self, uid: str, pod: dict[str, Any]) -> None:
        """A terminal pod's references are kept too: its volumes are refreshed until it is gone."""
        keys = api.references(pod)
        with self._lock:
            before = self._wanted.get(uid, set())
            if keys == before:
                return
            self._wanted[uid] = keys
            for key in keys - before:
                self._users.setdefault(key, set()).add(uid)
                self._begin(key)
            self._leave(uid, before - keys)

    def pod_gone(self, uid: str) -> None:
        with self._lock:
            self._leave(uid, self._wanted.pop(uid, set()))

    def counts(self) -> dict[str, int]:
        """For metrics: objects referred to, those of them with a watch, and threads."""
        with self._lock:
            return {"objects": len(self._users), "watched": len(self._watched), "threads": self._threads}

    def _begin(self, key: str) -> None:
        """Have the key followed. The lock is held."""
        if key in self._watched or len(self._users[key]) > 1:
            return
        if len(self._watched) >= self._most_watches:
            self._start_polling()
            return
        self._watched[key] = None
        if self._idle < sum(reflector is None for reflector in self._watched.values()):
            self._threads += 1
            self._idle += 1
            self._process.start_thread(f"objects-{self._threads}", self._work)
        self._open.add(key)

    def _leave(self, uid: str, keys: set[str]) -> None:
        """The pod no longer refers to the keys. The lock is held."""
        for key in keys:
            users = self._users.get(key, set())
            users.discard(uid)
            if users:
                continue
            self._users.pop(key, None)
            reflector = self._watched.pop(key, None)
            if reflector is not None:
                reflector.end()
            self._publisher.delete(TOPIC, key)

    def _work(self) -> None:
        """A thread that follows one object after another."""
        while (key := self._open.take()) is not None:
            with self._lock:
                self._idle -= 1
                reflector = self._claim(key)
            if reflector is not None:
                reflector.run(self._process)
            with self._lock:
                self._idle += 1
            self._open.done(key)

    def _claim(self, key: str) -> Reflector | None:
        """The reflector of a key that is still wanted and has none. The lock is held."""
        if self._watched.get(key, False) is not None:
            return None
        reflector = _Follower(self, key).reflector(self._client)
        self._watched[key] = reflector
        return reflector

    def publish(self, key: str, value: bytes) -> None:
        """The newest of a key, if a pod still refers to it."""
        with self._lock:
            if key not in self._users:
                return
            try:
                self._publisher.put(TOPIC, key, value)
            except Invalid as error:
                log.error("%s cannot be published: %s", key, error)

    def publish_forbidden(self, key: str) -> None:
        """The API server refuses it. What is known of it already stays known."""
        if self._publisher.get(TOPIC, key) in (None, ABSENT):
            log.warning("%s: the API server does not let this node read it", key)
            self.publish(key, FORBIDDEN)

    def _start_polling(self) -> None:
        if not self._polling:
            self._polling = True
            log.warning(
                "pods of this node refer to more than %d objects; the rest is read every %g s or so instead of watched",
                self._most_watches,
                POLL_SECONDS,
            )
            self._process.start_thread("objects-poll", self._poll)

    def _poll(self) -> None:
        """Read what has no watch, in turn; give what fits now a watch."""
        while True:
            with self._lock:
                unwatched = [key for key in self._users if key not in self._watched]
            for key in unwatched:
                self._read(key)
                if self._process.wait(POLL_PACE):
                    return
            if self._process.wait(POLL_SECONDS if unwatched else 1.0):
                return

    def _read(self, key: str) -> None:
        kind, namespace, name = key.split("/")
        try:
            raw = self._client.request("GET", f"/api/v1/namespaces/{namespace}/{kind}/{name}")
            self.publish(key, raw)
        except NotFound:
            self.publish(key, ABSENT)
        except VkcriError as error:
            if isinstance(error, Refused) and not isinstance(error, Unauthenticated):
                self.publish_forbidden(key)
            else:
                log.warning("%s: %s", key, error)


class _Follower:
    """The callbacks of one object's reflector."""

    def __init__(self, owner: References, key: str) -> None:
        self._owner = owner
        self._key = key
        self._refusals = 0
        self._reflector: Reflector | None = None

    def reflector(self, client: Client) -> Reflector:
        kind, namespace, name = self._key.split("/")
        callbacks = Callbacks(self._replace, self._upsert, self._delete, self._failed)
        params = {"fieldSelector": f"metadata.name={name}"}
        self._reflector = Reflector(client, f"/api/v1/namespaces/{namespace}/{kind}", callbacks, params, quiet=True)
        return self._reflector

    def _replace(self, items: list[Item]) -> None:
        self._refusals = 0
        if items:
            self._upsert(items[0])
        else:
            self._owner.publish(self._key, ABSENT)

    def _upsert(self, item: Item) -> None:
        self._owner.publish(self._key, item.raw)
        if item.parsed.get("immutable") and self._reflector is not None:
            self._reflector.end()

    def _delete(self, _item: Item) -> None:
        self._owner.publish(self._key, ABSENT)

    def _failed(self, error: VkcriError) -> None:
        if isinstance(error, Refused) and not isinstance(error, Unauthenticated):
            self._refusals += 1
            if self._refusals == PATIENCE:
                self._owner.publish_forbidden(self._key)
