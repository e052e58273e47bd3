"""Frames: a four-byte big-endian length, then as many bytes. Sans I/O: bytes in, payloads out, no socket or clock.

The limit holds on both sides, so that a sender's mistake is told to the sender, and a length that is really garbage
costs the receiver no memory.
"""

import struct
from collections.abc import Iterator

from vkcri.errors import Invalid

MAX_FRAME = 8 * 1024 * 1024
_LENGTH = struct.Struct(">I")


def frame(payload: bytes) -> bytes:
    """The payload as it travels. Raises Invalid above MAX_FRAME."""
    if len(payload) > MAX_FRAME:
        raise Invalid(f"a message of {len(payload)} bytes: the queue takes at most {MAX_FRAME}")
    return _LENGTH.pack(len(payload)) + payload


class Decoder:
    """Collects bytes as they come and iterates over the payloads that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what arrived, cut anywhere."""
        self._buffer += data

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """The next payload; StopIteration when more bytes are needed. Raises Invalid, then and ever after, at a length
        above MAX_FRAME."""
        if len(self._buffer) < _LENGTH.size:
            raise StopIteration
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MAX_FRAME:
            raise Invalid(f"a frame of {length} bytes: the queue takes at most {MAX_FRAME}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            raise StopIteration
        payload = bytes(memoryview(self._buffer)[_LENGTH.size : end])
        del self._buffer[:end]
        return payload

    @property
    def pending(self) -> int:
        """Bytes of a payload that is not complete yet."""
        return len(self._buffer)
