"""Bytes between two sockets after an upgrade: exec, attach, port-forward, through log-server and embedded API server.

One thread a connection runs `splice`; both sockets are non-blocking and nobody else touches them meanwhile (two threads
on one SSLSocket corrupt it). At most BUFFER bytes are held a direction, so a slow end slows the other down. It must not
change the bytes, and closes neither socket: the caller does. What they mean only a `Farewell` knows, which hears them
pass for the one case that `stop` cuts a session in its middle. A backend that fails has often just ended, with bytes
of the client's unread: what it said before is delivered like any other. Between ends that do not speak the same a
`Translation` makes the bytes of one into those of the other.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Protocol

from vkcri.farewell import Farewell

BUFFER = 256 * 1024
IDLE_SECONDS = 4 * 3600.0  # the kubelet's streamingConnectionIdleTimeout
TICK_SECONDS = 1.0  # how soon `stop` is seen
LAST_SECONDS = 2.0  # each step of saying the last words may take
_READ = 64 * 1024
_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Translation(Protocol):
    """What it hears it makes into what waits for either end. All of it runs on the splice's thread."""

    to_client: bytearray
    to_backend: bytearray
    over: bool  # the session has ended, but for what waits for the client
    left: bool  # the client has said its last, which waits for the backend

    def from_client(self, data: bytes) -> None: ...

    def from_backend(self, data: bytes) -> None: ...

    def backend_ended(self) -> None:
        """Behind the backend's last byte: sets `over`."""

    def stirred(self) -> bool:
        """Whether what passed since the last call was more than signs of life."""

    def last_words(self) -> bytes:
        """What a client hears whose session is cut."""


class _End:
    """One socket and what waits to be sent to it. heard: by whom its bytes are; they pass unless he `translates`."""

    def __init__(
        self,
        connection: socket.socket,
        waiting: bytearray,
        heard: Callable[[bytes], None] | None,
        *,
        translates: bool = False,
    ) -> None:
        self.connection = connection
        self._heard, self._translates = heard, translates
        self.waiting = waiting
        self.finished = False  # it has sent its last byte
        self.shut = False  # it has been told that it gets no more
        self.failed = False  # it takes nothing any more
        self.sent = 0
        self.read_wants_write = False
        self.write_wants_read = False
        connection.setblocking(False)

    @property
    def secure(self) -> bool:
        return isinstance(self.connection, ssl.SSLSocket)

    def pending(self) -> bool:
        """Whether decrypted bytes wait where poll cannot see them."""
        return isinstance(self.connection, ssl.SSLSocket) and self.connection.pending() > 0

    def fail(self) -> None:
        """Nothing can be sent to it; a plain socket may still hold what it had said."""
        self.failed = True
        self.finished = self.finished or self.secure
        self.read_wants_write = False
        self.waiting.clear()

    def receive(self, into: bytearray) -> bool:
        """Read what is there, as far as there is room; whether anything came. Sets `finished` at the end of file, and
        where the socket fails: behind a reset nothing comes."""
        self.read_wants_write = False
        came = False
        room = BUFFER - len(into)  # what a translation makes nothing of is bounded, too
        while room > 0 and len(into) < BUFFER:
            try:
                data = self.connection.recv(min(_READ, room))
            except ssl.SSLWantWriteError:
                self.read_wants_write = True
                break
            except (ssl.SSLWantReadError, BlockingIOError):
                break
            except OSError:
                self.fail()
                data = b""
            if not data:
                self.finished = True
                break
            room -= len(data)
            if self._heard is not None:
                self._heard(data)
            if not self._translates:
                into += data
            came = True
        return came

    def send(self) -> bool:
        """Write what waits, as far as it goes; whether anything went."""
        self.write_wants_read = False
        went = 0
        while self.waiting:
            try:
                with memoryview(self.waiting) as view, view[:_READ] as part:
                    count = self.connection.send(part)
            except ssl.SSLWantReadError:
                self.write_wants_read = True
                break
            except (ssl.SSLWantWriteError, BlockingIOError):
                break
            except OSError:
                self.fail()
                break
            del self.waiting[:count]
            went += count
        self.sent += went
        return went > 0

    def events(self, room: bool) -> int:
        """What poll is to wait for. `room`: the other end's buffer takes more."""
        wanted = 0
        if (room and not self.finished and not self.read_wants_write) or (self.waiting and self.write_wants_read):
            wanted |= select.POLLIN
        if (self.waiting and not self.write_wants_read) or (room and self.read_wants_write):
            wanted |= select.POLLOUT
        return wanted


def splice(
    client: socket.socket,
    backend: socket.socket,
    *,
    to_client: bytes = b"",
    to_backend: bytes = b"",
    idle: float = IDLE_SECONDS,
    stop: Callable[[], bool] = lambda: False,
    farewell: Farewell | None = None,
    translation: Translation | None = None,
) -> tuple[int, int]:
    """Carry bytes both ways until an end is gone, nothing moves for `idle` seconds, or `stop` is True.

    `to_client` and `to_backend` go first. Between two plain sockets the end of one direction is passed on and the other
    goes on; TLS has no half close, so there the end of one is the end of both, once what waits is sent. Returns the
    bytes sent to client and backend. A client that fails ends it at once, a backend once all that it said is sent: no
    error is raised for it.

    What `stop` cuts has the last words of `farewell`, which has heard neither `to_client` nor `to_backend`; or of
    `translation`, whose bytes go behind these two.
    """
    ends = _ends(client, backend, farewell, translation)
    ends[0].waiting[:0], ends[1].waiting[:0] = to_client, to_backend
    deadline = time.monotonic() + idle
    try:
        while (left := deadline - time.monotonic()) > 0:
            if stop():
                _say(farewell, translation, *ends)
                break
            if _step(ends, min(left, TICK_SECONDS)) and (translation is None or translation.stirred()):
                deadline = time.monotonic() + idle
            if _is_translated(translation, *ends) if translation is not None else _over(ends):
                break
    except OSError:
        pass  # an end is gone; the other learns it by the caller's close
    return ends[0].sent, ends[1].sent


def _ends(
    client: socket.socket, backend: socket.socket, farewell: Farewell | None, translation: Translation | None
) -> tuple[_End, _End]:
    if translation is not None:
        return (
            _End(client, translation.to_client, translation.from_client, translates=True),
            _End(backend, translation.to_backend, translation.from_backend, translates=True),
        )
    hears = (farewell.from_client, farewell.from_backend) if farewell is not None else (None, None)
    return _End(client, bytearray(), hears[0]), _End(backend, bytearray(), hears[1])


def _say(farewell: Farewell | None, translation: Translation | None, client: _End, backend: _End) -> None:
    """The rest of the frame at hand and then the last words, each within LAST_SECONDS. A session whose backend has
    said all is not cut: only what waits is sent."""
    client.connection.settimeout(LAST_SECONDS)
    if backend.finished or (translation is not None and translation.over):
        client.connection.sendall(client.waiting)
    elif translation is not None:
        client.connection.sendall(client.waiting + translation.last_words())
    elif farewell is not None:
        backend.connection.settimeout(LAST_SECONDS)
        while missing := farewell.missing:
            data = backend.connection.recv(min(missing, _READ))
            if not data:
                return
            farewell.from_backend(data)
            client.waiting += data
        client.connection.sendall(client.waiting + farewell.words())


def _step(ends: tuple[_End, _End], seconds: float) -> bool:
    """Wait for either socket and move what can be moved; whether anything was."""
    poll = select.poll()
    first, second = ends
    ready = False
    for end, other in ((first, second), (second, first)):
        room = len(other.waiting) < BUFFER and not other.shut
        events = end.events(room)
        ready = ready or (room and not end.finished and end.pending())
        if events:
            poll.register(end.connection, events)
    found = dict(poll.poll(0 if ready else seconds * 1000))
    moved = False
    for end, other in ((first, second), (second, first)):
        if found.get(end.connection.fileno(), 0) & _HANGUP and end.finished:
            end.fail()
        if not end.finished and (end.pending() or found.get(end.connection.fileno())):
            moved = end.receive(other.waiting) or moved
        moved = other.send() or moved
        moved = end.send() or moved
    return moved


def _over(ends: tuple[_End, _End]) -> bool:
    """Pass the end of a direction on; whether both are through."""
    client, backend = ends
    if client.failed:
        return True
    if backend.failed:
        return backend.finished and not client.waiting
    half = not (client.secure or backend.secure)
    for end, other in (ends, ends[::-1]):
        if end.finished and not other.waiting and not other.shut:
            if not half:
                return True
            other.shut = True
            other.connection.shutdown(socket.SHUT_WR)
    return ends[0].shut and ends[1].shut


def _is_translated(translation: Translation, client: _End, backend: _End) -> bool:
    """Tell the translation of the backend's end; whether all that it made of the session is sent."""
    if backend.finished and not translation.over:
        translation.backend_ended()
    if client.failed or (translation.over and not client.waiting):
        return True
    return (client.finished or translation.left) and not backend.waiting
