"""One connected Unix socket that carries frames, with a limit on every wait. Used by one thread at a time.

`shut` alone may be called by another thread: it wakes whoever waits. The first words of a failure are the peer's, the
class says what to do: Unavailable for a peer that is away, stalled or gone, Invalid for one that sends garbage.
"""

import math
import os
import socket
import struct
import time
from pathlib import Path

from vkcri.errors import Refused, Unavailable
from vkcri.queue.framing import Decoder

_CHUNK = 256 * 1024
_CREDENTIALS = struct.Struct("3i")


class Channel:
    """Frames over a socket that this object owns."""

    def __init__(self, connection: socket.socket, peer: str) -> None:
        self.peer = peer
        self._socket = connection
        self._decoder = Decoder()

    @classmethod
    def connect(cls, path: Path, timeout: float) -> "Channel":
        """Raises Unavailable where nobody listens or the owner takes no connection in time, Refused for a socket that
        belongs to another user."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(max(0.001, timeout))
        try:
            connection.connect(str(path))
            check_peer(connection)
        except OSError as error:
            connection.close()
            raise Unavailable(f"{path.name}: {error.strerror or error}") from error
        except Refused:
            connection.close()
            raise
        return cls(connection, path.name)

    def send(self, data: bytes, *, stall: float, until: float = math.inf) -> None:
        """Send all of it. Raises Unavailable when the peer takes nothing for `stall` seconds, at the monotonic time
        `until`, or when it is gone."""
        rest = memoryview(data)
        try:
            while rest:
                self._socket.settimeout(_limit(stall, until))
                rest = rest[self._socket.send(rest[:_CHUNK]) :]
        except TimeoutError as error:
            raise Unavailable(f"{self.peer}: reads nothing") from error
        except OSError as error:
            raise Unavailable(f"{self.peer}: {error.strerror or error}") from error

    def receive(self, *, silence: float, until: float = math.inf) -> bytes | None:
        """The next payload; None when the peer closed between two frames. Raises Unavailable when it sends nothing for
        `silence` seconds, at the monotonic time `until`, or closes within a frame, and Invalid for no frame."""
        while (payload := next(self._decoder, None)) is None:
            try:
                self._socket.settimeout(_limit(silence, until))
                data = self._socket.recv(_CHUNK)
            except TimeoutError as error:
                raise Unavailable(f"{self.peer}: sends nothing") from error
            except OSError as error:
                raise Unavailable(f"{self.peer}: {error.strerror or error}") from error
            if not data:
                if self._decoder.pending:
                    raise Unavailable(f"{self.peer}: closed within a message")
                return None
            self._decoder.feed(data)
        return payload

    def shut(self) -> None:
        """Wake the thread that waits here; it then finds the peer gone."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # never connected, or shut already: nobody waits

    def close(self) -> None:
        self._socket.close()


def check_peer(connection: socket.socket) -> int:
    """The peer's pid. Raises Refused unless it is root or this process' own user: what the folder's mode says, said
    twice."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    if uid not in (0, os.geteuid()):
        raise Refused(f"a process of user {uid} (pid {pid}) at the queue's socket")
    return int(pid)


def _limit(seconds: float, until: float) -> float:
    """A socket timeout: 0 would mean non-blocking."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return max(0.001, min(seconds, left))
