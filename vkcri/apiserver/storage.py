"""The store: every object of the embedded API server as JSON in SQLite, one resourceVersion counter, watches.

Crash-only: each change is one transaction that writes the object and its event, so that a restart finds both or
neither, the counter is the newest event's version, and watches resume over a restart as far as the kept events go.
One connection under one lock serves all threads (8,300 transactions a second were measured; a node makes some ten);
parsing happens outside it. Must not know what an object means: that is strategy's.

WAL with synchronous=NORMAL survives the death of any process; a power cut may lose the last moments, as a whole.
"""

import base64
import binascii
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vkcri.apiserver.status import StatusError
from vkcri.apiserver.watch import ADDED, BOOKMARK, DELETED, MODIFIED, Delivery, Event, History, Predicate, Watch, encode
from vkcri.errors import ConfigError, Unavailable

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (resource, namespace, name));
CREATE TABLE IF NOT EXISTS events (
    rv INTEGER PRIMARY KEY, resource TEXT NOT NULL, type TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    value BLOB NOT NULL, prior BLOB);
CREATE TABLE IF NOT EXISTS compacted (resource TEXT PRIMARY KEY, rv INTEGER NOT NULL);
"""
_COMPACT_EVERY = 100  # events between two deletions of what no watch can ask for any more
_BATCH = 500
_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)
_Rows = list[tuple[str, str, bytes]]  # namespace, name, value
_Deliveries = list[Delivery]


def qualified(resource_key: str) -> str:
    """`apps/deployments` -> `deployments.apps`, `/pods` -> `pods`: how messages name a resource."""
    group, _, plural = resource_key.partition("/")
    return f"{plural}.{group}" if group else plural


class Store:
    """All objects by resource key (`group/plural`: "/pods", "apps/deployments"), namespace ("" where it has none) and
    name. Objects go in and out as dicts of the caller's own. Raises StatusError; Unavailable where SQLite fails;
    ConfigError for a file that is no store."""

    def __init__(
        self, path: Path, *, synchronous: str = "NORMAL", most_events: int = 500, most_bytes: int = 2 << 20
    ) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.RLock()
        self._bounds = {"most_events": most_events, "most_bytes": most_bytes}
        self._histories: dict[str, History] = {}
        self._pending: list[tuple[str, Event]] = []
        self._depth = 0
        self._since_compaction = 0
        self._rv = 0  # the newest version given out, seen by watches only once its transaction has ended
        self._published = 0
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={synchronous}")
            self._db.execute("PRAGMA cache_size=-2000")
            self._db.executescript(_SCHEMA)
            self._load_histories()
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"{path} is no usable store ({error}): put a good copy there, or begin anew: make reset"
            ) from error

    def wake_watches(self) -> None:
        """Let every waiting watch look at once whether it is still wanted."""
        with self._lock:
            histories = list(self._histories.values())
        for history in histories:
            with history.changed:
                history.changed.notify_all()

    def close(self) -> None:
        """Let go of the file; nothing may be asked of the store any more."""
        with self._lock:
            self._db.close()

    # Reading

    def current_rv(self) -> int:
        """The newest resourceVersion whose change every watch can see."""
        return self._published

    def get(self, resource_key: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, or None."""
        value = self._read(resource_key, namespace, name)
        return None if value is None else json.loads(value)

    def list(
        self,
        resource_key: str,
        namespace: str | None = None,
        *,
        predicate: Predicate | None = None,
        limit: int = 0,
        continue_: str | None = None,
    ) -> tuple[list[dict[str, Any]], int, str, int | None]:
        """(objects in order of namespace and name, the list's resourceVersion, the token for the next page or "",
        how many remain or None where a predicate keeps that from being known). `namespace` None: all of them.

        A later page shows the state of now but keeps the first page's version, so that a watch from it replays what
        happened in between. Raises StatusError 410 once that version is too old to watch from, with a token that goes
        on without it: the rest then has the version of now. 400 for a bad token.
        """
        start, rv = ("", ""), None
        if continue_:
            rv, start = _parse_continue(continue_)
            if rv is not None and rv < self._history(resource_key).compacted:
                raise StatusError.expired(_TOO_OLD, token=_format_continue(None, start))
        found: list[dict[str, Any]] = []
        last = start
        for batch, batch_rv in self._pages(resource_key, namespace, start, bool(limit)):
            rv = batch_rv if rv is None else rv
            for row_namespace, name, value in batch:
                obj = json.loads(value)
                if predicate is not None and not predicate(obj):
                    continue
                if limit and len(found) == limit:
                    remaining = None if predicate else self._count(resource_key, namespace, last)
                    return found, rv, _format_continue(rv, last), remaining
                found.append(obj)
                last = (row_namespace, name)
        return found, self._published if rv is None else rv, "", None

    def watch(
        self,
        resource_key: str,
        namespace: str | None = None,
        since_rv: int | None = None,
        *,
        predicate: Predicate | None = None,
        timeout: float | None = None,
        bookmark_interval: float | None = None,
        mark_initial_end: bool = False,
    ) -> Watch:
        """Changes after `since_rv`; None: first an ADDED for every object there is, and with `mark_initial_end` a
        bookmark that says so. `timeout` seconds in all, a bookmark every `bookmark_interval` seconds. Raises
        StatusError 410 for a version too old, or not yet given."""
        history = self._history(resource_key)
        initial: list[Delivery] = []
        with self._lock:
            if since_rv is None:
                since_rv = self._published
                initial = self._initial(resource_key, namespace, predicate)
                if mark_initial_end:
                    initial.append(Delivery(BOOKMARK, b"", since_rv, initial_end=True))
            elif since_rv > self._published:
                raise StatusError.expired(f"resource version {since_rv} is newer than this server's {self._published}")
            else:
                with history.changed:
                    history.since(since_rv)
        return Watch(
            history,
            since_rv,
            published=self.current_rv,
            initial=initial,
            namespace=namespace,
            predicate=predicate,
            timeout=timeout,
            bookmark_interval=bookmark_interval,
        )

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Several reads and writes as one: others see all or, when it raises, nothing. Nests; keep it short, every
        other thread waits."""
        with self._lock:
            if self._depth:
                yield
                return
            self._depth += 1
            try:
                self._execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._execute("COMMIT")
                except BaseException:
                    self._pending.clear()
                    self._rv = self._published
                    if self._db.in_transaction:
                        self._execute("ROLLBACK")
                    raise
                self._publish()
            finally:
                self._depth -= 1

    def create(self, resource_key: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Store a new object and return it with its resourceVersion. Raises StatusError 409 AlreadyExists."""
        namespace, name = _key(obj)
        with self.transaction():
            if self._read(resource_key, namespace, name) is not None:
                raise StatusError.already_exists(qualified(resource_key), name)
            return self._write(resource_key, ADDED, obj, None)

    def update(self, resource_key: str, obj: dict[str, Any], *, expected: str | None) -> dict[str, Any]:
        """Replace an object if it still has the resourceVersion `expected` (None: whatever it has). Content that is
        equal is not written and keeps its version. Raises StatusError 404, 409 Conflict."""
        namespace, name = _key(obj)
        with self.transaction():
            prior = self._must_read(resource_key, namespace, name)
            old = json.loads(prior)
            if expected is not None and old["metadata"]["resourceVersion"] != expected:
                raise StatusError.conflict(qualified(resource_key), name)
            if _with_rv(obj, old["metadata"]["resourceVersion"]) == old:
                return old  # type: ignore[no-any-return]
            return self._write(resource_key, MODIFIED, obj, prior)

    def modify(
        self, resource_key: str, namespace: str, name: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]
    ) -> dict[str, Any]:
        """Read, change and write in one transaction: `change` gets the object and returns the new one (it may change
        in place), or None to leave it. Returns what is stored afterwards. Raises StatusError 404."""
        with self.transaction():
            prior = self._must_read(resource_key, namespace, name)
            old = json.loads(prior)
            new = change(json.loads(prior))
            if new is None or _with_rv(new, old["metadata"]["resourceVersion"]) == old:
                return old  # type: ignore[no-any-return]
            return self._write(resource_key, MODIFIED, new, prior)

    def delete(self, resource_key: str, namespace: str, name: str) -> dict[str, Any]:
        """Remove an object for good and return its last state with the deletion's resourceVersion. What the deletion
        demands of it is checked before (deletion.check_preconditions). Raises StatusError 404."""
        with self.transaction():
            prior = self._must_read(resource_key, namespace, name)
            old = json.loads(prior)
            self._execute(
                "DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", (resource_key, namespace, name)
            )
            return self._record(resource_key, DELETED, old, prior)[0]

    # Inside: the caller holds the lock, save where it says otherwise

    def _execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path}: {error}") from error

    def _read(self, resource_key: str, namespace: str, name: str) -> bytes | None:
        statement = "SELECT value FROM objects WHERE resource=? AND namespace=? AND name=?"
        with self._lock:
            row = self._execute(statement, (resource_key, namespace, name)).fetchone()
        return None if row is None else row[0]

    def _must_read(self, resource_key: str, namespace: str, name: str) -> bytes:
        value = self._read(resource_key, namespace, name)
        if value is None:
            raise StatusError.not_found(qualified(resource_key), name)
        return value

    def _pages(
        self, resource_key: str, namespace: str | None, start: tuple[str, str], paged: bool
    ) -> Iterator[tuple[_Rows, int]]:
        """Rows after `start` in batches, each with the version at its reading; one batch (one moment) unless paged."""
        size = _BATCH if paged else -1
        statement = "SELECT namespace, name, value FROM objects WHERE resource=? AND (namespace, name) > (?, ?)"
        if namespace is not None:
            statement += " AND namespace=?"
        statement += " ORDER BY namespace, name LIMIT ?"
        scope = () if namespace is None else (namespace,)
        while True:
            with self._lock:
                rows = self._execute(statement, (resource_key, *start, *scope, size)).fetchall()
                rv = self._published
            yield rows, rv
            if not paged or len(rows) < size:
                return
            start = rows[-1][:2]

    def _count(self, resource_key: str, namespace: str | None, after: tuple[str, str]) -> int:
        statement = "SELECT count(*) FROM objects WHERE resource=? AND (namespace, name) > (?, ?)"
        scope: tuple[str, ...] = ()
        if namespace is not None:
            statement, scope = statement + " AND namespace=?", (namespace,)
        with self._lock:
            return int(self._execute(statement, (resource_key, *after, *scope)).fetchone()[0])

    def _initial(self, resource_key: str, namespace: str | None, predicate: Predicate | None) -> _Deliveries:
        """Every object as an ADDED delivery with the version of its own last change."""
        rows = next(self._pages(resource_key, namespace, ("", ""), False))[0]
        found: list[Delivery] = []
        for _, _, value in rows:
            obj = json.loads(value)
            if predicate is None or predicate(obj):
                found.append(Delivery(ADDED, value, int(obj["metadata"]["resourceVersion"])))
        return found

    def _write(self, resource_key: str, type_: str, obj: dict[str, Any], prior: bytes | None) -> dict[str, Any]:
        stored, value = self._record(resource_key, type_, obj, prior)
        self._execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (resource_key, *_key(stored), value))
        return stored

    def _record(
        self, resource_key: str, type_: str, obj: dict[str, Any], prior: bytes | None
    ) -> tuple[dict[str, Any], bytes]:
        """Give the change the next version and write its event, seen by watches once the transaction has ended."""
        self._rv += 1
        stored = _with_rv(obj, str(self._rv))
        value = encode(stored)
        event = Event(self._rv, type_, *_key(stored), value, prior)
        row = (event.rv, resource_key, type_, event.namespace, event.name, value, prior)
        self._execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._pending.append((resource_key, event))
        return json.loads(value), value

    def _publish(self) -> None:
        """Show the committed changes to the watches; the version comes last, for bookmarks rely on that."""
        pending, self._pending = self._pending, []
        for resource_key, event in pending:
            self._history(resource_key).append(event)
        self._published = self._rv
        self._since_compaction += len(pending)
        if self._since_compaction >= _COMPACT_EVERY:
            self._since_compaction = 0
            self._compact()

    def _compact(self) -> None:
        """Delete the events that left the histories' windows."""
        ends = [(key, history.compacted) for key, history in self._histories.items() if history.compacted]
        try:
            with self._db:  # commits, or rolls back
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("DELETE FROM events WHERE resource=? AND rv<=?", ends)
                self._db.executemany("INSERT OR REPLACE INTO compacted VALUES (?, ?)", ends)
        except sqlite3.Error as error:
            log.warning("%s: old events were not removed, tried again later: %s", self._path, error)

    def _history(self, resource_key: str) -> History:
        with self._lock:
            return self._histories.setdefault(resource_key, History(**self._bounds))

    def _load_histories(self) -> None:
        for resource_key, rv in self._db.execute("SELECT resource, rv FROM compacted"):
            self._histories[resource_key] = History(**self._bounds, compacted=rv)
        for rv, resource_key, *rest in self._db.execute(
            "SELECT rv, resource, type, namespace, name, value, prior FROM events ORDER BY rv"
        ):
            self._history(resource_key).append(Event(rv, *rest))
            self._rv = rv
        self._published = self._rv


def check_preconditions(resource_key: str, obj: dict[str, Any], preconditions: dict[str, Any] | None) -> None:
    """Raise StatusError 409 unless `obj` has the uid and resourceVersion that the preconditions name."""
    metadata = obj["metadata"]
    for name, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted = (preconditions or {}).get(name)
        if wanted is not None and wanted != metadata.get(name):
            why = (
                f"Precondition failed: {label} in precondition: {wanted}, {label} in object meta: {metadata.get(name)}"
            )
            raise StatusError.conflict(qualified(resource_key), metadata["name"], why)


def _key(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _with_rv(obj: dict[str, Any], rv: str) -> dict[str, Any]:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": rv}}


def _format_continue(rv: int | None, last: tuple[str, str]) -> str:
    """rv None: whichever the next page finds."""
    return base64.urlsafe_b64encode(json.dumps([rv, *last]).encode()).decode()


def _parse_continue(token: str) -> tuple[int | None, tuple[str, str]]:
    try:
        rv, namespace, name = json.loads(base64.urlsafe_b64decode(token))
        return None if rv is None else int(rv), (str(namespace), str(name))
    except (ValueError, TypeError, binascii.Error) as error:
        raise StatusError.bad_request("invalid continue token: continue key is not valid") from error
