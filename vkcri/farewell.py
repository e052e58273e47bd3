"""The last words of a stream that its server has to cut: an error where the client of exec or attach listens for one.

A client takes a connection that just ends for a command that succeeded: kubectl exits 0. So a splice has a `Farewell`
hear what passes, which finds where the client's next frame may begin and makes the frames that say why. Pure. It
changes nothing that passes, and where it cannot tell it says nothing. Source: SPDY/3.1 (draft-mbelshe-httpbis-spdy-00),
RFC 6455, apimachinery's pkg/util/remotecommand: an error stream, of JSON from v4 on.
"""

import base64
import json
import struct
import zlib
from typing import Final

from vkcri import websocket
from vkcri.frames import Frames

_SYN_STREAM, _HEADERS = 0x80030001, 0x80030008
_FINISHED = 1  # the flag of a stream's last frame
_OPENING_BYTES = 64 * 1024  # of a client, within which its error stream is opened
_HEADERS_BYTES = 64 * 1024  # of one frame's headers, uncompressed
_ERROR_CHANNEL = 3
_WORDS: Final = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL: Final = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _prefixed(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


DICTIONARY: Final = b"".join(_prefixed(word.replace("_", " ").encode()) for word in _WORDS.split()) + _TAIL.encode()
"""What SPDY/3 compresses headers with."""


class Farewell:
    """What one exec or attach session would be told. Belongs to the splice's thread. `words` is empty where the client
    has no place for them."""

    def __init__(self, frames: Frames, message: str) -> None:
        self._frames, self._message = frames, message

    def from_client(self, data: bytes) -> None:
        """Bytes of the client, as they pass."""

    def from_backend(self, data: bytes) -> None:
        """Bytes of the backend, as they pass."""
        self._frames.feed(data)

    @property
    def missing(self) -> int:
        """How many of the backend's bytes must pass before the words may."""
        return self._frames.missing

    def words(self) -> bytes:
        """The frames to send in the place of all that was to come."""
        return b""

    def _status(self) -> bytes:
        status = {"metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500}
        return json.dumps({**status, "message": self._message}).encode()


class SpdyFarewell(Farewell):
    """The error stream is whichever the client opens with the header `streamtype: error`."""

    def __init__(self, message: str, *, as_json: bool) -> None:
        super().__init__(Frames(lambda _head: 8, lambda head: int.from_bytes(head[5:8])), message)
        self._as_json = as_json
        self._opening: bytes | None = b""  # until the error stream is known
        self._left = _OPENING_BYTES
        self._headers = zlib.decompressobj(zdict=DICTIONARY)
        self._error_stream = 0

    def from_client(self, data: bytes) -> None:
        if self._opening is None:
            return
        self._opening += data[: self._left]
        self._left -= len(data)
        try:
            while len(self._opening) >= 8 and self._opening is not None:
                end = 8 + int.from_bytes(self._opening[5:8])
                if len(self._opening) < end:
                    break
                frame, self._opening = self._opening[:end], self._opening[end:]
                if self._opens_error_stream(frame):
                    self._error_stream, self._opening = int.from_bytes(frame[8:12]) & 0x7FFFFFFF, None
                    return
        except (zlib.error, struct.error):
            self._opening = None  # no SPDY that we know
            return
        if self._left <= 0:
            self._opening = None

    def _opens_error_stream(self, frame: bytes) -> bool:
        kind = int.from_bytes(frame[:4])
        if kind not in (_SYN_STREAM, _HEADERS):
            return False
        packed = frame[18 if kind == _SYN_STREAM else 12 :]
        block = self._headers.decompress(packed, _HEADERS_BYTES)  # also for the ones to come
        if self._headers.unconsumed_tail or len(block) == _HEADERS_BYTES:
            raise zlib.error("headers beyond all measure")
        (count,), position, names = struct.unpack_from("!I", block), 4, []
        for _ in range(2 * min(count, 100)):
            (size,) = struct.unpack_from("!I", block, position)
            names.append(block[position + 4 : position + 4 + size].lower())
            position += 4 + size
        return (b"streamtype", b"error") in zip(names[::2], names[1::2], strict=True)

    def words(self) -> bytes:
        if not self._error_stream:
            return b""
        text = self._status() if self._as_json else self._message.encode()
        return struct.pack("!II", self._error_stream, _FINISHED << 24 | len(text)) + text


class WebSocketFarewell(Farewell):
    """Channel 3, and then the close frame's own reason. A client of v5 takes any code but the normal one for an error
    of the error channel, and shows that instead of what was said there."""

    def __init__(self, message: str, protocol: str) -> None:
        super().__init__(websocket.frames(), message)
        self._protocol = protocol

    def words(self) -> bytes:
        text = self._status() if self._protocol[:2] in ("v4", "v5") else self._message.encode()
        if "base64" in self._protocol:
            said = websocket.frame(websocket.TEXT, b"%d" % _ERROR_CHANNEL, base64.b64encode(text))
        else:
            said = websocket.frame(websocket.BINARY, bytes([_ERROR_CHANNEL]), text)
        code = websocket.NORMAL if self._protocol[:2] == "v5" else websocket.GOING_AWAY
        return said + websocket.close(code, self._message)


def farewell(switching: bytes, message: str) -> Farewell | None:
    """For a session of exec or attach whose upgrade was answered by this head (101): what it speaks decides. None for
    what is neither. Port-forward has no place for such words, and its clients notice a lost connection themselves."""
    lines = switching.decode("latin-1").lower().split("\r\n")
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if fields.get("upgrade") == "spdy/3.1":
        version = fields.get("x-stream-protocol-version", "")
        return SpdyFarewell(message, as_json=version[:2] in ("v4", "v5"))
    if fields.get("upgrade") == "websocket":
        return WebSocketFarewell(message, fields.get("sec-websocket-protocol", ""))
    return None
