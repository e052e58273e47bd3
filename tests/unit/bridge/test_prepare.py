"""The runtime is made ready for pods, and again when somebody takes away what it needs."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge import images_local, network, prepare
from bridge.prepare import Preparation
from bridge.runtime import Runtime
from tests.contract.fake_runtime import FakeRuntime
from tests.instances import own
from vkcri.config import RuntimeSettings
from vkcri.lifecycle import Process

INSTANCE = own("core")
PAUSE = "registry.example/pause:3"
NODE = {"metadata": {"name": "n"}, "spec": {"podCIDR": "10.9.7.0/24"}}


class House:
    """A preparation on the fake runtime, whose CNI folder is the test's. node: what topic `node` has."""

    def __init__(self, fake: FakeRuntime) -> None:
        self.process = Process("test", INSTANCE, end=lambda _: None)
        self.runtime = Runtime(fake.endpoint)
        self.node: list[Mapping[str, Any]] = [NODE]
        self.ready = 0
        settings = RuntimeSettings(instance=INSTANCE, runtime_endpoint=fake.endpoint, node_name="n")
        self.preparation = Preparation(settings, self.runtime, self.newest, self.on_ready)

    def newest(self) -> Mapping[str, Any]:
        """Each look finds the next state, until the last one."""
        return self.node.pop(0) if len(self.node) > 1 else self.node[0]

    def on_ready(self) -> None:
        self.ready += 1

    def once(self) -> bool:
        return self.preparation.prepare(self.process)


@pytest.fixture
def house(fake: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    info = {"config": {"sandboxImage": PAUSE}, "cniconfig": {"PluginConfDir": str(tmp_path)}}
    monkeypatch.setattr(images_local, "status_info", lambda _: info)
    monkeypatch.setattr(network, "status_info", lambda _: info)
    fake.registry.add(PAUSE)
    house = House(fake)
    yield house
    house.process.stop()
    house.runtime.close()


def test_a_removed_pause_image_comes_back_though_the_network_was_never_lost(house: House, fake: FakeRuntime) -> None:
    assert house.once()
    assert (house.preparation.trouble(), house.ready) == ("", 1)
    pulls = fake.count("PullImage")
    assert house.once()
    assert fake.count("PullImage") == pulls
    with fake.locked:
        del fake.images[PAUSE]
    assert house.once()
    assert PAUSE in fake.images


def test_a_pause_image_that_cannot_come_back_is_the_nodes_trouble(
    house: House, fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.once()
    with fake.locked:
        fake.registry.clear()
        del fake.images[PAUSE]
    monkeypatch.setenv("PATH", "/nowhere")  # no ctr, so none is made here
    assert not house.once()
    assert "ctr" in house.preparation.trouble()
    fake.registry.add(PAUSE)
    assert house.once()
    assert (house.preparation.trouble(), house.ready) == ("", 2)


def test_the_first_network_is_of_the_nodes_range_though_the_node_comes_late(house: House, tmp_path: Path) -> None:
    house.node = [{}, {}, {}, NODE]
    house.preparation.await_node(house.process)
    assert house.once()
    (file,) = tmp_path.glob("*.conflist")
    assert json.loads(file.read_text())["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.9.7.0/24"}]]


def test_a_node_that_does_not_come_is_not_waited_for_long(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "NODE_SECONDS", 0.1)
    house.node = [{}]
    house.preparation.await_node(house.process)
    assert house.once()
    (file,) = tmp_path.glob("*.conflist")
    assert str(INSTANCE.pod_subnet) in file.read_text()
