"""A page of metrics as scrapers fetch it: its bytes, and the same compressed, at most once however many ask."""

import gzip
import threading

from flask import Request, Response

_LEVEL = 1  # metrics repeat themselves: a tenth of the size, at a quarter of the usual level's time


class Page:
    """Thread-safe."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._lock = threading.Lock()
        self._packed = b""

    @property
    def packed(self) -> bytes:
        """By gzip."""
        with self._lock:
            self._packed = self._packed or gzip.compress(self.plain, _LEVEL, mtime=0)
            return self._packed

    def answer(self, request: Request, content_type: str) -> Response:
        """Compressed where the client prefers that, as Prometheus' own handler does it."""
        if not prefers_gzip(request):
            return Response(self.plain, content_type=content_type)
        return Response(self.packed, content_type=content_type, headers={"Content-Encoding": "gzip"})


def prefers_gzip(request: Request) -> bool:
    """Whether Accept-Encoding asks for gzip more than for the bytes as they are."""
    wanted = dict(request.accept_encodings)
    return wanted.get("gzip", 0) > max(wanted.get("identity", 0), wanted.get("*", 0))
