"""The default pod network: when it is written, what it says, and that only ours is ever touched."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bridge import network
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.fake_runtime import FakeRuntime
from tests.instances import own
from tests.waiting import PATIENCE
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused

pytestmark = pytest.mark.xdist_group("bridge-network")
INSTANCE = own("rt")
BRIDGE, PORT = INSTANCE.bridge_name, f"rt{INSTANCE.index}p"
SETTINGS = RuntimeSettings(instance=INSTANCE, pod_ip="127.0.0.1")
SUBNET = IPv4Network("10.9.8.0/24")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(network, "status_info", lambda _: {"cniconfig": {"PluginConfDir": str(tmp_path / "net.d")}})
    return tmp_path / "net.d"


@pytest.fixture
def runtime(fake: FakeRuntime) -> Iterator[Runtime]:
    client = Runtime(fake.endpoint)
    yield client
    client.close()


def test_it_is_written_where_there_is_none_and_once(folder: Path, runtime: Runtime) -> None:
    assert network.ensure_network(runtime, SETTINGS, SUBNET)
    path = folder / f"{INSTANCE.cni_name}.conflist"
    assert [entry.name for entry in folder.iterdir()] == [path.name]
    bridge = json.loads(path.read_text())["plugins"][0]
    assert (bridge["bridge"], bridge["ipMasq"]) == (INSTANCE.bridge_name, True)
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.9.8.0/24"}]]
    before = path.stat()
    assert network.ensure_network(runtime, SETTINGS, SUBNET)
    assert path.stat() == before


@pytest.mark.parametrize("name", ["10-mine.conf", "99-mine.conflist", "zzzz.json"])
def test_a_users_configuration_is_left_alone_and_serves(folder: Path, runtime: Runtime, name: str) -> None:
    folder.mkdir()
    (folder / name).write_text("{}")
    (folder / "README").write_text("not a configuration")
    assert network.ensure_network(runtime, SETTINGS, SUBNET)
    assert sorted(entry.name for entry in folder.iterdir()) == sorted([name, "README"])


def test_a_users_later_configuration_sorts_before_ours(folder: Path, runtime: Runtime) -> None:
    network.ensure_network(runtime, SETTINGS, SUBNET)
    before = network.file_in(folder, INSTANCE).stat()
    (folder / "z-mine.conflist").write_text("{}")
    assert sorted(entry.name for entry in folder.iterdir())[0] == "z-mine.conflist"
    assert network.ensure_network(runtime, SETTINGS, IPv4Network("10.9.9.0/24"))
    assert network.file_in(folder, INSTANCE).stat() == before


def test_another_range_replaces_it_unless_pods_use_it(
    folder: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert network.ensure_network(runtime, SETTINGS, SUBNET)
    path = network.file_in(folder, INSTANCE)
    other = IPv4Network("10.9.9.0/24")
    monkeypatch.setattr(network, "_ports", lambda _: ["veth1"])
    assert not network.ensure_network(runtime, SETTINGS, other)
    assert "10.9.8.0/24" in path.read_text()
    monkeypatch.setattr(network, "_ports", lambda _: [])
    without: list[bool] = []

    def forgets(_: Runtime) -> str | None:
        without.append(not path.exists())
        return "cni plugin not initialized" if len(without) > 1 else None

    monkeypatch.setattr(network, "not_ready", forgets)
    monkeypatch.setattr(network, "_FORGET_SECONDS", PATIENCE)
    assert network.ensure_network(runtime, SETTINGS, other)
    assert without == [True, True], "the runtime has forgotten the old one before the new one is there"
    assert "10.9.9.0/24" in path.read_text()


def test_pods_are_let_through_a_firewall_that_drops() -> None:
    kinds = [plugin["type"] for plugin in network.conflist(INSTANCE, SUBNET, firewall=True)["plugins"]]
    assert kinds == ["bridge", "portmap", "firewall"]
    assert [plugin["type"] for plugin in network.conflist(INSTANCE, SUBNET, firewall=False)["plugins"]] == kinds[:2]


def test_without_iptables_nothing_is_written_and_the_cure_is_told(
    folder: Path, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(network, "SEARCH_PATH", str(folder))
    with pytest.raises(Refused, match="apt-get install iptables"):
        network.ensure_network(runtime, SETTINGS, SUBNET)
    assert not folder.exists()


def test_a_network_that_does_not_come_up_is_told_in_the_runtimes_words(
    folder: Path, fake: FakeRuntime, runtime: Runtime
) -> None:
    folder.mkdir()
    (folder / "10-mine.conflist").write_text("{}")
    fake.network_ready = False
    assert network.not_ready(runtime) == "cni plugin not initialized"
    with pytest.raises(Refused, match=r"cni plugin not initialized \(files in .*: 10-mine.conflist\)"):
        network.wait_ready(runtime, threading.Event().wait, 0.2)
    fake.network_ready = True
    network.wait_ready(runtime, threading.Event().wait, 0.2)


@pytest.fixture
def bridge() -> Iterator[Callable[..., None]]:
    """`ip` for links of this test's own names, which are gone afterwards."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, timeout=10)

    yield ip
    for name in (BRIDGE, PORT):
        subprocess.run(["ip", "link", "delete", name], check=False, timeout=10, stderr=subprocess.DEVNULL)


@pytest.mark.container
def test_removal_takes_our_file_and_bridge_and_nothing_else(tmp_path: Path, bridge: Callable[..., None]) -> None:
    ours = network.file_in(tmp_path, INSTANCE)
    theirs = tmp_path / "10-mine.conflist"
    for path in (ours, theirs):
        path.write_text("{}")
    bridge("link", "add", BRIDGE, "type", "bridge")
    bridge("link", "set", BRIDGE, "up")
    for _ in range(2):
        network.remove_network(INSTANCE, [tmp_path])
        assert (ours.exists(), theirs.exists()) == (False, True)
        assert not Path("/sys/class/net", BRIDGE).exists()


@pytest.mark.container
def test_a_bridge_that_others_use_stays_with_its_file(
    tmp_path: Path, bridge: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_PORTS_SECONDS", 0.1)
    path = network.file_in(tmp_path, INSTANCE)
    path.write_text("{}")
    bridge("link", "add", BRIDGE, "type", "bridge")
    bridge("link", "add", PORT, "master", BRIDGE, "type", "veth", "peer", "name", f"{PORT}q")
    with pytest.raises(Refused, match=PORT):
        network.remove_network(INSTANCE, [tmp_path])
    assert path.exists()
    assert Path("/sys/class/net", BRIDGE).exists()


@pytest.mark.container
def test_a_sandbox_reaches_the_guest_and_gets_a_host_port(
    containerd_settings: RuntimeSettings, containerd_runtime: Runtime
) -> None:
    runtime, instance = containerd_runtime, containerd_settings.instance
    config = cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name="net", uid="net", namespace="ns"),
        port_mappings=[cri.PortMapping(container_port=80, host_port=20000 + instance.index, host_ip="127.0.0.1")],
        linux=cri.LinuxPodSandboxConfig(cgroup_parent=f"{instance.cgroup_root}/kubepods/podnet"),
    )
    sandbox = runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
    try:
        status = runtime.pod_sandbox_status(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox)).status
        address = status.network.ip
        assert address.startswith(str(instance.pod_subnet.network_address).removesuffix(".0"))
        with pytest.raises(ConnectionRefusedError):  # the sandbox itself answers: nothing listens there
            socket.create_connection((address, 80), timeout=10)
        rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=True, timeout=20)
        assert f"--to-destination {address}:80" in rules.stdout
    finally:
        runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
        runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    rules = subprocess.run(["iptables-save", "-t", "nat"], capture_output=True, text=True, check=True, timeout=20)
    assert f'"{instance.cni_name}"' not in rules.stdout.replace("\\", "")
