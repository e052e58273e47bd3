"""A WebSocket as its server sees it: the handshake, the client's frames, our own. Pure. Source: RFC 6455.

A client's messages are handed out in pieces as they arrive, unmasked; only control frames, which are short, are whole.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vkcri.errors import Invalid
from vkcri.frames import Frames, Part

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, PROTOCOL_ERROR = 1000, 1001, 1002
REASON_BYTES = 123
_CONTROL_BYTES = 125
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def protocols(value: str) -> list[str]:
    """What a Sec-WebSocket-Protocol header offers, in the client's order."""
    return [name.strip() for name in value.split(",") if name.strip()]


def switching(key: str, version: str, protocol: str) -> bytes:
    """The answer (101) to a client's key and version; protocol: the one chosen, empty for none. Raises Invalid."""
    if version != "13":
        raise Invalid("WebSocket version 13 is spoken here")
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise Invalid("malformed Sec-WebSocket-Key")
    except (binascii.Error, ValueError) as error:
        raise Invalid("malformed Sec-WebSocket-Key") from error
    accepted = base64.b64encode(hashlib.sha1(key.encode() + _ACCEPT, usedforsecurity=False).digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accepted}", *([f"Sec-WebSocket-Protocol: {protocol}"] if protocol else ())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def frame(opcode: int, *payload: bytes) -> bytes:
    """One unmasked frame, which is a whole message."""
    size = sum(map(len, payload))
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return b"".join((head, *payload))


def close(code: int, reason: str = "") -> bytes:
    """The frame that ends a connection; a reason that is too long is cut between two characters."""
    return frame(CLOSE, struct.pack("!H", code), reason.encode()[:REASON_BYTES].decode(errors="ignore").encode())


def frames() -> Frames:
    """Those of either side."""
    return Frames(_head_size, _body_size)


def _head_size(head: bytes) -> int:
    if len(head) < 2:
        return 2
    return 2 + {126: 2, 127: 8}.get(head[1] & 0x7F, 0) + (4 if head[1] & 0x80 else 0)


def _body_size(head: bytes) -> int:
    size = head[1] & 0x7F
    return int.from_bytes(head[2 : {126: 4, 127: 10}[size]]) if size > 125 else size


class Piece(NamedTuple):
    """Bytes of a message: its opcode, whether it begins and whether it ends with them. Of a control frame all."""

    opcode: int
    data: bytes
    begins: bool
    ends: bool


class Reader:
    """What a client sends."""

    def __init__(self) -> None:
        self._frames = frames()
        self._message = CONTINUED  # the opcode of the message at hand, which may have several frames
        self._control = b""

    def pieces(self, data: bytes) -> Iterator[Piece]:
        """Raises Invalid where the client breaks the protocol; nothing behind that is of use."""
        for part in self._frames.parts(data):
            if part.offset == 0:
                self._check(part.head)
            opcode, plain = part.head[0] & 0x0F, _unmasked(part)
            if opcode >= CLOSE:
                self._control += plain
                if part.ends:
                    whole, self._control = self._control, b""
                    yield Piece(opcode, whole, True, True)
                continue
            begins = opcode != CONTINUED and part.offset == 0
            ends = part.ends and bool(part.head[0] & 0x80)
            if begins:
                self._message = opcode
            piece = Piece(self._message, plain, begins, ends)
            if ends:
                self._message = CONTINUED
            yield piece

    def _check(self, head: bytes) -> None:
        opcode, final = head[0] & 0x0F, head[0] & 0x80
        if head[0] & 0x70 or opcode not in (CONTINUED, TEXT, BINARY, CLOSE, PING, PONG):
            raise Invalid("a frame of no known kind")
        if not head[1] & 0x80:
            raise Invalid("a client's frames are masked")
        if opcode >= CLOSE and (not final or head[1] & 0x7F > _CONTROL_BYTES):
            raise Invalid("a control frame is short and whole")
        if opcode < CLOSE and (opcode == CONTINUED) != (self._message != CONTINUED):
            raise Invalid("a message begins in another, or goes on that never began")


def _unmasked(part: Part) -> bytes:
    size, mask = len(part.data), part.head[-4:]
    turn = part.offset % 4
    keys: Sequence[int] = (mask[turn:] + mask[:turn]) * (size // 4 + 1)
    return (int.from_bytes(part.data) ^ int.from_bytes(bytes(keys[:size]))).to_bytes(size)
