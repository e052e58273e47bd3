"""Reading what a process that goes on has printed so far, with a limit: a process that says too little is killed, and
the test fails with all that it said at either end."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import AnyStr, NoReturn

import pytest

from tests.waiting import PATIENCE

AGAIN = 2.0  # seconds after which what was not answered is said again


@contextmanager
def killed_after(process: "subprocess.Popen[AnyStr]", seconds: float) -> Iterator[None]:
    """It is killed when the block takes longer, which ends a read of its output."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def read_until(
    process: "subprocess.Popen[AnyStr]", wanted: Callable[[list[AnyStr]], object], seconds: float = PATIENCE
) -> list[AnyStr]:
    """The next lines of its standard output, up to the one with which `wanted` holds; fewer when it ends before, or
    that one is not there after `seconds` and it is therefore killed."""
    assert process.stdout is not None
    found: list[AnyStr] = []
    with killed_after(process, seconds):
        while line := process.stdout.readline():
            found.append(line)
            if wanted(found):
                break
    return found


def lines(process: "subprocess.Popen[AnyStr]", count: int, seconds: float = PATIENCE) -> list[AnyStr]:
    """The next lines of its standard output, as many as are wanted: one at least."""
    found = read_until(process, lambda found: len(found) == count, seconds)
    if len(found) < count:
        _too_little(process, f"{len(found)} of {count} lines within {seconds:.0f} s: {found}")
    return found


def exactly(process: "subprocess.Popen[bytes]", size: int, seconds: float = PATIENCE) -> bytes:
    """The next bytes of its standard output, as many as are wanted."""
    assert process.stdout is not None
    with killed_after(process, seconds):
        found = process.stdout.read(size)
    if len(found) < size:
        last = found[-4096:].splitlines()[-1:]
        _too_little(process, f"{len(found)} of {size} bytes within {seconds:.0f} s, the last line: {last}")
    return found


def answered(process: "subprocess.Popen[bytes]", word: bytes, answer: bytes, between: tuple[bytes, ...] = ()) -> int:
    """Say a line to it until it answers; how often it was said. Lines of `between` may come before that answer.

    containerd begins to copy an attached client's input before it counts the client among those who get the output, so
    the first answer may be shown to nobody."""
    heard = threading.Event()

    def say() -> int:
        assert process.stdin is not None
        count = 0
        while not heard.is_set():
            process.stdin.write(word)
            process.stdin.flush()
            count += 1
            heard.wait(AGAIN)
        return count

    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(say)
        try:
            while (line := lines(process, 1)[0]) != answer:
                assert line in between
        finally:
            heard.set()
    return said.result()


def _too_little(process: "subprocess.Popen[AnyStr]", what: str) -> NoReturn:
    process.kill()
    pytest.fail(f"{process.args!r}: {what}; and then: {process.communicate(timeout=PATIENCE)}")
