"""One live node a worker, shared by the flow tests that do not break it; `fresh_node` for those that do.

Where they belong is `plane`'s: each to its own embedded API server, or with --cluster=real all to a real control plane
of this worker's own. A test that is about the embedded server alone is marked `embedded_only`, with its reason.

Tests of this folder are the longest, so they come first, the longest of them at the head: what is short fills the
workers' time at the end of the run. pytest-xdist keeps this order by its option --no-loadscope-reorder.
"""

from collections.abc import Iterator

import pytest

from tests.flow import kubectls
from tests.flow.live import LiveNode, live_node
from tests.flow.long_waits import LongWaits, begun
from tests.flow.planes import EmbeddedPlane, Plane, real_plane

LONGEST_FIRST = (
    "test_selfwatch::test_others_do_not_wait_for_a_long_pull_and_a_long_grace",  # two waits of two minutes begin,
    "test_agents",  # go on beside these,
    "test_selfwatch::test_a_long_pull_and_a_long_grace_are_not_cut_short",  # and end here
    "test_selfwatch",
    "test_kill",
    "test_session",
    "test_start",
    "test_instances",
    "test_providers",
    "test_streams",
    "test_logs",
    "test_static_pods",
    "test_pods",
    "test_kubectl_embedded",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The flow tests to the front; the order within a module, and of all others, stays."""
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}

    def rank(item: pytest.Item) -> int:
        module = item.nodeid.partition(".py")[0].removeprefix("tests/flow/")
        return ranks.get(f"{module}::{item.name}", ranks.get(module, len(ranks)))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def plane(request: pytest.FixtureRequest) -> Iterator[Plane]:
    """Where this worker's nodes belong."""
    if request.config.getoption("cluster") == "embedded":
        yield EmbeddedPlane()
        return
    with real_plane(request.config.getoption("kubernetes")) as plane:
        yield plane


@pytest.fixture(scope="session")
def node(plane: Plane) -> Iterator[LiveNode]:
    """A node that is Ready, on an instance of this worker's own."""
    with live_node(plane, "flow") as live:
        live.up()
        yield live


@pytest.fixture
def fresh_node(plane: Plane) -> Iterator[LiveNode]:
    """A node that is not up yet, for a test that stops, kills or reconfigures it."""
    with live_node(plane, "fresh") as live:
        yield live


@pytest.fixture(scope="session")
def long_waits(node: LiveNode) -> Iterator[LongWaits]:
    """Under way on this worker's node from the first test that wants them."""
    with begun(node) as found:
        yield found


@pytest.fixture(scope="session")
def old_kubectl() -> str:
    """Debian 12's kubectl."""
    return kubectls.debian("1.20")
