"""One topic of one owner, followed for ever: connect, snapshot, changes, and again after a while when that ends.

One thread a subscription, `queue-<topic>`; callbacks run on it. What is held stays while the owner is away or not
synced (vkcri.queue.topic.View has the rule). An owner that says nothing at all, not even pings, is tried anew.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from vkcri.backoff import Backoff
from vkcri.errors import VkcriError
from vkcri.lifecycle import Process
from vkcri.queue import messages
from vkcri.queue.channel import Channel
from vkcri.queue.messages import Change
from vkcri.queue.topic import View

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 15.0  # three of the owner's pings
CALLBACK_SECONDS = 30.0
RECONNECT = Backoff(first=0.1, factor=2.0, most=2.0, jitter=0.1)
log = logging.getLogger(__name__)


class Subscription:
    """The newest values of a topic, and a callback for each change. Thread-safe.

    on_change(change) and on_synced(source) run on the subscription's thread, must be quick and must not call close.
    on_synced runs after every snapshot, not only after the first."""

    def __init__(
        self,
        path: Path,
        topic: str,
        on_change: Callable[[Change], None],
        *,
        on_synced: Callable[[str], None] | None = None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.path = path
        self.topic = topic
        self.connected = False
        self._on_change = on_change
        self._on_synced = on_synced
        self._silence_seconds = silence_seconds
        self._view = View(topic)
        self._changed = threading.Condition()
        self._channel: Channel | None = None
        self._closed = threading.Event()
        self._process: Process | None = None
        self._said = ""
        self._attempt = 0

    def start(self, process: Process) -> None:
        self._process = process
        process.on_stop(self.close)
        process.start_thread(f"queue-{self.topic}", partial(self._follow, process), may_end=True)

    def get(self, key: str) -> bytes | None:
        with self._changed:
            held = self._view.values.get(key)
            return held[0] if held else None

    def source(self, key: str) -> str | None:
        """Which of the topic's sources put that key; None where it is not held."""
        with self._changed:
            held = self._view.values.get(key)
            return held[1] if held else None

    def items(self) -> dict[str, bytes]:
        with self._changed:
            return {key: value for key, (value, _) in self._view.values.items()}

    def synced(self, source: str = "") -> bool:
        """Whether that source was synced at least once; kept while the owner is away."""
        with self._changed:
            return source in self._view.synced

    def wait_synced(self, timeout: float, source: str = "") -> bool:
        """Wait until the source is synced; False after that many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: source in self._view.synced, timeout)

    def close(self) -> None:
        """Stop following; what is held stays readable. Idempotent."""
        self._closed.set()
        with self._changed:
            channel = self._channel
        if channel is not None:
            channel.shut()

    def _stopping(self) -> bool:
        return self._closed.is_set() or (self._process is not None and self._process.stopping.is_set())

    def _follow(self, process: Process) -> None:
        while not self._stopping():
            try:
                self._connection(process)
            except VkcriError as error:
                self._say(str(error))
            self._closed.wait(RECONNECT.delay(self._attempt))
            self._attempt += 1

    def _say(self, reason: str) -> None:
        """Log why there is no connection, once a reason."""
        if reason != self._said and not self._stopping():
            log.info("topic %s: %s; trying again", self.topic, reason)
        self._said = reason

    def _connection(self, process: Process) -> None:
        """One connection's whole life."""
        channel = Channel.connect(self.path, CONNECT_SECONDS)
        try:
            with self._changed:
                self._channel = channel
                self._view.connected()
            channel.send(messages.subscribe(self.topic), stall=CONNECT_SECONDS)
            while not self._stopping():
                payload = channel.receive(silence=self._silence_seconds)
                if payload is None:
                    self._say(f"{self.path.name} closed the connection")
                    break
                self._take(process, payload)
                if not self.connected:
                    self.connected = True
                    self._attempt = 0
                    self._said = ""
        finally:
            with self._changed:
                self.connected = False
                self._channel = None
            channel.close()

    def _take(self, process: Process, payload: bytes) -> None:
        message = messages.parse_owner(payload)
        with self._changed:
            changes = self._view.apply(message)
        synced = message.HasField("synced")
        if not changes and not synced:
            return
        with process.expect(f"topic {self.topic}: the callbacks of a change", CALLBACK_SECONDS):
            for change in changes:
                self._on_change(change)
            if synced:
                self._announce(message.synced.source)

    def _announce(self, source: str) -> None:
        with self._changed:
            self._changed.notify_all()
        if self._on_synced is not None:
            self._on_synced(source)
