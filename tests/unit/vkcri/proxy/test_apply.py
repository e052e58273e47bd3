"""The kernel's side alone: rebuilds, errors, sysctls. nft is the real one, on a table of this test's own instance."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instances import own
from tests.unit.vkcri.proxy.objects import Object, endpoint, endpoint_slice, service
from tests.unit.vkcri.proxy.test_model import ports
from vkcri.errors import Unavailable
from vkcri.proxy import apply
from vkcri.proxy.apply import REBUILD_SECONDS, Kernel

TABLE = own("apply").nft_table
SUBNETS = ("10.244.25.0/24",)
on_kernel = [
    pytest.mark.container,
    pytest.mark.skipif(os.geteuid() != 0, reason="nft is root's"),
    pytest.mark.xdist_group("kube-proxy"),
]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kernel(clock: Clock) -> Iterator[Kernel]:
    yield Kernel(TABLE, clock=clock, jitter=lambda: 0.5)
    apply.remove(TABLE)
    assert listed() == ""


def listed() -> str:
    argv = ["nft", "list", "table", "ip", TABLE]
    return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout


def sync(kernel: Kernel, *objects: Object, masquerade_all: bool = False) -> None:
    kernel.sync(ports(*objects), SUBNETS, masquerade_all=masquerade_all)


class TestOnTheKernel:
    pytestmark = on_kernel

    def test_a_change_costs_a_difference_and_no_change_nothing(self, kernel: Kernel) -> None:
        sync(kernel, service(ip="10.125.0.5"), endpoint_slice(endpoint("10.244.25.2")))
        sync(kernel, service(ip="10.125.0.5"), endpoint_slice(endpoint("10.244.25.2")))
        assert kernel.applied == {"whole": 1, "difference": 0, "error": 0}
        sync(kernel, service(ip="10.125.0.5"), endpoint_slice(endpoint("10.244.25.3")))
        assert kernel.applied == {"whole": 1, "difference": 1, "error": 0}
        assert "dnat to 10.244.25.3:8080" in listed()
        assert "10.244.25.2" not in listed()

    def test_hourly_it_rebuilds_what_others_broke_and_forgets_no_client(self, kernel: Kernel, clock: Clock) -> None:
        objects = service(ip="10.125.0.5", sessionAffinity="ClientIP"), endpoint_slice(endpoint("10.244.25.2"))
        sync(kernel, *objects, service("gone", "10.125.0.6"), endpoint_slice(endpoint("10.244.25.9"), owner="gone"))
        clients = next(word for word in listed().split() if word.startswith("clients-"))
        apply.load(f"add element ip {TABLE} {clients} {{ 10.244.25.77 }}\nflush chain ip {TABLE} services\n")
        clock.now = REBUILD_SECONDS * 1.05 - 1
        sync(kernel, *objects)
        assert "vmap @service-ips" not in listed()
        clock.now += 2
        sync(kernel, *objects)
        assert kernel.applied["whole"] == 2
        assert "vmap @service-ips" in listed()
        assert "10.244.25.77" in listed()
        assert "ns/gone" not in listed()

    def test_an_error_leaves_what_stands_and_the_next_try_starts_over(self, kernel: Kernel) -> None:
        objects = service(ip="10.125.0.5"), endpoint_slice(endpoint("10.244.25.2"))
        sync(kernel, *objects)
        apply.load(f"flush chain ip {TABLE} services\n")
        apply.load(f"delete map ip {TABLE} service-ips\n")
        before = listed()
        with pytest.raises(Unavailable, match=r"(?s)nft: .*service-ips"):
            sync(kernel, *objects, service("more", "10.125.0.6"), endpoint_slice(endpoint("10.1.0.1"), owner="more"))
        assert listed() == before
        sync(kernel, *objects)
        assert kernel.applied == {"whole": 2, "difference": 0, "error": 1}
        assert "10.125.0.5 . tcp . 80" in listed()

    def test_masquerading_all_is_another_table_in_one_step(self, kernel: Kernel) -> None:
        objects = service(ip="10.125.0.5"), endpoint_slice(endpoint("10.244.25.2"))
        sync(kernel, *objects)
        assert "ip saddr != 10.244.25.0/24 masquerade" in listed()
        sync(kernel, *objects, masquerade_all=True)
        assert "ip saddr !=" not in listed()
        assert kernel.applied["error"] == 0

    def test_a_thousand_services_and_every_kind_of_port(self, kernel: Kernel) -> None:
        objects: list[Object] = []
        for number in range(1000):
            address, name = f"10.125.{number // 250}.{number % 250 + 1}", f"s{number}"
            spec: Object = {"sessionAffinity": "ClientIP"} if number % 10 == 0 else {}
            subject = service(name, address, type="NodePort", externalTrafficPolicy="Local", **spec)
            subject["spec"]["ports"][0]["nodePort"] = 30000 + number
            backends = [endpoint(f"10.244.25.{number % 200 + 1}"), endpoint(f"10.244.25.{number % 200 + 2}", node="n2")]
            objects += [subject, endpoint_slice(*backends, owner=name, name=f"{name}-1")]
        sync(kernel, *objects)
        text = listed()
        assert text.count("numgen random") > 1000
        sync(kernel, *objects[:-2])
        assert kernel.applied == {"whole": 1, "difference": 1, "error": 0}
        sync(kernel)
        assert "chain svc-" not in listed()

    def test_removal_twice(self, kernel: Kernel) -> None:
        sync(kernel)
        apply.remove(TABLE)
        apply.remove(TABLE)


def sysctls(root: Path, **values: str) -> Path:
    for name, value in values.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    return root


def test_forwarding_and_bridges_are_switched_on_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tree = tmp_path / "sys"
    (tree / "net/bridge").mkdir(parents=True)
    sysctls(tree, net__ipv4__ip_forward="0\n")
    for name in apply._BRIDGE_CALLS:
        (tree / name).write_text("0\n")
    monkeypatch.setattr(apply, "_SYSCTL", tree)
    with caplog.at_level("INFO"):
        assert apply.prepare() is True
        assert "set net.ipv4.ip_forward=1" in caplog.text
        caplog.clear()
        assert apply.prepare() is True
        assert caplog.text == ""
    assert (tree / "net/ipv4/ip_forward").read_text() == "1\n"
    assert (tree / apply._BRIDGE_CALLS[0]).read_text() == "1\n"


def test_without_br_netfilter_everything_is_masqueraded_which_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(apply, "_SYSCTL", sysctls(tmp_path, net__ipv4__ip_forward="1\n"))
    assert apply.prepare() is False
    assert "no br_netfilter" in caplog.text


def test_a_guest_that_cannot_forward_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "_SYSCTL", tmp_path)
    with pytest.raises(Unavailable, match=r"net\.ipv4\.ip_forward=1"):
        apply.prepare()
