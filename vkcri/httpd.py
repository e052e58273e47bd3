"""The one hardened threaded HTTP(S) server: of log-server and of the embedded API server.

Owns the listening socket, one daemon thread a connection, and the rules that keep a slow or hostile client harmless:
the TLS handshake, a request's head and its body each have a deadline, heads have a size, connections have a bound.
The accept thread never reads, writes or shakes hands. One thread alone touches a connection's TLS state.

A client certificate is verified in the handshake, and what that found must still hold at each request: one whose time
is over is refused, and a new TLS context (another client CA) ends the connections of the old one between requests.

An application is plain WSGI. Beyond WSGI, `environ` holds `vkcri.peer_certificate` (DER of the verified client
certificate, or None), `vkcri.closing` (an Event, set when the server drains: streams should end) and
`vkcri.connection` (a `Connection`: `take_over()` for an upgrade, `disconnected()` for a stream that has nothing to
send). Each item of a response without Content-Length is one chunk and is sent at once.
"""

import logging
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from io import BufferedReader, BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from werkzeug import exceptions
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from vkcri.errors import Unavailable
from vkcri.http1 import Answer, Body, Head, Wire, parse_head

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

LOG = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
HEAD_SECONDS = 15.0  # from a request's first byte to the end of its head
IDLE_SECONDS = 90.0  # between two requests of a connection, as the kubelet's IdleTimeout
LINGER_SECONDS = 1.0  # after a close of ours, so that the answer is read before a reset can destroy it
OVERFLOW = 32  # connections beyond the bound that still get a 503; any more are closed at once
NO_THREAD_SECONDS = 0.2  # the accept thread's pause where the system has no descriptor or thread left
BACKLOG = 512
_PLAIN_HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 23\r\n\r\nthis port speaks HTTPS\n"


class ThreadStarter(Protocol):
    """What the server needs of vkcri.lifecycle.Process."""

    def start_thread(self, name: str, target: Callable[[], None], *, may_end: bool = False) -> object: ...


def tls_context(cert_file: str, key_file: str, *, client_ca: str = "") -> ssl.SSLContext:
    """A server's TLS: 1.2 and up, HTTP/1.1 only; client certificates optional, checked against `client_ca` (PEM).

    Raises OSError or ssl.SSLError (an OSError too) where the files or the CA cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF  # HTTP tells a cut body; an idle end is answered by close_notify
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert_file, key_file)
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=client_ca)
    return context


class Connection(WSGIRequestHandler):
    """One client, from the end of its handshake to its close: requests one after another, on this thread alone."""

    server: "Server"
    head: Head  # of the request at hand, its headers as they came
    idle = True  # waits for a request's first byte

    def __init__(self, slot: "_Slot", address: Any, server: "Server") -> None:
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
            end = time.monotonic() + LINGER_SECONDS
            while self._linger and (left := end - time.monotonic()) > 0:
                self.connection.settimeout(left)
                self._linger = bool(self.connection.recv(65536))
        except OSError as error:
            LOG.debug("%s is gone already: %s", self.client_address[0], error)

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


class _Overflow(Connection):
    """A connection beyond the bound: its request is answered with 503 and not looked at."""

    def handle(self) -> None:
        self.refuse(503, "too many connections, try again\n", "Retry-After: 1")


@dataclass(eq=False)
class _Slot:
    """One of the bounded number of connections: its socket of the moment, the context of its handshake, and its client
    once shaken hands with."""

    socket: socket.socket
    context: ssl.SSLContext | None = None
    client: Connection | None = None


class Server(ThreadedWSGIServer):
    """Made by `make_server`."""

    def __init__(
        self,
        app: "WSGIApplication",
        listener: socket.socket,
        ssl_context: ssl.SSLContext | None,
        max_connections: int,
        name: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__(host, port, app, handler=Connection, fd=listener.fileno())
        self.ssl_context = ssl_context
        self.name = name
        self.now = now
        self.closing = threading.Event()
        self._max_connections = max_connections
        self._lock = threading.Lock()
        self._open: set[_Slot] = set()
        self._gone = threading.Condition(self._lock)

    def start(self, process: ThreadStarter) -> None:
        """Accept from now on, on a thread of the process."""
        process.start_thread(f"{self.name}-accept", self.serve, may_end=True)

    def serve(self) -> None:
        """The accept thread: returns after close()."""
        while not self.closing.is_set():
            try:
                connection, address = self.socket.accept()
            except OSError as error:
                if not self.closing.wait(NO_THREAD_SECONDS):  # shutdown() in close() ends up here too
                    LOG.warning("%s: accept: %s", self.name, error)
                continue
            self._admit(connection, address)

    def close(self, grace: float = 0) -> None:
        """Accept no more, end idle connections, wait up to `grace` seconds for the others, then cut them."""
        self.closing.set()
        with self._lock:
            _shut(self.socket, socket.SHUT_RDWR)
            for slot in self._open:
                if slot.client is not None and slot.client.idle:
                    _shut(slot.socket, socket.SHUT_RD)
            self._gone.wait_for(lambda: not self._open, grace)
            for slot in self._open:
                _shut(slot.socket, socket.SHUT_RDWR)
            self._gone.wait_for(lambda: not self._open, 2 * LINGER_SECONDS)
        self.server_close()

    def use_context(self, context: ssl.SSLContext) -> None:
        """Shake hands by this one from now on; connections of the one before end with the request they are at, or with
        their first."""
        with self._lock:
            self.ssl_context = context
            for slot in self._open:
                if slot.client is not None and slot.client.kept and slot.context is not context:
                    _shut(slot.socket, socket.SHUT_RD)

    def connections(self) -> int:
        """How many are open now."""
        with self._lock:
            return len(self._open)

    def _admit(self, connection: socket.socket, address: Any) -> None:
        """Give a connection its thread, or close it where there are too many even to say so."""
        slot = _Slot(connection)
        with self._lock:
            count = len(self._open)
            self._open.add(slot)
        kind = Connection if count < self._max_connections else _Overflow
        try:
            if count >= self._max_connections + OVERFLOW:
                raise RuntimeError(f"more than {count} connections")
            target, arguments = self._serve_connection, (slot, address, kind)
            threading.Thread(target=target, args=arguments, name=f"{self.name}-client", daemon=True).start()
        except RuntimeError as error:  # also what start() raises where the system has no thread left
            LOG.warning("%s: %s: one closed unheard", self.name, error)
            self._forget(slot)

    def _forget(self, slot: _Slot) -> None:
        with self._gone:
            slot.socket.close()
            self._open.discard(slot)
            self._gone.notify_all()

    def _serve_connection(self, slot: _Slot, address: Any, kind: type[Connection]) -> None:
        """A connection's thread, from handshake to close."""
        try:
            _tune(slot.socket)
            slot.context = self.ssl_context
            if slot.context is not None:
                self._handshake(slot, slot.context)
            kind(slot, address, self)
        except OSError as error:
            LOG.debug("%s: %s: %s", self.name, address[0], error)
        except Exception:
            LOG.exception("%s: a connection failed", self.name)
        finally:
            self._forget(slot)

    def _handshake(self, slot: _Slot, context: ssl.SSLContext) -> None:
        """Shake hands within HANDSHAKE_SECONDS. Raises OSError."""
        slot.socket.settimeout(HANDSHAKE_SECONDS)
        connection = context.wrap_socket(slot.socket, server_side=True, do_handshake_on_connect=False)
        slot.socket = connection
        try:
            connection.do_handshake()
        except ssl.SSLError as error:
            if error.reason == "HTTP_REQUEST":
                connection.settimeout(LINGER_SECONDS)
                socket.socket.send(connection, _PLAIN_HTTP)
                socket.socket.recv(connection, 65536)  # unread bytes would reset the answer away
            raise


def make_server(
    app: "WSGIApplication",
    address: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None = None,
    max_connections: int = 1000,
    name: str,
    now: Callable[[], float] = time.time,
) -> Server:
    """Bind now, serve after `start`. `address` "" is every address, IPv6 too; port 0 is any free one (`.port` tells).
    now: Unix seconds, for the time of client certificates.

    Raises Unavailable, naming address and port, when they cannot be bound.
    """
    try:
        if not address and socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG)
        else:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.create_server((address, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Unavailable(f"{name}: cannot listen on {address or '*'}:{port}: {error.strerror}") from error
    with listener:
        return Server(app, listener, ssl_context, max_connections, name, now)


def _certificate_end(connection: socket.socket) -> float:
    """Unix seconds after which the verified client certificate says nothing any more; infinite where there is none."""
    found = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    return ssl.cert_time_to_seconds(str(found["notAfter"])) if found else math.inf


def _tune(connection: socket.socket) -> None:
    """No delay for small chunks; a peer that vanished is noticed within two minutes, also on an idle stream."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _unwrap(connection: ssl.SSLSocket) -> None:
    """Send close_notify; wait for the peer's as long as the socket's timeout."""
    try:
        connection.unwrap()
    except (OSError, ValueError) as error:
        LOG.debug("no close_notify in return: %s", error)


def _shut(connection: socket.socket, how: int) -> None:
    """Wake the thread that reads or writes it; past SSLSocket's own shutdown, whose state is that thread's alone."""
    try:
        socket.socket.shutdown(connection, how)
    except OSError as error:
        LOG.debug("not connected any more: %s", error)
