"""A process whose end a test would see, a folder whose path fits into a socket's name, and waiting on conditions."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.instances import own
from vkcri.lifecycle import Process


@pytest.fixture
def process() -> Iterator[Process]:
    ends: list[int] = []
    process = Process("test", own("queue"), end=ends.append)
    yield process
    process.drain()
    assert not ends, "a thread died"


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vkcri-queue-"))
    yield path
    shutil.rmtree(path)


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
