"""Keys that need work: a key stands in it once however often it is added, and one worker at a time has it.

No thread of its own; any number of threads add and take. Newest wins by construction, since a worker reads the key's
state after it has taken the key, and a key added meanwhile is handed out again once it is done.
"""

import threading
import time
from collections.abc import Callable


class DirtyKeys:
    """add and take keys, each with the time from which it is due."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._taken: set[str] = set()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return len(self._due) + len(self._taken)

    def add(self, key: str, delay: float = 0.0) -> None:
        """The key needs work in `delay` seconds, or earlier where it stands here already."""
        with self._changed:
            due = self._clock() + delay
            self._due[key] = min(due, self._due.get(key, due))
            self._changed.notify()

    def take(self) -> str | None:
        """Wait for a key that is due and that no other worker has; None once closed. Call done with it afterwards."""
        with self._changed:
            while not self._closed:
                now = self._clock()
                free = [(due, key) for key, due in self._due.items() if key not in self._taken]
                due, key = min(free, default=(None, ""))
                if due is not None and due <= now:
                    del self._due[key]
                    self._taken.add(key)
                    return key
                self._changed.wait(None if due is None else due - now)
            return None

    def done(self, key: str, retry: float | None = None) -> None:
        """The worker has finished with it; retry: the seconds after which it needs work again anyway."""
        with self._changed:
            self._taken.discard(key)
            self._changed.notify()
        if retry is not None:
            self.add(key, retry)

    def close(self) -> None:
        """Wake all workers for good."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
