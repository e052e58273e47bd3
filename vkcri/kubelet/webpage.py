"""The web page of the node and what it asks: one page, no build step, nothing from another host.

The page, its style and its script hold nothing private and need no token; everything they show does. An action wants
the token in a header, which no other site's page can send, and a browser that says whence it comes must come from here.
"""

import json
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

from vkcri.errors import VkcriError
from vkcri.instance import Instance
from vkcri.kubelet.parts import Parts, text
from vkcri.kubelet.programs import Programs
from vkcri.lifecycle import Process
from vkcri.queue import Subscription

USAGE_SECONDS = 10.0
MOST_EVENTS = 40
PUBLIC = ("/", "/page.css", "/page.js")
_TYPES = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
LOG = logging.getLogger(__name__)


class Happened:
    """The topic `events` of the roles that record any."""

    def __init__(self, instance: Instance) -> None:
        self._topics = [Subscription(instance.queue_socket(role), "events", lambda _: None) for role in _ROLES]

    def start(self, process: Process) -> None:
        for topic in self._topics:
            topic.start(process)

    def newest(self) -> list[dict[str, Any]]:
        """[{"type", "reason", "message", "object", "count", "last"}], the newest first."""
        found = [json.loads(value) for topic in self._topics for value in topic.items().values()]
        found.sort(key=lambda item: str(item.get("lastTimestamp")), reverse=True)
        return [_event(item) for item in found[:MOST_EVENTS]]


_ROLES = ("watcher", "provider", "proxy")


def add_routes(
    app: Flask, parts: Parts, programs: Programs, happened: Happened, pods: Callable[[], list[dict[str, Any]]]
) -> None:
    """pods(): the pods as the log API describes them."""

    @app.get("/page.css")
    def style() -> Response:
        return file("page.css")

    @app.get("/page.js")
    def script() -> Response:
        return file("page.js")

    @app.get("/overview")
    def overview() -> Response:
        try:
            listed: Any = programs.all()
        except VkcriError as error:
            LOG.debug("programs: %s", error)
            listed = None
        name = parts.settings.node_name
        return _json({"node": name, "pods": pods(), "programs": listed, "events": happened.newest()})

    @app.get("/usage")
    def usage() -> Response:
        return _json(parts.ask("usage", {}, USAGE_SECONDS))

    @app.post("/programs/<name>/restart")
    def restart(name: str) -> Response:
        LOG.info("%s is restarted at a person's request", name)
        programs.restart(name)
        return text(f"{name} is restarted\n")


def comes_from_here() -> bool:
    """Whether an action was asked for by our own page or by no browser at all: no other site's."""
    origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "same-origin")
    return origin in (None, f"http://{request.host}") and site in ("same-origin", "none")


@cache
def _read(name: str) -> bytes:
    return (Path(__file__).parent / "web" / name).read_bytes()


def file(name: str) -> Response:
    """One of the page's files."""
    return Response(_read(name), content_type=f"{_TYPES[name]}; charset=utf-8")


def _event(item: dict[str, Any]) -> dict[str, Any]:
    about = item.get("involvedObject") or {}
    return {
        **{key: item.get(key) for key in ("type", "reason", "message", "count")},
        "object": f"{str(about.get('kind')).lower()} {about.get('name')}",
        "last": item.get("lastTimestamp"),
    }


def _json(body: Any) -> Response:
    return Response(json.dumps(body), content_type="application/json")
