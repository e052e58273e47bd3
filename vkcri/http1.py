"""HTTP/1.1 as a server reads and writes it: a request's head and body, a response's framing.

`parse_head` is pure. `Wire` is one connection's bytes with a deadline on each read and write; `Body` and `Answer` are
one request's two halves on it. Used by vkcri.httpd alone, on the connection's own thread. It must not decide anything:
what is refused here is what RFC 9112 calls an error, with the status to answer as werkzeug's HTTPException.
"""

import io
import math
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from werkzeug import exceptions

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BODY_SECONDS = 60.0  # one read of a request's body
WRITE_SECONDS = 4 * 3600.0  # one write to a client that does not read, as the kubelet's WriteTimeout
HEAD_BYTES = 64 * 1024
DRAIN_BYTES = 256 * 1024  # of a body that the application left unread; more closes the connection

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!-~]+) HTTP/([0-9])\.([0-9])")
_HEADER_LINE = re.compile(rf"({_TOKEN}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[^\n]*)?\r?\n")
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Head:
    """A request's head, checked. `length` is 0 without a body and -1 for a chunked one."""

    method: str
    target: str
    http11: bool
    headers: _Headers
    length: int
    keep_alive: bool
    expects_continue: bool

    def items(self) -> _Headers:
        """As Werkzeug's make_environ reads headers."""
        return self.headers


def parse_head(data: bytes) -> Head:
    """The head of a request, request line to blank line. Raises werkzeug's HTTPException with the status to answer."""
    lines = data.decode("latin-1").rstrip("\r\n").split("\n")
    request_line = _REQUEST_LINE.fullmatch(lines[0].removesuffix("\r"))
    if request_line is None:
        raise exceptions.BadRequest("malformed request line")
    if request_line[3] != "1":
        raise exceptions.HTTPVersionNotSupported("HTTP/1.0 and HTTP/1.1 are spoken here")
    headers = []
    for line in lines[1:]:
        match = _HEADER_LINE.fullmatch(line.removesuffix("\r"))
        if match is None:
            raise exceptions.BadRequest("malformed header line")
        headers.append((match[1], match[2].rstrip(" \t")))
    http11 = request_line[4] != "0"
    if http11 and sum(name.lower() == "host" for name, _ in headers) != 1:
        raise exceptions.BadRequest("one Host header is required")
    connection = _tokens(headers, "connection")
    return Head(
        request_line[1],
        request_line[2],
        http11,
        headers,
        _body_length(headers),
        "close" not in connection and (http11 or "keep-alive" in connection),
        http11 and "100-continue" in _tokens(headers, "expect"),
    )


def _tokens(headers: _Headers, wanted: str) -> list[str]:
    """The comma-separated, lower-case values of one header."""
    values = (value for name, value in headers if name.lower() == wanted)
    return [token.strip().lower() for value in values for token in value.split(",") if token.strip()]


def _body_length(headers: _Headers) -> int:
    """Bytes of the body, -1 for chunked. Two lengths, or a length beside chunked, are refused: RFC 9112, 6.3."""
    lengths = _tokens(headers, "content-length")
    encodings = _tokens(headers, "transfer-encoding")
    if encodings and encodings != ["chunked"]:
        raise exceptions.NotImplemented("the only transfer encoding spoken here is chunked")
    if encodings and lengths:
        raise exceptions.BadRequest("both Content-Length and Transfer-Encoding")
    if encodings:
        return -1
    if len(set(lengths)) > 1 or any(not re.fullmatch("[0-9]{1,15}", length) for length in lengths):
        raise exceptions.BadRequest("malformed Content-Length")
    return int(lengths[0]) if lengths else 0


class _Reader(io.RawIOBase):
    """A connection's bytes, each read bounded by `deadline` (monotonic seconds)."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.deadline = math.inf
        self.dry = False  # read nothing more, so that the BufferedReader hands out what it holds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        if self.dry:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the client is too slow")
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Wire:
    """One connection's bytes. `broken` once a read or write failed: an OSError is then the client's, not a bug."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.broken = False
        self._reader = _Reader(connection)
        self._buffer = io.BufferedReader(self._reader, 65536)

    def within(self, seconds: float) -> None:
        """From now on all reads together may take this long; then TimeoutError."""
        self._reader.deadline = time.monotonic() + seconds

    def more(self) -> bool:
        """Wait for the client's next byte; False when it has closed."""
        return bool(self._buffer.peek(1))

    def read(self, limit: int) -> bytes:
        """What is there, at most `limit` bytes; waits for the first. Raises ClientDisconnected at the end of file."""
        return self._whole(self._buffer.read1, limit)

    def line(self, limit: int) -> bytes:
        """A line with its end; without one when it is longer than `limit`. Raises ClientDisconnected."""
        return self._whole(self._buffer.readline, limit)

    def _whole(self, read: Callable[[int], bytes], limit: int) -> bytes:
        try:
            data = read(limit)
        except OSError:
            self.broken = True
            raise
        if not data:
            self.broken = True
            raise exceptions.ClientDisconnected("the request ended early")
        return data

    def lines(self) -> bytes:
        """A head or a trailer: lines up to a blank one. Raises RequestHeaderFieldsTooLarge, ClientDisconnected."""
        lines: list[bytes] = []
        size = 0
        while not lines or lines[-1] not in (b"\r\n", b"\n"):
            lines.append(self.line(HEAD_BYTES - size + 1))
            size += len(lines[-1])
            if size > HEAD_BYTES:
                raise exceptions.RequestHeaderFieldsTooLarge("the request's head is too large")
        return b"".join(lines)

    def rest(self) -> bytes:
        """What was read ahead. Nothing can be read from this Wire afterwards."""
        self._reader.dry = True
        return b"".join(iter(lambda: self._buffer.read1(65536) or b"", b""))

    def send(self, data: bytes) -> None:
        """Write all of it. Raises OSError when the client is gone or has not read for WRITE_SECONDS."""
        try:
            self.connection.settimeout(WRITE_SECONDS)
            self.connection.sendall(data)
        except OSError:
            self.broken = True
            raise


class Body(io.RawIOBase):
    """A request's body, ended by its length or by its last chunk. One cut short or malformed is ClientDisconnected."""

    def __init__(self, wire: Wire, head: Head) -> None:
        self._wire = wire
        self._chunked = head.length < 0
        self._left = max(head.length, 0)  # of the body, or of the chunk at hand
        self.finished = head.length == 0
        self._continue_due = head.expects_continue and not self.finished

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        if self.finished or not view:
            return 0
        if self._continue_due:
            self._continue_due = False
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._wire.within(BODY_SECONDS)
        if self._chunked and not self._left and not self._next_chunk():
            return 0
        data = self._wire.read(min(len(view), self._left))
        view[: len(data)] = data
        self._left -= len(data)
        if not self._left:
            self.finished = not self._chunked
            self._end_chunk()
        return len(data)

    def _next_chunk(self) -> bool:
        """Read a chunk's size; False after the last chunk and its trailers."""
        size = _CHUNK_SIZE.fullmatch(self._wire.line(256))
        if size is None:
            raise self._malformed("chunk size")
        self._left = int(size[1], 16)
        if not self._left:
            self._wire.lines()
            self.finished = True
        return not self.finished

    def _end_chunk(self) -> None:
        if self._chunked and self._wire.line(2) not in (b"\r\n", b"\n"):
            raise self._malformed("end of a chunk")

    def _malformed(self, what: str) -> exceptions.HTTPException:
        self._wire.broken = True
        return exceptions.ClientDisconnected(f"malformed {what}")

    def drain(self) -> bool:
        """Read what the application left, within a bound; whether the next request can be read after it."""
        left = DRAIN_BYTES
        while not self.finished and not self._continue_due and not self._wire.broken and left > 0:
            left -= len(self.read(min(left, 65536)) or b"")
        return self.finished


class Answer:
    """One response: the WSGI side (start, write, end) and its framing on the wire."""

    def __init__(self, wire: Wire, head: Head, *, keep_alive: bool) -> None:
        self._wire = wire
        self._bodiless, self._http11 = head.method == "HEAD", head.http11
        self.keep_alive = keep_alive
        self.status = "200 OK"
        self._headers: _Headers = []
        self.sent = False
        self._chunked = False
        self._left = math.inf  # bytes that Content-Length still promises

    def start(self, status: str, headers: _Headers, exc_info: Any = None, /) -> Callable[[bytes], object]:
        """WSGI's start_response."""
        if self.sent and exc_info:
            raise exc_info[1].with_traceback(exc_info[2])
        self.status, self._headers = status, headers
        return self.write

    def _begin(self) -> bytes:
        """The head's bytes; decides how the body ends."""
        names = {name.lower(): value for name, value in self._headers}
        self.keep_alive = self.keep_alive and names.get("connection", "").lower() != "close"
        headers = [(name, value) for name, value in self._headers if name.lower() not in ("connection", "server")]
        self._bodiless = self._bodiless or int(self.status[:3]) in _BODILESS
        if self._bodiless:
            self._left = 0
        elif "content-length" in names:
            self._left = int(names["content-length"])
        elif self._http11:
            self._chunked = True
            headers.append(("Transfer-Encoding", "chunked"))
        else:
            self.keep_alive = False
        headers += [("Server", "vkcri"), ("Connection", "keep-alive" if self.keep_alive else "close")]
        if "date" not in names:
            headers.append(("Date", formatdate(usegmt=True)))
        self.sent = True
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def write(self, data: bytes) -> None:
        """Send one item of the body, the head before the first; an empty item sends the head alone."""
        prefix = b"" if self.sent else self._begin()
        if len(data) > self._left:
            data = data[: int(self._left)]
        self._left -= len(data)
        if self._chunked and data:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if prefix or data:
            self._wire.send(prefix + data)

    def end(self) -> None:
        """The body is whole. One shorter than its Content-Length closes the connection, so that the client sees it."""
        if not self.sent:
            self.write(b"")
        if self._chunked:
            self._wire.send(b"0\r\n\r\n")
        elif self._left:
            self.keep_alive = False
