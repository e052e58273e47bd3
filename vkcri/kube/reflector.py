"""A list kept up to date by a watch, for ever: list in pages, watch from the list's version, resume, list again on 410.

One thread a reflector; it runs the callbacks, so they must be quick. After each list `replace` gets all of it; between
lists `upsert` and `delete` get one object each. A broken connection, a server's own end of the watch and a bookmark
never lose an event: the next watch begins at the last version seen. What the API server lets nobody resume (410 as a
status or as an ERROR event, or three refusals in a row) begins with a new list.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vkcri.backoff import Backoff
from vkcri.errors import Refused, Unavailable, VkcriError
from vkcri.kube.client import Client, WatchStream
from vkcri.kube.failures import Expired, Overloaded, status_error
from vkcri.lifecycle import Process

WATCH_SECONDS = 300
READ_TIMEOUT = 120.0  # two bookmarks: a server that is silent for longer is asked anew, which costs nothing
RETRY = Backoff(first=0.2, factor=2.0, most=10.0, jitter=0.2)
GOOD_SECONDS = 5.0  # a watch that lasts this long starts the back-off over
REFUSALS = 3
log = logging.getLogger(__name__)


class Item(NamedTuple):
    """An object: the bytes as the server sent them (an item of a list is encoded again), and the same parsed."""

    raw: bytes
    parsed: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = self.parsed.get("metadata") or {}
        return found


class Callbacks(NamedTuple):
    """Where a reflector brings what it reads. `failed` gets each error; reading goes on by itself afterwards, and
    `recovered` is called once it does. A refusal (401, 403) is not logged here: what it means, `failed` says."""

    replace: Callable[[list[Item]], None]
    upsert: Callable[[Item], None]
    delete: Callable[[Item], None]
    failed: Callable[[VkcriError], None] = lambda _error: None
    recovered: Callable[[], None] = lambda: None


class Reflector:
    """One resource, perhaps narrowed by selectors in `params`. Other threads read the counters for metrics.

    quiet: failures are logged at DEBUG only, for one of many that fail together."""

    def __init__(
        self,
        client: Client,
        path: str,
        callbacks: Callbacks,
        params: Mapping[str, str] | None = None,
        *,
        retry: Backoff = RETRY,
        watch_seconds: int = WATCH_SECONDS,
        read_timeout: float = READ_TIMEOUT,
        quiet: bool = False,
    ) -> None:
        self.path = path
        self.lists = self.watches = self.events = self.failures = 0
        self.last_error = ""
        self.synced = False
        self._client = client
        self._callbacks = callbacks
        self._params = dict(params or {})
        self._retry = retry
        self._watch_seconds = watch_seconds
        self._read_timeout = read_timeout
        self._level = logging.DEBUG if quiet else logging.WARNING
        self._version = ""
        self._refusals = 0
        self._ended = False
        self._stream: WatchStream | None = None

    def run(self, process: Process) -> None:
        """Keep reading until the process stops or `end` is called."""
        attempt = 0
        while not self._over(process):
            began, events = time.monotonic(), self.events
            delay = 0.0
            try:
                if not self._version:
                    self._list(process)
                self._watch(process)
                self._refusals = 0
            except VkcriError as error:
                delay = self._note(error)
            if self.events > events or time.monotonic() - began > GOOD_SECONDS:
                attempt = 0
            if delay or time.monotonic() - began < 1.0:
                process.wait(max(delay, self._retry.delay(attempt)))
                attempt += 1

    def end(self) -> None:
        """Make `run` return soon; any thread may call it."""
        self._ended = True
        stream = self._stream
        if stream is not None:
            stream.close()

    def _over(self, process: Process) -> bool:
        return self._ended or process.stopping.is_set()

    def _note(self, error: VkcriError) -> float:
        """What an error means for the next attempt; returns the shortest delay before it."""
        if self._over_quietly():
            return 0.0
        if not isinstance(error, Unavailable) or isinstance(error, Overloaded):
            self._refusals += 1
        if isinstance(error, Expired) or self._refusals >= REFUSALS:
            self._version, self._refusals = "", 0
        self.failures += 1
        if str(error) != self.last_error and not isinstance(error, Refused):
            log.log(self._level, "%s; trying again", error)
        self.last_error = str(error)
        self._callbacks.failed(error)
        return max(self._retry.first, getattr(error, "retry_after", None) or 0.0)

    def _over_quietly(self) -> bool:
        """Whether the error is only the echo of `end`."""
        return self._ended

    def _list(self, process: Process) -> None:
        """Read all of it, in pages; a list that expires half-way is asked for in one piece."""
        with process.expect(f"a list of {self.path}", 300):
            try:
                items, version = self._pages(500)
            except Expired as error:
                log.info("%s; asking for all at once", error)
                items, version = self._pages(0)
        self.lists += 1
        self._callbacks.replace(items)
        self._version = version
        self.synced = True
        self._recover()

    def _recover(self) -> None:
        if self.last_error:
            self.last_error = ""
            self._callbacks.recovered()

    def _pages(self, page: int) -> tuple[list[Item], str]:
        items: list[Item] = []
        version = ""
        for part in self._client.pages(self.path, params=self._params, page=page):
            about = {"kind": str(part.get("kind", "")).removesuffix("List"), "apiVersion": part.get("apiVersion", "")}
            # A list's items have neither kind nor apiVersion; a watch's objects do.
            items.extend(_item({**about, **entry}) for entry in part.get("items") or [])
            version = str((part.get("metadata") or {}).get("resourceVersion") or "")
        if not version:
            raise Unavailable(f"{self.path}: a list without resourceVersion")
        return items, version

    def _watch(self, process: Process) -> None:
        """Follow from the last version until the server ends it or the connection breaks."""
        params = {
            **self._params,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(self._watch_seconds),
        }
        self.watches += 1
        with process.expect(f"a watch of {self.path}", self._read_timeout + 30) as expectation:
            stream = self._client.watch(self.path, params=params, read_timeout=self._read_timeout)
            with stream:
                self._stream = stream
                if self._over(process):
                    return  # `end` came while the server was asked, and found no stream to close
                if self.last_error:
                    log.log(self._level, "%s: the watch runs again", self.path)
                    self._recover()
                for line in stream:
                    if self._over(process):
                        return
                    expectation.refresh()
                    self._take(line)

    def _take(self, line: bytes) -> None:
        kind, item = _event(self.path, line)
        if kind == "ERROR":
            raise status_error(f"WATCH {self.path}", int(item.parsed.get("code") or 500), item.parsed)
        if kind in ("ADDED", "MODIFIED"):
            self._callbacks.upsert(item)
        elif kind == "DELETED":
            self._callbacks.delete(item)
        elif kind != "BOOKMARK":
            raise Unavailable(f"{self.path}: a watch event of type {kind!r}")
        self.events += 1
        self._refusals = 0
        self._version = str(item.metadata.get("resourceVersion") or self._version)


_PREFIXES = {kind: f'{{"type":"{kind}","object":'.encode() for kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")}


def _event(path: str, line: bytes) -> tuple[str, Item]:
    """A watch's line: its type and its object, whose bytes are cut out of the line as they are where it is written as
    Kubernetes writes it. Raises Unavailable for what is no event."""
    line = line.strip()
    try:
        for kind, prefix in _PREFIXES.items():
            if line.startswith(prefix) and line.endswith(b"}"):
                raw = line[len(prefix) : -1]
                return kind, Item(raw, json.loads(raw))
        event = json.loads(line)
        return str(event["type"]), _item(event["object"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"{path}: a watch line that is no event: {error}") from error


def _item(parsed: dict[str, Any]) -> Item:
    return Item(json.dumps(parsed, separators=(",", ":"), ensure_ascii=False).encode(), parsed)
