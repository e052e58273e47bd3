"""One TCP connection on the loop, with TLS where wanted, that carries one exchange's bytes.

It has no deadline of its own: whoever opened it cancels it. A peer's certificate is never verified, as for the
kubelet's probes. Its socket is closed without waiting; nothing of it outlives `finished`.
"""

import errno
import functools
import logging
import socket
import ssl
from collections.abc import Callable

from bridge.wire import words
from bridge.wire.exchange import Broken, Exchange
from bridge.wire.lookups import Addresses, Lookups
from bridge.wire.loop import READ, WRITE, Loop

CHUNK = 64 * 1024
PLAIN_HTTP = "http: server gave HTTP response to HTTPS client"
_NO_TLS = "tls: first record does not look like a TLS handshake"

log = logging.getLogger(__name__)
Talk = Callable[[str], Exchange]
"""The exchange for the protocol that ALPN chose; "" where there was no choice."""
Finished = Callable[[Exchange | None, Broken | None], None]
"""Called once: with the exchange that is done (None where only a connection was wanted), or with what broke."""


class Connection:
    """Opened by `start`, over once `finished` was called or `cancel` was. All on the loop's thread."""

    def __init__(
        self,
        loop: Loop,
        lookups: Lookups,
        host: str,
        port: int,
        finished: Finished,
        *,
        talk: Talk | None = None,
        tls: bool = False,
    ) -> None:
        self.exchange: Exchange | None = None
        self._loop = loop
        self._lookups = lookups
        self._host, self._port = host, port
        self._finished: Finished | None = finished
        self._talk = talk
        self._wants_tls = tls
        self._tls: Tls | None = None
        self._addresses: Addresses = []
        self._socket: socket.socket | None = None
        self._remote = ""
        self._unsent = b""

    def start(self) -> None:
        self._lookups.find(self._host, self._found)

    def cancel(self) -> None:
        """Close it; `finished` is not called any more."""
        self._finished = None
        self._lookups.forget(self._host, self._found)
        self._close()

    def _found(self, addresses: Addresses | str) -> None:
        if self._finished is None:
            return
        if isinstance(addresses, str):
            self._end(Broken(f"dial tcp: {addresses}"))
            return
        self._addresses = addresses
        self._connect()

    def _connect(self) -> None:
        """Try the next address."""
        family, address = self._addresses.pop(0)
        self._remote = words.join(address, self._port)
        try:
            self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = self._socket.connect_ex((address, self._port))
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code in (0, errno.EINPROGRESS) and self._socket is not None:
            self._loop.watch(self._socket, WRITE, self._connected)
        else:
            self._not_connected(code)

    def _not_connected(self, code: int) -> None:
        self._close()
        if self._addresses:
            self._connect()
            return
        self._end(Broken(f"dial tcp {self._remote}: connect: {words.errno(code)}"))

    def _connected(self, events: int) -> None:
        del events
        assert self._socket is not None
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._not_connected(code)
            return
        if self._talk is None:
            self._end(None)
            return
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._wants_tls:
                self._tls = Tls(self._host)
                self._unsent = self._tls.begin()
            else:
                self._unsent = self._open("")
            self._flush()
        except Exception as error:  # noqa: BLE001  (see _broken)
            self._end(_broken(error))

    def _open(self, protocol: str) -> bytes:
        assert self._talk is not None
        self.exchange = self._talk(protocol)
        return self.exchange.begin()

    def _ready(self, events: int) -> None:
        """The socket is readable, or writable, or both."""
        try:
            if events & READ:
                self._read()
            if self._finished is not None:
                self._flush()
        except Exception as error:  # noqa: BLE001  (see _broken)
            self._end(_broken(error))

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise Broken(f"read tcp {self._ends()}: read: {words.errno(error.errno or errno.EIO)}") from error
        if data:
            self._receive(data)
        else:
            self._peer_closed()
        if self.exchange is not None and self.exchange.done:
            self._end(None)

    def _receive(self, data: bytes) -> None:
        if self._tls is None:
            assert self.exchange is not None
            self._unsent += self.exchange.receive(data)
            return
        plain, reply = self._tls.receive(data)
        self._unsent += reply
        if self.exchange is None and self._tls.established:
            self._unsent += self._tls.send(self._open(self._tls.protocol))
        if plain and self.exchange is not None:
            self._unsent += self._tls.send(self.exchange.receive(plain))
        if self._tls.ended and not (self.exchange is not None and self.exchange.done):
            self._peer_closed()

    def _peer_closed(self) -> None:
        if self.exchange is None:
            raise Broken("EOF")
        self.exchange.closed()

    def _flush(self) -> None:
        """Send what can be sent, and watch for the rest."""
        assert self._socket is not None
        if self._unsent:
            try:
                sent = self._socket.send(self._unsent)
                self._unsent = self._unsent[sent:]
            except BlockingIOError:
                pass
            except OSError as error:
                raise Broken(f"write tcp {self._ends()}: write: {words.errno(error.errno or errno.EIO)}") from error
        self._loop.watch(self._socket, READ | (WRITE if self._unsent else 0), self._ready)

    def _ends(self) -> str:
        """LOCAL->REMOTE, as Go names a connection."""
        assert self._socket is not None
        local = self._socket.getsockname()
        return f"{words.join(local[0], local[1])}->{self._remote}"

    def _end(self, broken: Broken | None) -> None:
        self._close()
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(self.exchange, broken)

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.unwatch(self._socket)
            self._socket.close()
            self._socket = None


class Tls:
    """A client's TLS without I/O. `established`: the handshake is done; `protocol`: what ALPN chose, or "";
    `ended`: the peer has ended the session."""

    def __init__(self, host: str) -> None:
        self.established = False
        self.protocol = ""
        self.ended = False
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context().wrap_bio(self._in, self._out, server_hostname=_server_name(host))
        self._any = False

    def begin(self) -> bytes:
        """The ClientHello."""
        self._shake()
        return self._out.read()

    def receive(self, data: bytes) -> tuple[bytes, bytes]:
        """(what the peer says, what to send in return). Raises Broken in Go's words."""
        if not self._any:
            self._any = True
            if not 20 <= data[0] <= 24:
                raise Broken(PLAIN_HTTP if data.startswith(b"HTTP/") else _NO_TLS)
        self._in.write(data)
        if not self.established:
            self._shake()
        return self._read() if self.established else b"", self._out.read()

    def send(self, data: bytes) -> bytes:
        """The same, encrypted. Raises Broken in Go's words."""
        try:
            if data:
                self._object.write(data)
        except ssl.SSLError as error:
            raise Broken(_tls_words(error)) from error
        return self._out.read()

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise Broken(_tls_words(error)) from error
        self.established = True
        self.protocol = self._object.selected_alpn_protocol() or ""

    def _read(self) -> bytes:
        parts = []
        while True:
            try:
                part = self._object.read(CHUNK)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                self.ended = True
                break
            except ssl.SSLError as error:
                raise Broken(_tls_words(error)) from error
            if not part:
                self.ended = True
                break
            parts.append(part)
        return b"".join(parts)


def _broken(error: Exception) -> Broken:
    """Whatever happens on the way ends the conversation: its socket would stay ready, and be read over and over."""
    if isinstance(error, Broken):
        return error
    log.error("a conversation failed", exc_info=error)
    return Broken(f"malformed response: {type(error).__name__}: {error}")


@functools.cache
def context() -> ssl.SSLContext:
    """One for all: whatever a container's certificate and key are, and TLS from 1.2 on, as Go's client."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers("DEFAULT:@SECLEVEL=0")
    made.set_alpn_protocols(["h2", "http/1.1"])
    return made


def _server_name(host: str) -> str | None:
    """The name that SNI carries: never an address."""
    return None if ":" in host or host.replace(".", "").isdigit() else host


def _tls_words(error: ssl.SSLError) -> str:
    reason = str(error.reason or error).lower().replace("_", " ")
    if " alert " in f" {reason} ":
        return f"remote error: tls: {reason.rpartition('alert ')[2]}"
    return f"tls: {reason}"
