from collections.abc import Iterator

import pytest

from tests.unit.vkcri.kubelet.node import Node


def _run() -> Iterator[Node]:
    made = Node()
    try:
        made.start_watcher()
        made.start_provider()
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def node() -> Iterator[Node]:
    """A running log-server with both neighbours."""
    yield from _run()


@pytest.fixture(scope="module")
def calm_node() -> Iterator[Node]:
    """Another one, for tests that only ask it things and leave its neighbours alone."""
    yield from _run()
