"""What both of log-server's applications work with, and the few words that their routes share."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from flask import Flask, Response, request
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.routing import Rule

from vkcri.config import KubeletSettings
from vkcri.kubelet import metrics
from vkcri.kubelet.auth import Gate
from vkcri.kubelet.bounds import Streams
from vkcri.kubelet.follow import FolderWatches
from vkcri.kubelet.locate import ContainerLogs
from vkcri.kubelet.logs import Blocks, Options
from vkcri.kubelet.pods import Pods
from vkcri.kubelet.use import NodeUse

EVERY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

TEXT = "text/plain; charset=utf-8"


class Ask(Protocol):
    """A request of the queue: its JSON answer. Raises what the owner raises, Unavailable while it is away."""

    def __call__(self, name: str, body: Mapping[str, Any], timeout: float, /) -> Any: ...


@dataclass(frozen=True)
class Parts:
    """`ask` asks the provider, `ask_watcher` api-watcher. `streams`, `people`: the bounds of either application."""

    settings: KubeletSettings
    pods: Pods
    logs: ContainerLogs
    watches: FolderWatches
    counters: metrics.Counters
    gate: Gate
    ask: Ask
    ask_watcher: Ask
    use: NodeUse
    streams: Streams
    people: Streams
    now: Callable[[], float] = time.time


def plain(app: Flask, rule: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """A route that takes every method, as a handler of Go's router does; with no slash at its end."""
    return app.route(rule, methods=EVERY_METHOD, strict_slashes=True)


def is_plain(rule: Rule) -> bool:
    return rule.methods is not None and "OPTIONS" in rule.methods


def text(message: str, status: int = 200) -> Response:
    return Response(message, status, content_type=TEXT)


def stopped() -> Callable[[], bool]:
    """Whether this request's stream should end: its client has left, or the server drains."""
    connection, closing = request.environ["vkcri.connection"], request.environ["vkcri.closing"]
    return lambda: closing.is_set() or connection.disconnected()


def log_answer(blocks: Blocks, options: Options) -> Response:
    """A log as text. Raises what reading its beginning raises. Never with its length, however short: kube-apiserver
    drops bytes that come together with the end of the body where it copies a log to a WebSocket (wsstream.Reader)."""
    if options.follow:
        return _streamed(while_served(blocks))
    try:
        first = next(blocks, b"")
    except BaseException:
        blocks.close()
        raise
    return _streamed(Blocks(chain((first,), blocks), blocks.close))


def while_served(blocks: Blocks) -> Blocks:
    """A followed log, which breaks off where the server drains: a client must not take that for the log's own end."""

    def until_closing(closing: threading.Event) -> Iterator[bytes]:
        yield from blocks
        if closing.is_set():
            raise ServiceUnavailable("the server has ended, the log has not")

    return Blocks(until_closing(request.environ["vkcri.closing"]), blocks.close)


def _streamed(blocks: Blocks) -> Response:
    return Response(blocks, content_type=TEXT, direct_passthrough=True)
