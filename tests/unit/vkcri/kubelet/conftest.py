from collections.abc import Iterator

import pytest

from tests.unit.vkcri.kubelet.node import Node


def _run(name: str) -> Iterator[Node]:
    made = Node(name)
    try:
        made.start_watcher()
        made.start_provider()
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def node() -> Iterator[Node]:
    """A running log-server with both neighbours. Its instance is one for all tests: they are one xdist group."""
    yield from _run("logsrv-61")


@pytest.fixture(scope="module")
def calm_node() -> Iterator[Node]:
    """Another one, for tests that only ask it things and leave its neighbours alone."""
    yield from _run("logsrv-62")
