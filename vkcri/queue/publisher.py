"""The owner of one socket: topics, subscribers, requests.

Threads: `queue-accept-<role>`, and one for each connection (few: a handful of subscribers, and requests as they come).
Callers of put, delete and replace only touch memory under one lock; no socket is used under it, so a stalled reader
never blocks a writer. A connection that fails, or talks nonsense, ends alone; the subscriber comes back for a snapshot.
The socket is bound under the program's lock (vkcri.lifecycle), hence a socket file that is there is stale.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vkcri.errors import Invalid, NotFound, Refused, Unavailable, VkcriError
from vkcri.lifecycle import Process
from vkcri.pb import queue_pb2 as pb
from vkcri.queue import messages
from vkcri.queue.channel import Channel, check_peer
from vkcri.queue.topic import Cursor, Topic, encode

PING_SECONDS = 5.0
STALL_SECONDS = 15.0
FIRST_MESSAGE_SECONDS = 10.0
IDLE_SECONDS = 10.0
MAX_CONNECTIONS = 256
CALLBACK_SECONDS = 30.0
_BATCH = 256 * 1024
Answer = Callable[[dict[str, Any], float], Any]
log = logging.getLogger(__name__)


class Publisher:
    """Owns the topics of one role. Thread-safe."""

    def __init__(
        self,
        path: Path,
        topics: Iterable[str],
        *,
        sources: Mapping[str, tuple[str, ...]] | None = None,
        ping_seconds: float = PING_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.path = path
        self._topics = {name: Topic(name, (sources or {}).get(name, ("",))) for name in topics}
        self._answers: dict[str, Answer] = {}
        self._metrics: Callable[[], str] = str
        self._ping_seconds = ping_seconds
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._ready: dict[Cursor, threading.Condition] = {}
        self._channels: set[Channel] = set()
        self._periodic: list[Callable[[], None]] = []
        self._listener: socket.socket | None = None
        self._inode = 0
        self._closed = threading.Event()

    def put(self, topic: str, key: str, value: bytes, *, source: str = "") -> None:
        """The key's newest value; no-op when equal. Raises Invalid above 8 MiB or for an unknown topic or source."""
        with self._lock:
            if self._topic(topic).put(key, value, source):
                self._wake(topic)

    def check(self, topic: str, key: str, value: bytes, *, source: str = "") -> None:
        """Raises Invalid where `put` would; nothing is put."""
        with self._lock:
            self._topic(topic).check(key, value, source)

    def delete(self, topic: str, key: str, *, source: str = "") -> None:
        """No-op for a key that is not there, or that another source put."""
        with self._lock:
            if self._topic(topic).delete(key, source):
                self._wake(topic)

    def replace(self, topic: str, values: Mapping[str, bytes], *, source: str = "") -> None:
        """The whole content of that source: put it, delete what else it had, mark it synced. All or nothing."""
        with self._lock:
            self._topic(topic).replace(values, source)
            self._wake(topic)

    def mark_synced(self, topic: str, *, source: str = "") -> None:
        """The source has been read whole; from here on a key that is not put does not exist."""
        with self._lock:
            self._topic(topic).mark_synced(source)
            self._wake(topic)

    def get(self, topic: str, key: str) -> bytes | None:
        with self._lock:
            held = self._topic(topic).values.get(key)
            return held[0] if held else None

    def items(self, topic: str) -> dict[str, bytes]:
        with self._lock:
            return {key: value for key, (value, _) in self._topic(topic).values.items()}

    def synced(self, topic: str, *, source: str = "") -> bool:
        with self._lock:
            return source in self._topic(topic).synced

    def serve(self, name: str, answer: Answer) -> None:
        """Answer requests of that name: answer(body, seconds left) returns something JSON-able, or bytes that are JSON
        already, or raises a VkcriError, which the requester then sees. It runs on the connection's own thread."""
        self._answers[name] = answer

    def set_metrics(self, text: Callable[[], str]) -> None:
        """What the request `metrics` answers, in Prometheus' text format."""
        self._metrics = text

    def every_few_seconds(self, callback: Callable[[], None]) -> None:
        """Run this about every ten seconds on the accepting thread; it must be quick."""
        self._periodic.append(callback)

    def start(self, process: Process) -> None:
        """Bind and serve until close, which the process' end does. Raises Unavailable where binding fails."""
        about = {"program": process.program, "pid": os.getpid(), "started": f"{process.started:%Y-%m-%dT%H:%M:%SZ}"}
        self._answers.setdefault("ping", lambda _body, _left: about)
        self._answers.setdefault("metrics", lambda _body, _left: {"text": self._metrics()})
        listener = self._listener = self._bind()
        process.on_stop(self.close)
        process.start_thread(f"queue-accept-{self.path.stem}", partial(self._accept, process, listener), may_end=True)

    def close(self) -> None:
        """Stop serving; subscribers keep what they have. Idempotent."""
        self._closed.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            try:
                listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread, which closes it
            except OSError:
                listener.close()
            if self.path.exists() and self.path.stat().st_ino == self._inode:
                self.path.unlink()
        with self._lock:
            channels = list(self._channels)
            for condition in self._ready.values():
                condition.notify_all()
        for channel in channels:
            channel.shut()

    def _topic(self, name: str) -> Topic:
        try:
            return self._topics[name]
        except KeyError:
            raise Invalid(f"{self.path.stem} owns no topic {name!r}") from None

    def _wake(self, topic: str) -> None:
        for cursor in self._topics[topic].cursors:
            self._ready[cursor].notify()

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            listener.bind(str(self.path))
            self.path.chmod(0o600)  # before listen: nobody can connect until then
            self._inode = self.path.stat().st_ino
            listener.listen(64)
            listener.settimeout(IDLE_SECONDS)
        except OSError as error:
            listener.close()
            raise Unavailable(f"{self.path}: {error.strerror or error}") from error
        return listener

    def _accept(self, process: Process, listener: socket.socket) -> None:
        """Until close. The listener is this thread's to close, however early that comes."""
        due = time.monotonic() + IDLE_SECONDS
        with listener:
            while not self._closed.is_set():
                try:
                    self._admit(listener.accept()[0])
                except TimeoutError:
                    pass  # nobody came; the callbacks below are due
                except OSError as error:
                    if not self._closed.is_set():
                        log.warning("%s: accept: %s", self.path.name, error.strerror)
                        self._closed.wait(0.1)  # out of descriptors: some connection must end first
                if time.monotonic() >= due:
                    due = time.monotonic() + IDLE_SECONDS
                    for callback in self._periodic:
                        with process.expect(f"{self.path.name}: a callback", CALLBACK_SECONDS):
                            callback()

    def _admit(self, connection: socket.socket) -> None:
        try:
            peer = f"pid {check_peer(connection)}"
        except (Refused, OSError) as error:
            log.warning("%s: %s", self.path.name, error)
            connection.close()
            return
        channel = Channel(connection, peer)
        with self._lock:
            full = self._closed.is_set() or len(self._channels) >= MAX_CONNECTIONS
            if not full:
                self._channels.add(channel)
        if full:
            log.warning("%s: %d connections: %s is sent away", self.path.name, MAX_CONNECTIONS, peer)
            channel.close()
            return
        name = f"queue-{self.path.stem}-{peer.replace(' ', '-')}"
        threading.Thread(target=self._converse, args=(channel,), name=name, daemon=True).start()

    def _converse(self, channel: Channel) -> None:
        """A connection's whole life."""
        try:
            payload = channel.receive(silence=FIRST_MESSAGE_SECONDS, until=time.monotonic() + FIRST_MESSAGE_SECONDS)
            if payload is None:
                return
            message = messages.parse_client(payload)
            if message.HasField("subscribe"):
                self._feed(channel, message.subscribe.topic)
            else:
                self._respond(channel, message.request)
        except Unavailable as error:
            log.debug("%s: connection ended: %s", self.path.name, error)
        except VkcriError as error:
            log.warning("%s: %s: connection closed: %s", self.path.name, channel.peer, error)
        finally:
            with self._lock:
                self._channels.discard(channel)
            channel.close()

    def _feed(self, channel: Channel, topic: str) -> None:
        """Send the snapshot and then changes, until the subscriber is gone."""
        if topic not in self._topics:
            error = NotFound(f"{self.path.stem} owns no topic {topic[:64]!r}")
            channel.send(messages.failure(error), stall=self._stall_seconds)
            return
        with self._lock:
            cursor = self._topics[topic].subscribe()
            ready = self._ready[cursor] = threading.Condition(self._lock)
        snapshot = True
        try:
            while not self._closed.is_set():
                with self._lock:
                    if not cursor and not snapshot and not self._closed.is_set():
                        ready.wait(self._ping_seconds)
                    batch = cursor.take(_BATCH)
                snapshot = snapshot and bool(batch)
                channel.send(encode(batch) if batch else messages.PING, stall=self._stall_seconds)
        finally:
            with self._lock:
                self._topics[topic].unsubscribe(cursor)
                del self._ready[cursor]

    def _respond(self, channel: Channel, message: pb.Request) -> None:
        until = time.monotonic() + message.timeout_milliseconds / 1000
        try:
            data = messages.answer(message.name, self._answer(message, until))
        except VkcriError as error:
            data = messages.failure(error)
        except Exception:
            log.exception("%s: request %.64s: a bug", self.path.name, message.name)
            data = messages.failure(Unavailable(f"{message.name}: the owner has a bug; its log has the traceback"))
        channel.send(data, stall=self._stall_seconds, until=until)

    def _answer(self, message: pb.Request, until: float) -> Any:
        answer = self._answers.get(message.name)
        if answer is None:
            raise Refused(f"{self.path.stem} answers no request {message.name[:64]!r}")
        body = messages.from_json(message.body, message.name)
        if not isinstance(body, dict):
            raise Invalid(f"{message.name}: the body is no JSON object")
        return answer(body, max(0.0, until - time.monotonic()))
