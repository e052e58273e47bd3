"""How many streams a server has at once: fewer than connections, so that short requests are answered beside them.

A stream is a log that is followed, or a session of exec, attach or port-forward. Request threads take places and give
them back.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import Response
from werkzeug.exceptions import abort

from vkcri.kubelet.logs import Blocks


class Streams:
    """Those of one server, `most` at a time. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def session(self) -> Iterator[None]:
        """A place for as long as the context. Answers the request with 503 where there is none."""
        self._take()
        try:
            yield
        finally:
            self._free.release()

    def follow(self, opened: Callable[[], Blocks]) -> Blocks:
        """A place for a log, which is opened in it, until that is closed. Answers as `session`."""
        self._take()
        held = [self._free.release]

        def give_back() -> None:
            if held:
                held.pop()()

        try:
            blocks = opened()
        except BaseException:
            give_back()
            raise

        def close() -> None:
            try:
                blocks.close()
            finally:
                give_back()

        return Blocks(blocks, close)

    def _take(self) -> None:
        if not self._free.acquire(blocking=False):
            headers = {"Retry-After": "1"}
            abort(Response("too many streams, try again\n", 503, headers, content_type="text/plain; charset=utf-8"))
