from collections.abc import Iterator

import pytest

from tests.unit.vkcri.kubelet.node import Node


@pytest.fixture
def node(worker_id: str) -> Iterator[Node]:
    """A running log-server with both neighbours; each xdist worker has an instance of its own."""
    number = 61 + int(worker_id.removeprefix("gw") or 0) if worker_id.startswith("gw") else 61
    made = Node(f"logsrv-{number}")
    try:
        made.start_watcher()
        made.start_provider()
        made.start()
        yield made
    finally:
        made.close()
