"""One live node a worker, shared by the flow tests that do not break it; `fresh_node` for those that do."""

import os
from collections.abc import Iterator

import pytest

from tests.flow.live import LiveNode

FIRST = int(
    os.environ.get("VKCRI_TEST_FIRST", "90")
)  # of the nodes made here; another one for a second run on this guest


def worker_number() -> int:
    """0 for the first pytest-xdist worker and for a run without workers."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4


@pytest.fixture(scope="session")
def node() -> Iterator[LiveNode]:
    """A node that is Ready, on an instance of this worker's own."""
    live = LiveNode(f"flow-{FIRST + worker_number()}")
    live.reset()
    try:
        live.up()
        yield live
    finally:
        live.reset()


@pytest.fixture
def fresh_node() -> Iterator[LiveNode]:
    """A node that is not up yet, for a test that stops, kills or reconfigures it."""
    live = LiveNode(f"fresh-{FIRST + 4 + worker_number()}")
    live.reset()
    try:
        yield live
    finally:
        live.reset()
