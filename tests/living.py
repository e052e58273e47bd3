"""A Process in a test: a thread of it that dies fails that test, where a program would end."""

import contextlib
from collections.abc import Iterator

from vkcri.instance import Instance
from vkcri.lifecycle import Process


@contextlib.contextmanager
def living(program: str, instance: Instance) -> Iterator[Process]:
    """It is drained at the context's end."""
    ends: list[int] = []
    process = Process(program, instance, end=ends.append)
    try:
        yield process
    finally:
        process.drain()
    assert not ends, "a thread died"
