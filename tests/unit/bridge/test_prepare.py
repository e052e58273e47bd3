"""The runtime is made ready for pods, and again when somebody takes away what it needs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge import images_local, network, podrange
from bridge.prepare import Preparation
from bridge.runtime import Runtime
from tests.contract.fake_runtime import FakeRuntime
from tests.instances import own
from tests.waiting import wait_for
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused
from vkcri.lifecycle import Process

INSTANCE = own("core")
PAUSE = "registry.example/pause:3"
NODE = {"metadata": {"name": "n"}, "spec": {"podCIDR": "10.9.7.0/24"}}


BARE = {"metadata": {"name": "n", "uid": "u"}, "spec": {}}


class House:
    """A preparation on the fake runtime, whose CNI folder is the test's. node: what topic `node` has."""

    def __init__(self, fake: FakeRuntime, folder: Path) -> None:
        self.fake, self.folder = fake, folder
        self.process = Process("test", INSTANCE, end=lambda _: None)
        self.runtime = Runtime(fake.endpoint)
        self.node: Mapping[str, Any] = NODE
        self.ready = 0
        self.settings = RuntimeSettings(instance=INSTANCE, runtime_endpoint=fake.endpoint, node_name="n")
        self.making = False
        self._prepare()

    def _prepare(self) -> None:
        self.preparation = Preparation(
            self.settings, self.runtime, lambda: self.node, self.on_ready, lambda: self.making
        )

    def join(self) -> None:
        """From here on a cluster is joined."""
        self.settings = replace(self.settings, kubeconfig="/nowhere/kubelet.conf")
        self._prepare()

    def again(self) -> "House":
        """After a restart."""
        self.ready = 0
        self._prepare()
        return self

    def on_ready(self) -> None:
        self.ready += 1

    def once(self) -> bool:
        return self.preparation.prepare(self.process)

    def network(self) -> str | None:
        """The range that our file gives to pods; None while there is no file."""
        path = network.file_in(self.folder, INSTANCE)
        if not path.exists():
            return None
        return str(json.loads(path.read_text())["plugins"][0]["ipam"]["ranges"][0][0]["subnet"])


@pytest.fixture
def house(fake: FakeRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    info = {"config": {"sandboxImage": PAUSE}, "cniconfig": {"PluginConfDir": str(tmp_path)}}
    monkeypatch.setattr(images_local, "status_info", lambda _: info)
    monkeypatch.setattr(network, "status_info", lambda _: info)
    monkeypatch.setattr(network, "_FORGET_SECONDS", 0.0)  # the fake has a network whatever lies in that folder
    fake.registry.add(PAUSE)
    house = House(fake, tmp_path)
    yield house
    house.process.drain()
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


def test_until_a_joined_node_has_its_range_there_is_no_pod_network(house: House) -> None:
    """The controller manager gives the range a moment after the Node was registered."""
    house.join()
    for node, why in (({}, "the Node is not registered yet"), (BARE, "the Node has no podCIDR yet")):
        house.node = node
        assert house.once()
        assert (house.preparation.network_trouble(), house.network()) == (why, None)
        assert house.preparation.trouble() == ""  # a pod of the host's network may start
    assert house.ready == 1
    house.node = NODE
    assert house.once()
    assert (house.preparation.network_trouble(), house.network()) == ("", "10.9.7.0/24")
    assert house.ready == 2


def test_a_cluster_that_gives_no_range_is_waited_for_and_then_our_own_serves(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(podrange, "GRACE_SECONDS", 0.05)
    house.join()
    house.node = BARE
    assert house.once()
    assert house.network() is None
    house.process.wait(0.1)
    assert house.once()
    assert (house.preparation.network_trouble(), house.network()) == ("", str(INSTANCE.pod_subnet))
    assert caplog.text.count("nobody has given the node a range") == 1


def test_with_the_api_server_away_static_pods_get_a_network_and_a_range_that_comes_later_is_taken(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(podrange, "GRACE_SECONDS", 0.2)
    house.join()
    house.node = {}
    assert house.once()
    assert (house.preparation.network_trouble(), house.network()) == ("the Node is not registered yet", None)
    wait_for("a network", lambda: house.once() and house.network() == str(INSTANCE.pod_subnet))
    assert (house.preparation.network_trouble(), house.ready) == ("", 2)
    house.node = NODE
    assert house.preparation.network_trouble() == "the Node was not there yet when the network was made"
    assert house.once()
    assert (house.preparation.network_trouble(), house.network(), house.ready) == ("", "10.9.7.0/24", 3)


def test_a_range_that_comes_while_pods_run_is_taken_once_they_are_gone(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(podrange, "GRACE_SECONDS", 0.0)
    house.join()
    house.node = BARE
    assert house.once()
    house.node = NODE
    monkeypatch.setattr(network, "_ports", lambda _: ["veth1"])
    for _ in range(3):
        assert house.once()
        assert (house.preparation.network_trouble(), house.network()) == ("", str(INSTANCE.pod_subnet))
    assert caplog.text.count("new ones get addresses of 10.9.7.0/24 once they are gone") == 1
    monkeypatch.setattr(network, "_ports", lambda _: [])
    assert house.once()
    assert house.network() == "10.9.7.0/24"


def test_a_sandbox_that_is_being_made_keeps_the_range_and_none_begins_while_it_changes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert house.once()
    house.node = {**NODE, "spec": {"podCIDR": "10.9.8.0/24"}}
    house.making = True
    assert house.once()
    assert (house.preparation.network_trouble(), house.network()) == ("", "10.9.7.0/24")
    told: list[str] = []

    def seen(_: object) -> list[str]:
        told.append(house.preparation.network_trouble())
        return []

    monkeypatch.setattr(network, "_ports", seen)
    house.making = False
    assert house.once()
    assert told == ["", "the pod network gets another range"]
    assert (house.preparation.network_trouble(), house.network()) == ("", "10.9.8.0/24")


def test_a_network_of_the_embedded_server_waits_for_no_node(house: House) -> None:
    house.node = {}
    assert house.once()
    assert (house.preparation.network_trouble(), house.network()) == ("", str(INSTANCE.pod_subnet))


def test_a_network_that_stands_is_kept_while_the_watcher_is_away(house: House) -> None:
    assert house.once()
    again = house.again()
    again.node = {}
    assert again.once()
    assert (again.preparation.network_trouble(), again.network()) == ("", "10.9.7.0/24")


def test_a_users_network_waits_for_no_range(house: House, tmp_path: Path) -> None:
    house.join()
    house.node = BARE
    tmp_path.joinpath("10-calico.conflist").write_text("{}")
    assert house.once()
    assert (house.preparation.network_trouble(), house.network(), house.ready) == ("", None, 1)


def test_a_range_that_comes_is_taken_at_once(house: House) -> None:
    house.join()
    house.node = BARE
    house.preparation.start(house.process)
    wait_for("the Node was looked at", lambda: house.preparation.network_trouble() == "the Node has no podCIDR yet")
    house.node = NODE
    house.preparation.node_changed()
    wait_for("the network", lambda: house.network() == "10.9.7.0/24")


def test_a_network_that_fails_leaves_the_rest_ready(
    house: House, fake: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Refused("iptables is not there")

    monkeypatch.setattr(network, "ensure_network", refuse)
    assert not house.once()
    assert (house.preparation.trouble(), house.preparation.network_trouble()) == ("", "iptables is not there")
    assert (PAUSE in fake.images, house.ready) == (True, 1)
