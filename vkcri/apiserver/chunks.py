"""The chunked body of a kubelet's answer, undone as it comes. Pure. Source: RFC 9112, 7.1."""

import re

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_LINE_BYTES = 4096


class Chunks:
    """Bytes in, content out. `ended` once the last chunk and its trailers were seen; before, a body is cut."""

    def __init__(self) -> None:
        self.ended = False
        self._line = b""  # of a size or a trailer, as far as it has come
        self._left = -1  # of the chunk at hand with the line end behind it; -1: a size is next
        self._trailers = False

    def feed(self, data: bytes) -> bytes:
        """Raises ValueError for what is no chunk."""
        content = b""
        while data and not self.ended:
            if self._left > 0:
                part, data = data[: self._left], data[self._left :]
                content += part[: max(0, self._left - 2)]  # the last two are the line end
                self._left -= len(part)
                continue
            self._left = -1
            line, found, data = data.partition(b"\n")
            self._line += line
            if len(self._line) > _LINE_BYTES:
                raise ValueError("a chunk's size is too long")
            if found:
                line, self._line = self._line.removesuffix(b"\r"), b""
                self._take(line)
        return content

    def _take(self, line: bytes) -> None:
        if self._trailers:
            self.ended = not line
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise ValueError(f"not a chunk's size: {line[:40]!r}")
        self._left = int(size[1], 16) + 2
        if self._left == 2:
            self._left, self._trailers = -1, True
