"""Pods that a real node ends: over their own limits of local storage, and because the node is short of disk, which a
threshold that no disk can keep makes of any."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract.bridge_node import NODE, BridgeNode, container, pod, running
from tests.waiting import wait_for
from vkcri.instance import Instance
from vkcri.queue import request

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-eviction"), pytest.mark.timeout(300)]
FILL = "dd if=/dev/zero of={path} bs=1M count={size} 2>/dev/null; "
STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"
LONG = 600
"""A grace that no test waits for: an eviction gives none of it."""


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    with running(claim("evict").name, tmp_path_factory.mktemp("logs")) as node:
        yield node


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


def has_no_volumes(node: BridgeNode, uid: str) -> bool:
    return not list(node.instance.volumes_dir.glob(f"{uid}*"))


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
        assert node.told(spec, "Evicted") == message
        uid = spec["metadata"]["uid"]
        wait_for("the end of its volumes", partial(has_no_volumes, node, uid))
    node.wait_phase(good, "Running")
    node.delete(good, 0)
    page = request(node.instance.queue_socket("provider"), "metrics", {}, timeout=30.0)["text"]
    for limit in ("emptydirfs", "ephemeralcontainerfs", "ephemeralpodfs"):
        assert f'kubelet_evictions{{eviction_signal="{limit}.limit"}} 1' in page
    types = {item["reason"]: item["type"] for item in list(node.events.values())}
    assert types["Evicted"] == "Warning"


@pytest.fixture
def short(node: BridgeNode, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Makes the node short of disk: it must keep all of it but for what the pods of a test write, however large it
    is."""
    settings = tmp_path / "config.toml"
    disk = os.statvfs(node.instance.state_dir)
    settings.write_text(f'eviction_hard = "nodefs.available<{disk.f_frsize * disk.f_blocks - (1 << 20)}"\n')

    def restart(**environment: str) -> None:
        node.end("cri-bridge")
        node.environment = environment
        node.run_bridge()

    yield lambda: restart(VKCRI_CONFIG=str(settings))
    restart()


def condition(node: BridgeNode, kind: str) -> tuple[str, str]:
    found = {item["type"]: (item["status"], item["reason"]) for item in node.node_status["conditions"]}
    return found.get(kind, ("", ""))


def test_a_node_that_is_short_of_disk_ends_pods_the_largest_first(node: BridgeNode, short: Callable[[], None]) -> None:
    large = pod("large", FILL.format(path="/x", size=9) + STUBBORN, terminationGracePeriodSeconds=LONG)
    little = pod("little", FILL.format(path="/x", size=1) + STUBBORN, terminationGracePeriodSeconds=LONG)
    vital = pod("vital", FILL.format(path="/x", size=12) + "sleep 1000", priority=2_000_000_000)
    for spec in (large, little, vital):
        node.put(spec)
    for spec in (large, little, vital):
        node.wait_phase(spec, "Running")

    def measured() -> bool:
        found = request(node.instance.queue_socket("provider"), "stats", {}, timeout=60.0)["pods"]
        sizes = {item["podRef"]["name"]: item["ephemeral-storage"].get("usedBytes", 0) >> 20 for item in found}
        return bool(sizes.get("large", 0) >= 9 and sizes.get("little", 0) >= 1 and sizes.get("vital", 0) >= 12)

    wait_for("the runtime's measures", measured)
    assert condition(node, "DiskPressure") == ("False", "KubeletHasNoDiskPressure")
    short()
    for spec in (large, little):
        status = node.wait_phase(spec, "Failed", 120.0)
        assert status["reason"] == "Evicted"
        low = "The node was low on resource: ephemeral-storage. Threshold quantity: "
        assert status["message"].startswith(low)
        assert "Container main was using " in status["message"]
        (target,) = [item for item in status["conditions"] if item["type"] == "DisruptionTarget"]
        assert (target["reason"], target["message"]) == ("TerminationByKubelet", status["message"])
        assert node.told(spec, "Evicted") == status["message"]
        (event,) = [item for item in list(node.events.values()) if item["message"] == status["message"]]
        assert event["annotations"]["starved_resource"] == "ephemeral-storage"
        assert event["annotations"]["offending_containers"] == "main"
    ended = [uid for uid, status in node.history if status.get("reason") == "Evicted"]
    assert ended.index(large["metadata"]["uid"]) < ended.index(little["metadata"]["uid"])
    wait_for("the condition", lambda: condition(node, "DiskPressure") == ("True", "KubeletHasDiskPressure"))
    late = pod("late")
    node.put(late)
    status = node.wait_phase(late, "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"] == "Pod was rejected: The node had condition: [DiskPressure]. "

    def met() -> list[dict[str, Any]]:
        return [item for item in list(node.events.values()) if item["reason"] == "EvictionThresholdMet"]

    told = wait_for("the event", met)
    assert {item["message"] for item in told} == {"Attempting to reclaim ephemeral-storage"}
    assert told[0]["involvedObject"] == {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": NODE}
    assert node.status(vital)["phase"] == "Running"
