"""node-status: what the node says of itself with a runtime, and without one."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge import host
from bridge.node import NodeStatus, features
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.fake_runtime import FakeRuntime
from tests.instances import own
from vkcri.config import RuntimeSettings
from vkcri.instance import Instance
from vkcri.queue import Publisher

NOW = 1_800_000_000.0


@pytest.fixture
def settings(fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RuntimeSettings:
    monkeypatch.setattr(Instance, "state_dir", tmp_path)
    return RuntimeSettings(instance=own("core"), runtime_endpoint=fake.endpoint, node_name="me", max_pods=17)


class Node:
    def __init__(self, settings: RuntimeSettings, tmp_path: Path) -> None:
        self.relisted: float | None = NOW
        self.trouble = self.network = ""
        self.pressures: list[str] = []
        self.publisher = Publisher(tmp_path / "provider.sock", ["node-status"])
        self.runtime = Runtime(settings.runtime_endpoint)
        self.status = NodeStatus(
            settings,
            self.runtime,
            self.publisher,
            lambda: self.relisted,
            lambda: self.trouble,
            lambda: NOW,
            network=lambda: self.network,
            pressures=lambda: self.pressures,
        )

    def value(self) -> dict[str, Any]:
        self.status.ask()
        self.status.publish()
        found: dict[str, Any] = json.loads(self.publisher.get("node-status", "node") or b"")
        return found

    def ready(self) -> dict[str, Any]:
        (found,) = [item for item in self.value()["conditions"] if item["type"] == "Ready"]
        return dict(found)


@pytest.fixture
def node(settings: RuntimeSettings, tmp_path: Path) -> Any:
    node = Node(settings, tmp_path)
    yield node
    node.runtime.close()


def test_a_node_with_a_runtime_is_ready_and_says_what_it_has(node: Node) -> None:
    value = node.value()
    assert node.ready() == {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
    }
    assert value["capacity"]["pods"] == "17"
    assert set(value["capacity"]) == set(value["allocatable"])
    assert value["nodeInfo"]["containerRuntimeVersion"] == "fake://1.0"
    assert value["nodeInfo"]["kernelVersion"]
    assert value["nodeInfo"]["operatingSystem"] == "linux"
    assert {item["type"] for item in value["conditions"]} == {"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"}
    assert any("localhost/vkcri/shell:1" in item["names"] for item in value["images"])
    assert (value["relisted"], value["reported"]) == ("2027-01-15T08:00:00Z", "2027-01-15T08:00:00Z")


def test_what_the_node_is_short_of_is_told_in_the_kubelets_words(node: Node) -> None:
    def told() -> dict[str, tuple[str, str, str]]:
        found = {item["type"]: item for item in node.value()["conditions"]}
        return {kind: (item["status"], item["reason"], item["message"]) for kind, item in found.items()}

    assert told()["DiskPressure"] == ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
    node.pressures = ["DiskPressure", "MemoryPressure"]
    assert told() == {
        "MemoryPressure": ("True", "KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        "DiskPressure": ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
    }


def test_a_runtime_that_is_away_is_the_reason_and_images_stay(node: Node, fake: FakeRuntime) -> None:
    before = node.value()
    fake.close()
    found = node.ready()
    assert (found["status"], found["reason"]) == ("False", "KubeletNotReady")
    assert found["message"].startswith("container runtime is down: ")
    after = node.value()
    assert after["images"] == before["images"]
    assert after["nodeInfo"]["containerRuntimeVersion"] == "fake://1.0"


def test_a_missing_network_an_old_relist_and_other_trouble_are_reasons(node: Node, fake: FakeRuntime) -> None:
    fake.network_ready = False
    assert node.ready()["message"] == (
        "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
        "message:cni plugin not initialized"
    )
    assert node.status.network_error()
    fake.network_ready = True
    node.relisted = NOW - 200
    assert node.ready()["message"] == "PLEG is not healthy: pleg was last seen active 200s ago; threshold is 3m0s"
    node.trouble = "no pause image"
    assert node.ready()["message"].endswith("threshold is 3m0s, no pause image]")
    node.relisted, node.trouble = NOW, ""
    assert node.ready()["status"] == "True"


def test_a_network_that_waits_for_its_range_is_told_as_a_plugins_though_the_runtime_has_one(node: Node) -> None:
    node.network = "the Node has no podCIDR yet"
    found = node.ready()
    assert (found["status"], found["reason"]) == ("False", "KubeletNotReady")
    assert (
        found["message"]
        == node.status.network_error()
        == (
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
            "message:Network plugin returns error: the Node has no podCIDR yet"
        )
    )


def test_what_is_kept_free_is_not_allocatable() -> None:
    found = host.allocatable(
        {"cpu": "2", "memory": "1048576Ki", "ephemeral-storage": "1000Ki", "pods": "5", "hugepages-2Mi": "4Mi"},
        {"memory": 100 << 20, "ephemeral-storage": 100 << 10},
    )
    assert found == {
        "cpu": "2",
        "memory": f"{1048576 - 100 * 1024 - 4 * 1024}Ki",
        "ephemeral-storage": "921600",
        "pods": "5",
        "hugepages-2Mi": "4Mi",
    }


def test_this_guest_has_a_capacity(tmp_path: Path) -> None:
    found = host.capacity(tmp_path, 110)
    assert int(found["cpu"]) >= 1
    assert int(found["memory"].removesuffix("Ki")) > 1024
    assert int(found["ephemeral-storage"].removesuffix("Ki")) > 1024


class TestFeatures:
    def of(self, version: str, name: str = "containerd", status: cri.StatusResponse | None = None) -> Any:
        answer = cri.VersionResponse(runtime_name=name, runtime_version=version)
        return features(answer, status or cri.StatusResponse())

    def test_an_old_containerd_vouches_for_nothing(self) -> None:
        found = self.of("1.6.20~ds1")
        assert not any((found.user_namespaces, found.recursive_read_only, found.image_volumes))

    def test_image_volumes_came_with_two_dot_one(self) -> None:
        assert [self.of(version).image_volumes for version in ("v2.0.5", "v2.1.0", "2.1.9", "v3.0.0")] == [
            False,
            True,
            True,
            True,
        ]
        assert [self.of(version).image_sub_paths for version in ("2.1.9", "v2.2.0")] == [False, True]
        assert not self.of("9.9", name="other").image_volumes
        assert not self.of("unknown").image_volumes

    def test_the_rest_is_what_status_says(self) -> None:
        handler = cri.RuntimeHandler(
            name="", features=cri.RuntimeHandlerFeatures(recursive_read_only_mounts=True, user_namespaces=True)
        )
        status = cri.StatusResponse(
            runtime_handlers=[handler, cri.RuntimeHandler(name="odd")],
            features=cri.RuntimeFeatures(supplemental_groups_policy=True),
        )
        found = self.of("2.1.9", status=status)
        assert (found.user_namespaces, found.recursive_read_only, found.supplemental_groups_policy) == (True,) * 3

    def test_another_handler_is_another_matter(self) -> None:
        able = cri.RuntimeHandlerFeatures(user_namespaces=True)
        handlers = [cri.RuntimeHandler(name=""), cri.RuntimeHandler(name="crun", features=able)]
        version = cri.VersionResponse(runtime_name="containerd", runtime_version="2.1.9")
        found = [features(version, cri.StatusResponse(runtime_handlers=handlers), name) for name in ("", "crun", "x")]
        assert [item.user_namespaces for item in found] == [False, True, False]
