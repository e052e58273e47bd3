"""Pods that a real node ends because they take too much: by their own limits of local storage."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.bridge_node import BridgeNode, container, pod, wait_for
from vkcri.instance import Instance
from vkcri.queue import request

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-eviction")]
FILL = "dd if=/dev/zero of={path} bs=1M count={size} 2>/dev/null; "
STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"
LONG = 600
"""A grace that no test waits for: an eviction gives none of it."""


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    node = BridgeNode(claim("evict").name, tmp_path_factory.mktemp("logs"))
    try:
        node.start()
        yield node
    finally:
        node.stop()


def limited(name: str, script: str, limit: str) -> dict[str, Any]:
    return container(name, script, resources={"limits": {"ephemeral-storage": limit}})


def with_volume(spec: dict[str, Any], **source: Any) -> dict[str, Any]:
    spec["spec"]["volumes"] = [{"name": "data", "emptyDir": source}]
    spec["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return spec


def overfull() -> list[tuple[dict[str, Any], str]]:
    """Pods that are each over one limit, and what is said of it."""
    volume = pod("volume", FILL.format(path="/data/x", size=3) + STUBBORN, terminationGracePeriodSeconds=LONG)
    layer = limited("main", FILL.format(path="/x", size=3) + STUBBORN, "2Mi")
    roomy = limited("roomy", "sleep 1000", "1Gi")
    total = limited("main", FILL.format(path="/data/x", size=3) + STUBBORN, "2Mi")
    return [
        (with_volume(volume, sizeLimit="2Mi"), 'Usage of EmptyDir volume "data" exceeds the limit "2Mi". '),
        (
            pod("layer", containers=[layer, roomy], terminationGracePeriodSeconds=LONG),
            'Container main exceeded its local ephemeral storage limit "2Mi". ',
        ),
        (
            with_volume(pod("total", containers=[total], terminationGracePeriodSeconds=LONG)),
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. ",
        ),
    ]


def test_pods_over_a_limit_of_their_local_storage_are_evicted_and_others_stay(node: BridgeNode) -> None:
    within = limited("main", FILL.format(path="/data/x", size=1) + "sleep 1000", "50Mi")
    good = with_volume(pod("within", containers=[within]), sizeLimit="20Mi")
    found = overfull()
    for spec in (good, *(spec for spec, _ in found)):
        node.put(spec)
    for spec, message in found:
        status = node.wait_phase(spec, "Failed", 120.0)
        assert (status["reason"], status["message"]) == ("Evicted", message)
        assert all(item["state"]["terminated"]["exitCode"] == 137 for item in status["containerStatuses"])
        assert not any(item["type"] == "DisruptionTarget" for item in status["conditions"])
        assert node.reasons(spec)["Evicted"] == message
        uid = spec["metadata"]["uid"]
        wait_for("the end of its volumes", lambda uid=uid: not list(node.instance.volumes_dir.glob(f"{uid}*")))
    assert node.status(good)["phase"] == "Running"
    page = request(node.instance.queue_socket("provider"), "metrics", {}, timeout=30.0)["text"]
    for limit in ("emptydirfs", "ephemeralcontainerfs", "ephemeralpodfs"):
        assert f'kubelet_evictions{{eviction_signal="{limit}.limit"}} 1' in page
    types = {item["reason"]: item["type"] for item in node.events.values()}
    assert types["Evicted"] == "Warning"
