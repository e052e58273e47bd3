"""One client of the HTTP server (vkcri.httpd), from the end of its handshake to its close.

Runs on the connection's own thread, which alone touches its TLS state. A request's head and the wait for the next one
each have a deadline, and what a verified client certificate said must still hold at each request. The wire itself is
vkcri.http1's.
"""

import fcntl
import logging
import math
import socket
import ssl
import struct
import termios
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader, BytesIO
from typing import TYPE_CHECKING, Any

from werkzeug import exceptions
from werkzeug.serving import WSGIRequestHandler

from vkcri.http1 import WRITE_SECONDS, Answer, Body, Head, Wire, parse_head

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from vkcri.httpd import Server

LOG = logging.getLogger(__name__)

HEAD_SECONDS = 15.0  # from a request's first byte to the end of its head
IDLE_SECONDS = 90.0  # between two requests of a connection, as the kubelet's IdleTimeout
LINGER_SECONDS = 1.0  # after a close of ours, so that the answer is read before a reset can destroy it


class Connection(WSGIRequestHandler):
    """One client, from the end of its handshake to its close: requests one after another, on this thread alone."""

    server: "Server"
    head: Head  # of the request at hand, its headers as they came
    idle = True  # waits for a request's first byte

    def __init__(self, slot: "Slot", address: Any, server: "Server") -> None:
        self._context = slot.context
        self._certificate_end = _certificate_end(slot.socket)
        slot.client = self
        super().__init__(slot.socket, address, server)  # the connection's whole life: setup, handle, finish

    def setup(self) -> None:
        self.connection = self.request
        self._wire = Wire(self.connection)
        self.rfile = BytesIO()  # make_environ wants one; _answer puts the body in its place
        self._first = True
        self._linger = False
        self._taken = False

    def take_over(self) -> tuple[socket.socket, bytes]:
        """Hand the connection to the caller for an upgrade: its socket and the bytes that came after the request's
        head. The server then writes nothing more, and closes the socket once the application has returned."""
        self._taken = True
        return self.connection, self._wire.rest()

    def disconnected(self) -> bool:
        """Whether the client has closed: for a stream with nothing to send. Reads nothing, and never blocks."""
        try:
            self.connection.settimeout(0)
            first = socket.socket.recv(self.connection, 1, socket.MSG_PEEK)  # past SSLSocket's own, which has no peek
        except BlockingIOError:
            return False
        except OSError:
            return True
        return not first or (isinstance(self.connection, ssl.SSLSocket) and first == b"\x15")  # an alert: close_notify

    def handle(self) -> None:
        while self._handle_request():
            self._first = False

    def finish(self) -> None:
        """Close politely: close_notify, then a short linger where the client may still be sending."""
        try:
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.settimeout(LINGER_SECONDS if self._taken else 0)
                _unwrap(self.connection)
            self.connection.shutdown(socket.SHUT_WR)
            if self._linger or self._taken:
                self._hear_out()
        except OSError as error:
            LOG.debug("%s is gone already: %s", self.client_address[0], error)

    def _hear_out(self) -> None:
        """Drop what the client still sends, until it closes or LINGER_SECONDS are over; of an upgraded connection they
        begin once the client has all that it was sent. A socket closed earlier answers the next ping of a client that
        reads slowly with a reset, and what still waits for it is lost: so it is left only after a look at that, however
        long this thread was kept from running."""
        last = time.monotonic() + WRITE_SECONDS
        end = time.monotonic() + LINGER_SECONDS
        while True:
            now = time.monotonic()
            if self._taken and now < last and not self.server.closing.is_set() and _undelivered(self.connection):
                end = now + LINGER_SECONDS
            if now >= end:
                return
            self.connection.settimeout(end - now)
            try:
                if not self.connection.recv(65536):
                    return
            except TimeoutError:
                LOG.debug("%s has nothing to say", self.client_address[0])

    def _read_head(self) -> Head | None:
        """The next request's head; None when the client is done or no further one is taken."""
        self._wire.within(HEAD_SECONDS if self._first else IDLE_SECONDS)
        self.idle = True
        if self.server.closing.is_set() or (self._stale() and not self._first) or not self._wire.more():
            return None
        self.idle = False
        self._wire.within(HEAD_SECONDS)
        return parse_head(self._wire.lines())

    @property
    def kept(self) -> bool:
        """Whether it waits for a further request. One that has just shaken hands is heard, whatever context it met."""
        return self.idle and not self._first

    def _stale(self) -> bool:
        """Whether the handshake was another context's."""
        return self._context is not self.server.ssl_context

    def _last(self) -> bool:
        """Whether no further request is taken: the server drains, or the handshake was another context's."""
        return self.server.closing.is_set() or self._stale()

    def _handle_request(self) -> bool:
        """Answer one request; whether the connection can carry another."""
        try:
            head = self._read_head()
            if head is None:
                return False
            if self.server.now() >= self._certificate_end:
                self.refuse(401, "the client certificate's time is over\n")
                return False
            self.command, self.path, self.request_version = head.method, head.target, f"HTTP/1.{int(head.http11)}"
            self.head = head
            self.headers = head  # type: ignore[assignment]  # make_environ reads items() alone
            environ = self.make_environ()
        except exceptions.HTTPException as error:
            self.refuse(error.code or 400, f"{error.description}\n")
        except ValueError:
            self.refuse(400, "malformed target\n")
        except TimeoutError:
            if not self.idle:
                self.refuse(408, "the request's head took too long\n")
        else:
            return self._answer(head, environ)
        return False

    def make_environ(self) -> "WSGIEnvironment":
        environ = super().make_environ()
        environ.pop("SSL_CLIENT_CERT", None)
        environ["vkcri.peer_certificate"] = None
        if isinstance(self.connection, ssl.SSLSocket):
            environ["vkcri.peer_certificate"] = self.connection.getpeercert(binary_form=True)
        environ["vkcri.closing"] = self.server.closing
        environ["vkcri.connection"] = self
        self.environ = environ
        return environ

    def _answer(self, head: Head, environ: "WSGIEnvironment") -> bool:
        body = Body(self._wire, head)
        environ["wsgi.input"], environ["wsgi.input_terminated"] = BufferedReader(body), True
        answer = Answer(self._wire, head, keep_alive=head.keep_alive and not self._last())
        started = time.monotonic()
        self._run(answer, environ)
        seconds = time.monotonic() - started
        LOG.debug("%s %s: %s in %.1f ms", head.method, environ["PATH_INFO"], answer.status, 1000 * seconds)
        keep = answer.keep_alive and not self._taken and body.drain() and not self._wire.broken
        self._linger = not keep and not self._taken and not self._wire.broken
        return keep

    def _run(self, answer: Answer, environ: "WSGIEnvironment") -> None:
        """Call the application and send what it yields. Its bug is a logged 500, or a cut answer once that began."""
        items: Iterable[bytes] = ()
        try:
            items = self.server.app(environ, answer.start)
            if not self._taken:
                for data in items:
                    answer.write(data)
                answer.end()
        except exceptions.HTTPException as error:
            if not answer.sent:
                self.refuse(error.code or 400, f"{error.description}\n")
            answer.keep_alive = False
        except Exception as error:
            answer.keep_alive = False
            if self._wire.broken or self._taken:
                LOG.debug("%s %s: %s", environ["REQUEST_METHOD"], environ["PATH_INFO"], error)
            else:
                LOG.exception("%s %s failed", environ["REQUEST_METHOD"], environ["PATH_INFO"])
                if not answer.sent:
                    self.refuse(500, "internal error\n")
        finally:
            if hasattr(items, "close"):
                items.close()

    def refuse(self, code: int, text: str, *headers: str) -> None:
        """Send a whole answer of the server's own, after which the connection is closed."""
        body = text.encode()
        lines = [f"HTTP/1.1 {code} {HTTPStatus(code).phrase}", "Server: vkcri", "Connection: close", *headers]
        lines += ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(body)}", "", ""]
        self._linger = True
        self._wire.send("\r\n".join(lines).encode("latin-1") + body)


class Overflow(Connection):
    """A connection beyond the bound: its request is answered with 503 and not looked at."""

    def handle(self) -> None:
        self.refuse(503, "too many connections, try again\n", "Retry-After: 1")


@dataclass(eq=False)
class Slot:
    """One of the bounded number of connections: its socket of the moment, the context of its handshake, and its client
    once shaken hands with."""

    socket: socket.socket
    context: ssl.SSLContext | None = None
    client: Connection | None = None


def _certificate_end(connection: socket.socket) -> float:
    """Unix seconds after which the verified client certificate says nothing any more; infinite where there is none."""
    found = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    return ssl.cert_time_to_seconds(str(found["notAfter"])) if found else math.inf


def _undelivered(connection: socket.socket) -> int:
    """Bytes sent that the peer's kernel has not acknowledged, its FIN included."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])


def _unwrap(connection: ssl.SSLSocket) -> None:
    """Send close_notify; wait for the peer's as long as the socket's timeout."""
    try:
        connection.unwrap()
    except (OSError, ValueError) as error:
        LOG.debug("no close_notify in return: %s", error)
