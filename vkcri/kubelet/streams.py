"""exec, attach and port-forward: the client's upgrade handed to the URL that the provider gives, then bytes.

Runs on the request's thread, which carries the connection until its end. It speaks neither SPDY nor WebSocket: the
request goes to the runtime's stream server with the client's own headers, the answer comes back as it is. (What no
runtime speaks is vkcri.kubelet.translated's.) What it must not pass on is the caller's credentials. A connection
outlives restarts of api-watcher and cri-bridge; one that is cut because log-server ends is told so (vkcri.farewell).
"""

import http.client
import io
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from flask import Request, Response
from werkzeug.datastructures import MultiDict

from vkcri import splice
from vkcri.errors import Invalid, Unavailable
from vkcri.farewell import farewell

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from vkcri.connection import Connection

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
DRAIN_SECONDS = 10.0  # how long an open stream may go on once log-server stops: what its end leaves of stopwaitsecs=20
CUT_SECONDS = 4.0  # from then on until its socket is closed, whatever it does: to be told, and to say good-bye
_HEAD_BYTES = 64 * 1024
_BODY_BYTES = 1024 * 1024
_NOT_PASSED = frozenset(("authorization", "host", "cookie", "content-length", "x-forwarded-for"))
LOG = logging.getLogger(__name__)


def exec_body(uid: str, container: str, query: MultiDict[str, str]) -> dict[str, Any]:
    """The provider's `exec` request for a kubelet URL's query. Raises Invalid in the kubelet's words."""
    return {**attach_body(uid, container, query), "command": query.getlist("command")}


def attach_body(uid: str, container: str, query: MultiDict[str, str]) -> dict[str, Any]:
    """The provider's `attach` request. A terminal has no stderr of its own."""
    wanted = {name: query.get(key) == "1" for name, key in _STREAMS.items()}
    wanted["stderr"] = wanted["stderr"] and not wanted["tty"]
    if not (wanted["stdin"] or wanted["stdout"] or wanted["stderr"]):
        raise Invalid("you must specify at least 1 of stdin, stdout, stderr")
    return {"uid": uid, "container": container, **wanted}


def forward_body(uid: str, query: MultiDict[str, str], *, websocket: bool) -> dict[str, Any]:
    """The provider's `port-forward` request. SPDY names its ports later, in stream headers; WebSocket here."""
    texts = [text for value in query.getlist("port") for text in value.split(",")] if websocket else []
    if websocket and not texts:
        raise Invalid('query parameter "port" is required')
    ports = [int(text) if text.isdecimal() and len(text) < 6 else 0 for text in texts]
    for text, port in zip(texts, ports, strict=True):
        if not 1 <= port <= 65535:
            raise Invalid(f'unable to parse "{text}" as a port')
    return {"uid": uid, "ports": ports}


_STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}


def is_upgrade(request: Request) -> bool:
    """Whether the client asks for another protocol on this connection."""
    tokens = request.headers.get("Connection", "").lower().replace(" ", "").split(",")
    return "upgrade" in tokens and bool(request.headers.get("Upgrade"))


def is_websocket(request: Request) -> bool:
    return is_upgrade(request) and request.headers.get("Upgrade", "").lower() == "websocket"


def carry(request: Request, url: str, closing_down: Callable[[], bool], last_words: str = "") -> Response:
    """Forward the client's upgrade to `url` and carry its bytes to the end. A refusal of the runtime is returned as it
    came. last_words: what exec or attach is told when `closing_down` cuts it. Raises Unavailable where the runtime's
    stream server cannot be reached or does not answer."""
    target = urlsplit(url)
    connection: Connection = request.environ["vkcri.connection"]
    with closing(connect(target)) as backend:
        try:
            backend.settimeout(ANSWER_SECONDS)
            backend.sendall(request_head(request.method, target, connection.head.headers))
            head, rest = read_head(backend)
        except OSError as error:
            raise Unavailable(f"the runtime's stream server {target.netloc}: {error}") from error
        if head.split(b" ", 2)[1:2] != [b"101"]:
            return refusal(backend, head, rest)
        client, early = connection.take_over()
        words = farewell(head, last_words) if last_words else None
        if words is not None:
            words.from_client(early)
            words.from_backend(rest)
        sent = splice.splice(
            client, backend, to_client=head + rest, to_backend=early, stop=closing_down, farewell=words
        )
        LOG.debug("%s: a stream ended, %d bytes out, %d in", request.path, *sent)
    return Response()  # not sent: the connection was taken over


def connect(target: SplitResult) -> socket.socket:
    """To the runtime's stream server. Raises Unavailable."""
    secure = target.scheme == "https"
    if target.scheme not in ("http", "https") or not target.hostname:
        raise Unavailable(f"the provider gave no URL to stream to but {target.scheme}://{target.netloc}")
    address = (target.hostname, target.port or (443 if secure else 80))
    try:
        backend = socket.create_connection(address, CONNECT_SECONDS)
    except OSError as error:
        raise Unavailable(f"the runtime's stream server {target.netloc}: {error}") from error
    backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not secure:
        return backend
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # self-signed; the URL holds a one-time token
    try:
        return context.wrap_socket(backend)
    except OSError as error:
        backend.close()
        raise Unavailable(f"the runtime's stream server {target.netloc}: {error}") from error


def request_head(method: str, target: SplitResult, headers: list[tuple[str, str]]) -> bytes:
    """The client's request for another path and host: repeated headers stay repeated and in order."""
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"Host: {target.netloc}"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in _NOT_PASSED]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_head(backend: socket.socket) -> tuple[bytes, bytes]:
    """The answer's head, blank line included, and what came with it. Raises OSError."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = backend.recv(65536)
        if not more or len(data) > _HEAD_BYTES:
            raise ConnectionError("no answer to the upgrade")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def refusal(backend: socket.socket, head: bytes, rest: bytes) -> Response:
    """The runtime's answer that is no upgrade, body included. Raises Unavailable where it is none at all."""
    reader = io.BufferedReader(_Replay(head + rest, backend))
    try:
        answer = http.client.HTTPResponse(_Readable(reader))  # type: ignore[arg-type]  # makefile() is all it uses
        answer.begin()
        body = answer.read(_BODY_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"the runtime's stream server gave no answer that is understood: {error}") from error
    return Response(body, answer.status, content_type=answer.headers.get("Content-Type", "text/plain"))


class _Replay(io.RawIOBase):
    """A socket whose first bytes were read already."""

    def __init__(self, first: bytes, backend: socket.socket) -> None:
        self._first, self._backend = first, backend

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if not self._first:
            return self._backend.recv_into(buffer)
        view = memoryview(buffer).cast("B")
        part, self._first = self._first[: len(view)], self._first[len(view) :]
        view[: len(part)] = part
        return len(part)


class _Readable:
    """What http.client asks of a socket."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader

    def makefile(self, mode: str) -> io.BufferedReader:
        del mode
        return self._reader
