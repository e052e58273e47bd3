"""The other sides of what vkcri.kubelet.translate speaks: a WebSocket's client, and SPDY's server. Bytes alone."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from vkcri.farewell import DICTIONARY

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455's own example
ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def masked(opcode: int, payload: bytes, mask: bytes = b"\x37\xfa\x21\x3d", *, final: bool = True) -> bytes:
    """A client's frame."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = struct.pack("!BH", 0xFE, size) if size < 1 << 16 else struct.pack("!BQ", 0xFF, size)
    plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([opcode | (0x80 if final else 0)]) + length + mask + plain


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of a server's frames, which are not masked and whole."""
    while data:
        size, position = data[1], 2
        if size > 125:
            position = 4 if size == 126 else 10
            size = int.from_bytes(data[2:position])
        yield data[0] & 0x0F, data[position : position + size]
        data = data[position + size :]


class Heard(NamedTuple):
    """A SPDY frame of a client: kind 0 is data. headers: of one that opens a stream."""

    kind: int
    stream: int
    data: bytes
    last: bool
    headers: dict[str, str]


class SpdyServer:
    """What a client says, and what to say to it."""

    def __init__(self) -> None:
        self._data = b""
        self._headers = zlib.decompressobj(zdict=DICTIONARY)
        self.streams: dict[str, int] = {}  # its type -> a stream

    def hear(self, data: bytes) -> list[Heard]:
        self._data += data
        found = []
        while len(self._data) >= 8 and len(self._data) >= (end := 8 + int.from_bytes(self._data[5:8])):
            frame, self._data = self._data[:end], self._data[end:]
            found.append(self._read(frame))
        return found

    def _read(self, frame: bytes) -> Heard:
        last = bool(frame[4] & 1)
        if not frame[0] & 0x80:
            return Heard(0, int.from_bytes(frame[:4]), frame[8:], last, {})
        kind, stream = int.from_bytes(frame[2:4]), int.from_bytes(frame[8:12])
        if kind != 1:
            return Heard(kind, stream, b"", last, {})
        block, texts, position = self._headers.decompress(frame[18:]), [], 4
        for _ in range(2 * int.from_bytes(block[:4])):
            size = int.from_bytes(block[position : position + 4])
            texts.append(block[position + 4 : position + 4 + size].decode())
            position += 4 + size
        headers = dict(zip(texts[::2], texts[1::2], strict=True))
        self.streams[headers["streamtype"]] = stream
        return Heard(kind, stream, b"", last, headers)

    def reply(self) -> bytes:
        """To all streams that were opened, each with headers that nobody reads."""
        return b"".join(control(2, stream, b"headers") for stream in self.streams.values())

    def say(self, kind: str, data: bytes, *, last: bool = False) -> bytes:
        return struct.pack("!II", self.streams[kind], (1 << 24 if last else 0) | len(data)) + data

    def reset(self) -> bytes:
        """Of all streams: as Kubernetes' server closes a connection."""
        return b"".join(control(3, stream, struct.pack("!I", 5)) for stream in self.streams.values())


def control(kind: int, number: int, more: bytes = b"") -> bytes:
    return struct.pack("!HHII", 0x8003, kind, 4 + len(more), number) + more
