"""A watch over HTTP: one JSON line an event, in the form that the client asked for.

Runs in the watch's own request thread, which mostly waits; every few seconds it looks whether its client or the server
is going, for a watch may have nothing to send for minutes. A watch that cannot go on ends with an ERROR event that
carries the Status (410: list again), as Kubernetes' does.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from vkcri.apiserver import requestoptions, selection, table
from vkcri.apiserver.negotiate import JSON, Form
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.verbs import Call, flag
from vkcri.apiserver.watch import BOOKMARK, Delivery, Watch

BOOKMARK_SECONDS: Final = 55.0
LOOK_SECONDS: Final = 2.0  # between two looks at whether anybody is still there
_SHORTEST: Final = 1800.0  # seconds that a watch without timeoutSeconds lasts at least; at most twice that
_INITIAL_END: Final = {"k8s.io/initial-events-end": "true"}


def open_watch(call: Call, *, bookmark_seconds: float = BOOKMARK_SECONDS) -> Watch:
    """The watch that a request asks for. Raises StatusError 400 and 422 for its parameters, 410
    for its version."""
    query = call.query
    bookmarks = flag(query, "allowWatchBookmarks")
    initial = flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None
    requestoptions.check(query, watch=True)
    timeout = requestoptions.number(query, "timeoutSeconds") or _SHORTEST * (1 + random.random())
    return call.ctx.store.watch(
        call.resource.key,
        call.scope,
        _since(call, initial),
        predicate=selection.predicate(call.resource, query),
        timeout=timeout,
        bookmark_interval=bookmark_seconds if bookmarks else None,
        mark_initial_end=bool(initial) and bookmarks,
    )


def answer(call: Call, form: Form, alive: Callable[[], bool]) -> Iterator[bytes]:
    """The answer's body, an item an event, after an empty one that sends the head. `alive()`: whether anybody still
    wants it. Raises StatusError 400, 406 before it begins; a version that is too old is an event, as in Kubernetes."""
    shape = _Shape(call.resource, form, call.query.get("includeObject", "Metadata"))
    try:
        watch = open_watch(call)
    except StatusError as error:
        if error.code != 410:
            raise
        return iter([error_line(error)])
    return _lines(shape, watch, alive)


def _lines(shape: "_Shape", watch: Watch, alive: Callable[[], bool]) -> Iterator[bytes]:
    try:
        yield b""
        for delivery in watch.deliveries(alive=alive, poll=LOOK_SECONDS):
            yield shape.line(delivery)
    except StatusError as error:
        yield error_line(error)
    finally:
        watch.close()


def error_line(error: StatusError) -> bytes:
    """The event that ends a watch."""
    return _line("ERROR", json.dumps(error.as_status()).encode())


def _since(call: Call, initial: bool | None) -> int | None:
    """The version to start after; None: begin with what is there."""
    text = call.query.get("resourceVersion", "")
    if text not in ("", "0") and not (text.isascii() and text.isdigit()):
        raise StatusError.bad_request(f'resourceVersion: Invalid value: "{text}": not a version of this server')
    if initial is not None:
        return None if initial else int(text or 0) or call.ctx.store.current_rv()
    return None if text in ("", "0") else int(text)


class _Shape:
    """How one client wants its events."""

    def __init__(self, resource: Resource, form: Form, include: str) -> None:
        if form.media != JSON:
            raise StatusError.not_acceptable("a watch is served as application/json")
        self._resource = resource
        self._form = form
        self._include = include
        self._columns_sent = False

    def line(self, delivery: Delivery) -> bytes:
        if delivery.type != BOOKMARK and not self._form.transform:
            return _line(delivery.type, delivery.value)
        obj = self._bookmark(delivery) if delivery.type == BOOKMARK else json.loads(delivery.value)
        shown = self._transformed(obj) if self._form.transform else obj
        return _line(delivery.type, json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode())

    def _bookmark(self, delivery: Delivery) -> dict[str, Any]:
        metadata: dict[str, Any] = {"resourceVersion": str(delivery.rv)}
        if delivery.initial_end:
            metadata["annotations"] = _INITIAL_END
        return {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": metadata}

    def _transformed(self, obj: dict[str, Any]) -> dict[str, Any]:
        """A bookmark is a row too, of an object that has nothing but its metadata."""
        if self._form.transform != "Table":
            return table.partial(obj, self._form.version)
        shown = table.table(
            self._resource,
            [obj],
            self._form.version,
            include=self._include,
            metadata={"resourceVersion": obj["metadata"]["resourceVersion"]},
            columns=not self._columns_sent,
        )
        self._columns_sent = True
        return shown


def _line(type_: str, value: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (type_.encode(), value)
