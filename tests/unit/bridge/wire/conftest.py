"""A client whose loop runs on a thread, as in the bridge."""

from collections.abc import Iterator

import pytest

from bridge.wire.client import Client
from bridge.wire.loop import Loop
from vkcri.instance import Instance
from vkcri.lifecycle import Process


@pytest.fixture
def client() -> Iterator[Client]:
    deaths: list[int] = []
    process = Process("test", Instance("wire-44"), end=deaths.append)
    made = Client(Loop())
    made.start(process)
    yield made
    process.drain()
    assert deaths == []
