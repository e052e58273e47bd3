"""One control plane for the tests of this folder, on a number of its own."""

from collections.abc import Iterator

import pytest

from tests.cluster.control import Cluster, claimed


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A control plane that takes pods, without nodes."""
    with claimed() as started:
        started.start()
        yield started
