"""A process whose end a test would see, a folder whose path fits into a socket's name, and waiting on conditions."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instances import own
from tests.living import living
from vkcri.lifecycle import Process


@pytest.fixture
def process() -> Iterator[Process]:
    with living("test", own("queue")) as process:
        yield process


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="vkcri-queue-"))
    yield path
    shutil.rmtree(path)
