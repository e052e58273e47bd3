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
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from werkzeug.serving import ThreadedWSGIServer

from vkcri.connection import LINGER_SECONDS, Connection, Overflow, Slot
from vkcri.errors import Unavailable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

LOG = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 10.0
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
        self._open: set[Slot] = set()
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
        slot = Slot(connection)
        with self._lock:
            count = len(self._open)
            self._open.add(slot)
        kind = Connection if count < self._max_connections else Overflow
        try:
            if count >= self._max_connections + OVERFLOW:
                raise RuntimeError(f"more than {count} connections")
            target, arguments = self._serve_connection, (slot, address, kind)
            threading.Thread(target=target, args=arguments, name=f"{self.name}-client", daemon=True).start()
        except RuntimeError as error:  # also what start() raises where the system has no thread left
            LOG.warning("%s: %s: one closed unheard", self.name, error)
            self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        with self._gone:
            slot.socket.close()
            self._open.discard(slot)
            self._gone.notify_all()

    def _serve_connection(self, slot: Slot, address: Any, kind: type[Connection]) -> None:
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

    def _handshake(self, slot: Slot, context: ssl.SSLContext) -> None:
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


def _tune(connection: socket.socket) -> None:
    """No delay for small chunks; a peer that vanished is noticed within two minutes, also on an idle stream."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _shut(connection: socket.socket, how: int) -> None:
    """Wake the thread that reads or writes it; past SSLSocket's own shutdown, whose state is that thread's alone."""
    try:
        socket.socket.shutdown(connection, how)
    except OSError as error:
        LOG.debug("not connected any more: %s", error)
