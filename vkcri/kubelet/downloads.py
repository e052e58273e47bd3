"""A whole log as a file that the browser itself saves: no script holds a gigabyte in memory.

A browser follows a link without our header, so the page first asks for a ticket, as for any action: with the token,
from our own page only. A ticket is good for one download of one log, within a minute, and so tells nothing where the
link is seen later. Runs on request threads.
"""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from flask import Flask, Response, request

from vkcri.errors import NotFound
from vkcri.kubelet.logs import Options
from vkcri.kubelet.parts import Parts, stopped, text

PATH = "/download"
SECONDS = 60.0
MOST = 64


@dataclass(frozen=True)
class Wanted:
    """One container's log."""

    namespace: str
    pod: str
    container: str
    previous: bool

    @property
    def file(self) -> str:
        """Its name where it is saved: names in Kubernetes hold nothing but letters, digits, dots and dashes."""
        return f"{self.namespace}_{self.pod}_{self.container}{'.previous' if self.previous else ''}.log"


class Tickets:
    """What may be downloaded once, and until when; the oldest go first beyond MOST. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[float, Wanted]] = OrderedDict()

    def give(self, wanted: Wanted) -> str:
        ticket = secrets.token_urlsafe(32)
        with self._lock:
            self._held[ticket] = self._clock() + SECONDS, wanted
            while len(self._held) > MOST:
                self._held.popitem(last=False)
        return ticket

    def take(self, ticket: str) -> Wanted | None:
        """What it is for; None for one that is used, too old or none of ours."""
        with self._lock:
            until, wanted = self._held.pop(ticket, (0.0, None))
        return wanted if until > self._clock() else None


def add_routes(app: Flask, parts: Parts, tickets: Tickets) -> None:
    """POST /downloads/NAMESPACE/POD/CONTAINER gives a ticket, GET /download?ticket= the file."""

    @app.post("/downloads/<namespace>/<pod>/<container>")
    def ticket(namespace: str, pod: str, container: str) -> Response:
        wanted = Wanted(namespace, pod, container, request.args.get("previous") == "1")
        parts.logs.open(namespace, pod, container, Options(tail=0, previous=wanted.previous), stopped()).close()
        return text(tickets.give(wanted))

    @app.get(PATH)
    def download() -> Response:
        wanted = tickets.take(request.args.get("ticket", ""))
        if wanted is None:
            raise NotFound("this link was used, or is too old: ask for another one")
        options = Options(previous=wanted.previous)
        blocks = parts.logs.open(wanted.namespace, wanted.pod, wanted.container, options, stopped())
        response = Response(blocks, content_type="text/plain; charset=utf-8", direct_passthrough=True)
        response.headers["Content-Disposition"] = f'attachment; filename="{wanted.file}"'
        return response
