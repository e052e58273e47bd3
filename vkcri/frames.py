"""Where one direction's frames begin: a stream of heads and bodies cut as it comes, in whatever pieces. Pure.

What a head means its protocol knows (vkcri.websocket, vkcri.kubelet.spdy, vkcri.farewell). A body is never gathered:
its parts are handed out as they arrive, so that no frame costs memory, however long it says it is.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple


class Part(NamedTuple):
    """A piece of a frame's body: the frame's head, the bytes, where in the body they begin, whether it ends with them.
    A frame without a body has one empty part."""

    head: bytes
    data: bytes
    offset: int
    ends: bool


class Frames:
    """`head_size(head)`: a head's bytes, as far as its first ones tell; `body_size(head)`: those behind a whole one."""

    def __init__(self, head_size: Callable[[bytes], int], body_size: Callable[[bytes], int]) -> None:
        self._head_size, self._body_size = head_size, body_size
        self._head = b""
        self._whole = b""  # the head of the frame at hand
        self._size = 0
        self._left = 0

    def parts(self, data: bytes) -> Iterator[Part]:
        """Cut what has come. To be exhausted before the next."""
        position = 0
        while position < len(data):
            if self._left:
                part = data[position : position + self._left]
                position += len(part)
                offset = self._size - self._left
                self._left -= len(part)
                yield Part(self._whole, part, offset, not self._left)
                continue
            part = data[position : position + self._head_size(self._head) - len(self._head)]
            self._head += part
            position += len(part)
            if len(self._head) == self._head_size(self._head):
                self._whole, self._head = self._head, b""
                self._left = self._size = self._body_size(self._whole)
                if not self._left:
                    yield Part(self._whole, b"", 0, True)

    def feed(self, data: bytes) -> None:
        """Only follow where frames begin."""
        for _ in self.parts(data):
            pass

    @property
    def missing(self) -> int:
        """Bytes that are sure to come before another frame may begin; 0: it may begin now."""
        return self._left or (self._head_size(self._head) - len(self._head) if self._head else 0)
