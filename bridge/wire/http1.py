"""HTTP/1.1 as a client that sends one GET and reads one response: bytes in, bytes out. Pure.

Lenient where Go's client is, and its words where it is not: what a container answers ends in an event that a person
reads. Never holds more than HEAD_BYTES and BODY_BYTES, whatever a container sends.
"""

import re

from bridge.wire.exchange import BODY_BYTES, Answer, Broken
from bridge.wire.request import Get
from bridge.wire.words import quote

HEAD_BYTES = 1024 * 1024
MOST_INFORMATIONAL = 5
_BLANK = (b"\r\n\r\n", b"\n\n", b"\n\r\n")
_LAST = 3  # bytes at the end in which a blank line may have begun
_BROKEN = "net/http: HTTP/1.x transport connection broken: "
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class Http1:
    """One GET. `answer` is there once the head was read, and has the body once `done`."""

    def __init__(self, get: Get) -> None:
        self.answer: Answer | None = None
        self.done = False
        self._get = get
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer in which no head ends
        self._greeted = False  # its first line is a response's
        self._body = b""
        self._informational = 0
        self._length: int | None = None  # bytes of body still to come; None: until the peer closes
        self._chunked = False
        self._in_chunk = False

    def begin(self) -> bytes:
        """The request."""
        get = self._get
        get.check()
        agent = [pair for pair in get.headers if pair[0] == "User-Agent"]
        others = [pair for pair in get.headers if pair[0] != "User-Agent"]
        lines = [f"GET {get.target} HTTP/1.1", f"Host: {get.authority}"]
        lines += [f"{name}: {value}" for name, value in (*agent, *others)]
        if not any(name == "Connection" for name, _ in others):
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")

    def receive(self, data: bytes) -> bytes:
        """The response's next bytes."""
        self._buffer += data
        while self.answer is None:
            if not self._read_head():
                return b""
        if not self.done:
            self._read_body()
        return b""

    def closed(self) -> None:
        """The peer has nothing more to say."""
        if self.answer is None:
            raise Broken("EOF" if not self._buffer else f"{_BROKEN}unexpected EOF")
        if not self.done:
            whole = self._length is None and not self._chunked
            self._finish("" if whole else "unexpected EOF")

    def _read_head(self) -> bool:
        """Take one head off the buffer; False where it is not there yet."""
        end = _end_of_head(self._buffer, self._searched)
        if end is None:
            if len(self._buffer) > HEAD_BYTES:
                raise Broken(f"{_BROKEN}net/http: server response headers exceeded {HEAD_BYTES} bytes; aborted")
            if not self._greeted and (line := self._buffer.find(b"\n", self._searched)) >= 0:
                _status(bytes(self._buffer[:line]))  # garbage is known by its first line
                self._greeted = True
            self._searched = max(0, len(self._buffer) - _LAST)
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched, self._greeted = 0, False
        lines = [line.removesuffix(b"\r") for line in head.rstrip(b"\r\n").split(b"\n")]
        status = _status(lines[0])
        headers = _headers(lines[1:])
        if 100 <= status < 200 and status != 101:
            self._informational += 1
            if self._informational > MOST_INFORMATIONAL:
                raise Broken(f"{_BROKEN}net/http: too many 1xx informational responses")
            return True
        self._chunked = headers.get("transfer-encoding", [""])[0].lower().endswith("chunked")
        self._length = None if self._chunked else _length(headers)
        if status in (204, 304) or status < 200:
            self._length, self._chunked = 0, False
        self.answer = Answer(status, {name: values[0] for name, values in headers.items()})
        return True

    def _read_body(self) -> None:
        try:
            if self._chunked:
                while not self.done and self._read_chunk():
                    pass
            else:
                self._take(len(self._buffer) if self._length is None else min(self._length, len(self._buffer)))
                if self._length == 0:
                    self._finish()
        except Broken as error:
            self._finish(str(error))

    def _read_chunk(self) -> bool:
        """Go on in a chunked body; False where more bytes are wanted."""
        if self._in_chunk and self._length:
            if not self._buffer:
                return False
            self._take(min(self._length, len(self._buffer)))
            return True
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > 4096:
                raise Broken("header line too long")
            return False
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        if self._in_chunk:  # the line break behind a chunk's data
            if line:
                raise Broken("malformed chunked encoding")
            self._in_chunk = False
            return True
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Broken("invalid byte in chunk length")
        self._length, self._in_chunk = int(size[1], 16), True
        if self._length == 0:
            self._finish()
        return True

    def _take(self, size: int) -> None:
        """That much of the buffer is body."""
        self._body += self._buffer[: min(size, BODY_BYTES - len(self._body))]
        del self._buffer[:size]
        if self._length is not None:
            self._length -= size
        if len(self._body) >= BODY_BYTES:
            self._finish()

    def _finish(self, fault: str = "") -> None:
        assert self.answer is not None
        self.answer = Answer(self.answer.status, self.answer.headers, self._body, fault)
        self.done = True


def _end_of_head(data: bytearray, start: int) -> int | None:
    """Where the head ends, its blank line included; lines may end in a bare line feed. start: no blank line begins
    before."""
    ends = [found + len(mark) for mark in _BLANK if (found := data.find(mark, start)) >= 0]
    return min(ends, default=None)


def _status(line: bytes) -> int:
    """The status code of a status line. Raises Broken in Go's words."""
    text = line.removesuffix(b"\r").decode("latin-1")
    version, _, rest = text.partition(" ")
    code = rest.lstrip(" ").partition(" ")[0]
    if not rest:
        raise Broken(f"{_BROKEN}malformed HTTP response {quote(text)}")
    if len(code) != 3:
        raise Broken(f"{_BROKEN}malformed HTTP status code {quote(code)}")
    if not (code.isascii() and code.isdigit()):
        raise Broken(f"{_BROKEN}malformed HTTP status code {quote(code)}")
    if not re.fullmatch(r"HTTP/[0-9]\.[0-9]", version):
        raise Broken(f"{_BROKEN}malformed HTTP version {quote(version)}")
    return int(code)


def _headers(lines: list[bytes]) -> dict[str, list[str]]:
    """Lower-case names to values, folded lines joined."""
    found: dict[str, list[str]] = {}
    last = ""
    for line in lines:
        text = line.decode("latin-1")
        if text[:1] in (" ", "\t") and last:
            found[last][-1] += f" {text.strip()}"
            continue
        name, colon, value = text.partition(":")
        if not colon or not name or name != name.strip():
            raise Broken(f"{_BROKEN}malformed MIME header line: {text}")
        last = name.lower()
        found.setdefault(last, []).append(value.strip(" \t"))
    return found


def _length(headers: dict[str, list[str]]) -> int | None:
    given = headers.get("content-length")
    if given is None:
        return None
    if len(set(given)) > 1:
        raise Broken(f"{_BROKEN}http: message cannot contain multiple Content-Length headers; got {given}")
    if not (given[0].isascii() and given[0].isdigit()):
        raise Broken(f"{_BROKEN}bad Content-Length {quote(given[0])}")
    return int(given[0])
