"""The same requests to the embedded API server and to a real one, which has no nodes but those that a test writes.

The real one has a newer etcd than Debian 12's, with which it streams lists (sendInitialEvents).
"""

import os
from collections.abc import Iterator
from functools import partial

import pytest

from tests.cluster import debian, etcd
from tests.cluster.control import claimed
from tests.comparison.sides import Pair, Side
from tests.flow.embedded import embedded_server
from tests.waiting import wait_for

NAMESPACE = "same"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this folder wants a control plane, and one worker has it."""
    for item in items:
        if "tests/comparison/" in item.nodeid:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(400))  # the first one starts both servers
            item.add_marker(pytest.mark.xdist_group("comparison"))


@pytest.fixture(scope="session")
def sides() -> Iterator[Pair]:
    """(embedded, real), both ready for pods in the namespaces `default` and `same`."""
    newer = debian.found("etcd-3.5")
    with claimed() as cluster, embedded_server("same") as server, pytest.MonkeyPatch.context() as patch:
        server.start()
        patch.setenv("PATH", str(newer.parent), prepend=os.pathsep)
        cluster.start()
        wait_for("the embedded server's kubeconfig", server.instance.admin_kubeconfig.exists, 30)
        pair = (
            Side("embedded", server.instance.admin_kubeconfig),
            Side("real", cluster.admin_kubeconfig, partial(etcd.compact, cluster.place)),
        )
        for side in pair:
            wait_for(f"{side.name}: readiness", partial(_ready, side), 30)
            side.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
            wait_for(f"{side.name}: what each pod is given", partial(_takes_pods, side), 30)
        try:
            yield pair
        finally:
            for side in pair:
                side.close()


def _takes_pods(side: Side) -> bool:
    needed = ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
    return all(side.request("GET", f"/api/v1/namespaces/{NAMESPACE}/{name}").code == 200 for name in needed)


def _ready(side: Side) -> bool:
    try:
        return side.request("GET", "/readyz").code == 200
    except OSError:
        return False
