"""SPDY/3.1 as its client speaks it to a runtime's stream server: streams opened, data both ways. Pure.

No flow control: neither Kubernetes' library nor its peers do any. Headers that the server sends are not read, so that
nothing is uncompressed here. Source: draft-mbelshe-httpbis-spdy-00, moby/spdystream.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vkcri.farewell import DICTIONARY
from vkcri.frames import Frames

SYN_STREAM, SYN_REPLY, RST_STREAM, PING = 1, 2, 3, 6
_CONTROL = 0x80
_VERSION = 0x8003
_FINISHED = 1  # the flag of a stream's last frame
_LARGEST = (1 << 24) - 1
_KEPT = 8  # bytes of a control frame that anything here asks for


class Event(NamedTuple):
    """kind 0: data of a stream, `ends` with its last; else a control frame: its kind, its stream or a ping's number,
    and whether it is that stream's last frame."""

    kind: int
    number: int
    data: bytes
    ends: bool


class Client:
    """One connection's client. Its streams have odd numbers, in order."""

    def __init__(self) -> None:
        self._frames = Frames(lambda _head: 8, lambda head: int.from_bytes(head[5:8]))
        self._compressor = zlib.compressobj(zdict=DICTIONARY)
        self._control = b""
        self._next = 1

    def open(self, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """A new stream's number, and the frame that opens it."""
        number, self._next = self._next, self._next + 2
        block = struct.pack("!I", len(headers))
        for pair in headers.items():
            for text in pair:
                block += struct.pack("!I", len(text)) + text.encode("ascii")
        packed = self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return number, _control(SYN_STREAM, struct.pack("!IIBB", number, 0, 0, 0) + packed)

    def events(self, data: bytes) -> Iterator[Event]:
        """What the server says, data as it arrives."""
        for part in self._frames.parts(data):
            finished = bool(part.head[4] & _FINISHED)
            if not part.head[0] & _CONTROL:
                number = int.from_bytes(part.head[:4])
                yield Event(0, number, part.data, part.ends and finished)
                continue
            self._control += part.data[: _KEPT - len(self._control)]
            if part.ends:
                kept, self._control = self._control, b""
                number = int.from_bytes(kept[:4]) & (0xFFFFFFFF if part.head[3] == PING else 0x7FFFFFFF)
                yield Event(int.from_bytes(part.head[2:4]), number, b"", finished)


def data(stream: int, payload: bytes, *, last: bool = False) -> bytes:
    """A stream's next bytes, fewer than 16 MiB."""
    if len(payload) > _LARGEST:
        raise ValueError(f"{len(payload)} bytes are more than a frame's")
    return struct.pack("!II", stream, (_FINISHED << 24 if last else 0) | len(payload)) + payload


def ping(number: int) -> bytes:
    return _control(PING, struct.pack("!I", number))


def _control(kind: int, payload: bytes) -> bytes:
    return struct.pack("!HHI", _VERSION, kind, len(payload)) + payload
