"""Waiting for what other threads and processes do.

A wait that was merely short fails a run on a busy machine and tells nothing of the code. PATIENCE has nothing to do
with how fast something ought to be: it only ends a test that would never pass before the test's own limit does.
"""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0
T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """The probe's first value that is true. Fails the test after that many seconds, with the last value."""
    deadline, pause = time.monotonic() + seconds, 0.005
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}; last seen: {value!r}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until the condition is true; a failure shows the line that waits."""
    wait_for("the condition", condition, seconds)
