"""What a person should know, and do, about a program: topic `notices` of its role, by a short key, as long as it holds.

`vkcri status` and `make run` print them. Any thread may put and clear; a notice that is new or says something new is
also logged, once. The topic is synced once the program has said something, or knows that it need not.
"""

import json
import logging
import threading
from dataclasses import dataclass

from vkcri.queue.publisher import Publisher

TOPIC = "notices"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """message: one line; command: what to type, exactly, where that cures it."""

    message: str
    command: str = ""

    def __str__(self) -> str:
        return f"{self.message}: {self.command}" if self.command else self.message


class Notices:
    """The notices of one program, in a publisher that owns the topic."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._held: dict[str, Notice] = {}
        self._known = False

    def put(self, key: str, message: str, command: str = "", *, level: int = logging.WARNING) -> None:
        """From now on this holds; logged at that level where it says something new."""
        notice = Notice(message, command)
        with self._lock:
            if self._held.get(key) == notice:
                return
            self._held[key] = notice
            self._publisher.put(TOPIC, key, json.dumps({"message": message, "command": command}).encode())
        self.known()
        log.log(level, "%s", notice)

    def clear(self, key: str) -> None:
        """It no longer holds. Harmless where it did not."""
        with self._lock:
            if self._held.pop(key, None) is not None:
                self._publisher.delete(TOPIC, key)

    def known(self) -> None:
        """Something has been said, or there is nothing to say."""
        if not self._known:
            self._known = True
            self._publisher.mark_synced(TOPIC)


def parse(value: bytes) -> Notice:
    """A value of the topic."""
    held = json.loads(value)
    return Notice(str(held.get("message") or ""), str(held.get("command") or ""))
