"""ClusterIPs and node ports: given, drawn, kept, refused."""

import copy
import ipaddress
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House
from vkcri.apiserver.admission import addresses
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]


def service(house: House, name: str = "s", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return house.create("/services", {"metadata": metadata, "spec": {"ports": [{"port": 80}], **spec}})


def refused(house: House, name: str = "s", **spec: Any) -> str:
    with pytest.raises(StatusError) as caught:
        service(house, name, **spec)
    assert caught.value.code == 422
    return caught.value.message


def test_an_address_is_drawn_from_above_the_static_band(house: House) -> None:
    found = [ipaddress.ip_address(service(house, f"s{index}")["spec"]["clusterIP"]) for index in range(30)]
    subnet = house.settings.instance.service_range
    assert len(set(found)) == 30
    assert all(subnet[256] < address < subnet.broadcast_address for address in found)


def test_families_are_filled_in(house: House) -> None:
    spec = service(house)["spec"]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"], spec["clusterIPs"]) == (
        ["IPv4"],
        "SingleStack",
        [spec["clusterIP"]],
    )


def test_an_address_can_be_asked_for_once(house: House) -> None:
    assert service(house, "one", clusterIP="10.181.0.10")["spec"]["clusterIPs"] == ["10.181.0.10"]
    assert "failed to allocate IP 10.181.0.10: provided IP is already allocated" in refused(
        house, "two", clusterIP="10.181.0.10"
    )


@pytest.mark.parametrize("address", ["10.182.0.1", "10.181.0.0", "10.181.15.255", "8.8.8.8"])
def test_an_address_outside_the_range_is_refused(house: House, address: str) -> None:
    assert "is not in the valid range. The range of valid IPs is 10.181.0.0/20" in refused(house, clusterIP=address)


def test_an_address_is_free_again_after_its_service(house: House) -> None:
    service(house, "one", clusterIP="10.181.0.10")
    house.delete("/services", "default", "one")
    service(house, "two", clusterIP="10.181.0.10")


def test_a_full_upper_band_falls_back_to_the_lower_and_then_is_full() -> None:
    subnet = ipaddress.IPv4Network("10.0.0.0/27")
    upper = {str(subnet[offset]) for offset in range(17, 31)}
    assert ipaddress.ip_address(addresses._free_address(subnet, set(upper))) in subnet
    everything = {str(address) for address in subnet.hosts()}
    assert addresses._free_address(subnet, everything) == ""


def test_headless_and_external_services_have_no_address(house: House) -> None:
    headless = service(house, "headless", clusterIP="None", selector={"a": "b"})["spec"]
    assert (headless["clusterIP"], headless["clusterIPs"], headless["ipFamilies"]) == ("None", ["None"], ["IPv4"])
    by_hand = service(house, "by-hand", clusterIP="None")["spec"]
    assert by_hand["ipFamilyPolicy"] == "RequireDualStack"
    external = service(house, "external", type="ExternalName", externalName="example.com")["spec"]
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & set(external)


def test_a_second_family_is_refused(house: House) -> None:
    assert "not configured on this cluster" in refused(house, ipFamilies=["IPv6"])
    assert "not configured for dual-stack services" in refused(house, ipFamilyPolicy="RequireDualStack")


def test_an_update_without_an_address_keeps_it(house: House) -> None:
    stored = service(house)
    new = copy.deepcopy(stored)
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        del new["spec"][field]
    assert house.update("/services", new) == stored


def test_node_ports_are_drawn_kept_and_unique(house: House) -> None:
    stored = service(house, "one", type="NodePort")
    number = stored["spec"]["ports"][0]["nodePort"]
    assert number in addresses.NODE_PORTS
    new = copy.deepcopy(stored)
    del new["spec"]["ports"][0]["nodePort"]
    assert house.update("/services", new) == stored
    port = {"port": 1, "nodePort": number}
    assert "provided port is already allocated" in refused(house, "two", type="NodePort", ports=[port])
    udp = {**port, "protocol": "UDP"}
    assert service(house, "three", type="NodePort", ports=[udp])["spec"]["ports"][0]["nodePort"] == number
    port = {"port": 1, "nodePort": 80}
    assert "The range of valid ports is 30000-32767" in refused(house, "four", type="NodePort", ports=[port])


def test_a_service_may_become_external_and_come_back(house: House) -> None:
    stored = service(house)
    stored["spec"] = {"type": "ExternalName", "externalName": "example.com"}
    external = house.update("/services", stored)
    assert "clusterIP" not in external["spec"]
    external["spec"] = {"type": "ClusterIP", "ports": [{"port": 80}]}
    assert house.update("/services", external)["spec"]["clusterIP"].startswith("10.181.")
