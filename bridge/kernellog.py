"""Reads the kernel's log for the node's own want of memory: the thread `kernel-log`, which waits until there is news.

What the ring still holds of the last hour is told too, with its own time: an OOM may have killed this very program, and
a repeat is the same Event. A guest that lets nobody read /dev/kmsg has no such events, which is said once.
"""

import errno
import logging
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bridge import oom
from vkcri.lifecycle import Process

KMSG: Final = Path("/dev/kmsg")
KEEP_SECONDS: Final = 3600.0
"""As long as an Event lives."""
_RECORD_BYTES: Final = 8192  # the kernel's most
_SKIPPED: Final = (errno.EPIPE, errno.EINVAL)  # overwritten before it was read, longer than the kernel says
log = logging.getLogger(__name__)


class KernelLog:
    """tell(message, when): the machine was out of memory at that time, in seconds since the epoch; called on the
    thread. clock(): seconds since the epoch, since_boot(): as the kernel counts them in its log."""

    def __init__(
        self,
        tell: Callable[[str, float], None],
        path: Path = KMSG,
        *,
        clock: Callable[[], float] = time.time,
        since_boot: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._path = path
        self._clock = clock
        self._since_boot = since_boot
        self._story = oom.Story()

    def start(self, process: Process) -> None:
        try:
            log_file = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            log.warning("%s: %s: the node's own OOM kills are not told of", self._path, error.strerror)
            return
        reader, writer = os.pipe()
        process.on_stop(lambda: os.close(writer))

        def follow() -> None:
            try:
                self.follow(log_file, reader)
            finally:
                os.close(log_file)
                os.close(reader)

        process.start_thread("kernel-log", follow, may_end=True)

    def follow(self, log_file: int, stop: int) -> None:
        """Read until the other end of `stop` is closed, or the log ends."""
        poll = select.poll()
        poll.register(log_file, select.POLLIN)
        poll.register(stop, 0)  # hang-ups are always told
        while not any(descriptor == stop for descriptor, _ in poll.poll()):
            if not self._read(log_file):
                return

    def _read(self, log_file: int) -> bool:
        """All records that are there. False where there never are more."""
        while True:
            try:
                raw = os.read(log_file, _RECORD_BYTES)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno in _SKIPPED:
                    continue
                log.warning("%s: %s: the node's own OOM kills are no longer told of", self._path, error.strerror)
                return False
            if not raw:
                return False
            self._look(raw.decode(errors="replace"))

    def _look(self, raw: str) -> None:
        found = oom.record(raw)
        killed = self._story.feed(found.text) if found else None
        if found is None or killed is None:
            return
        ago = max(0.0, self._since_boot() - found.boot_seconds)
        message = oom.system_oom(killed)
        if message and ago < KEEP_SECONDS:
            log.warning("%s, %d s ago", message, ago)
            self._tell(message, self._clock() - ago)
