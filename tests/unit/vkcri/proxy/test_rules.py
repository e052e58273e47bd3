"""Service ports as nft text: what a Service needs is there, a difference holds only what differs."""

import re
from typing import Any

import pytest

from tests.unit.vkcri.proxy.objects import Object, endpoint, endpoint_slice, service
from tests.unit.vkcri.proxy.test_model import ports
from vkcri.proxy.rules import Ruleset, difference, removal, ruleset, whole

SUBNETS = ("10.1.0.0/24", "fd00:1::/64")


def rules(*objects: Object, family: str = "ip", **options: Any) -> Ruleset:
    return ruleset(family, "vkcri_test_20", ports(*objects), SUBNETS, **options)


def backed(*addresses: str, **spec: Any) -> tuple[Object, Object]:
    return service(**spec), endpoint_slice(*map(endpoint, addresses))


def chain(subject: Ruleset, prefix: str) -> tuple[str, ...]:
    (name,) = [name for name in subject.chains if name.startswith(prefix)]
    return subject.chains[name]


def test_everything_is_good_nothing_to_do() -> None:
    assert difference(rules(*backed("10.1.0.1")), rules(*backed("10.1.0.1"))) == ""


def test_a_cluster_ip_leads_to_a_chain_that_chooses_at_random() -> None:
    subject = rules(*backed("10.1.0.2", "10.1.0.1"))
    ((key, verdict),) = subject.elements["service-ips"].items()
    assert key == "10.120.0.5 . tcp . 80"
    assert subject.chains[verdict.removeprefix("goto ")] == (
        "meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.1.0.1 . 8080, 1 : 10.1.0.2 . 8080 }",
    )
    assert subject.elements["cluster-ips"] == {"10.120.0.5": ""}
    assert set(subject.elements["hairpins"]) == {"10.1.0.1 . 10.1.0.1", "10.1.0.2 . 10.1.0.2"}


def test_one_endpoint_needs_no_choice() -> None:
    assert chain(rules(*backed("10.1.0.1")), "svc-") == ("meta l4proto tcp dnat to 10.1.0.1:8080",)


def test_ipv6_has_its_own_table_and_brackets() -> None:
    objects = service(ip="fd00:120::5"), endpoint_slice(endpoint("fd00:1::1"), family="IPv6")
    assert chain(rules(*objects, family="ip6"), "svc-") == ("meta l4proto tcp dnat to [fd00:1::1]:8080",)
    assert rules(*objects).chains == {}
    assert "ip6 saddr != { fd00:1::/64 }" in whole(rules(*objects, family="ip6"))


def test_without_endpoints_the_address_is_refused_and_a_local_policy_drops() -> None:
    refused = rules(service(), endpoint_slice())
    assert refused.elements["service-ips"] == refused.elements["unserved-ips"] == {}
    assert refused.elements["cluster-ips"] == {"10.120.0.5": ""}
    dropped = rules(service(internalTrafficPolicy="Local"), endpoint_slice(endpoint("10.1.0.1", node="n2")))
    assert dropped.elements["unserved-ips"] == {"10.120.0.5 . tcp . 80": "drop"}


def test_from_off_the_pod_subnets_it_is_masqueraded_and_without_br_netfilter_from_anywhere() -> None:
    wanted = "ct original ip daddr @cluster-ips ip saddr != { 10.1.0.0/24 } masquerade"
    assert wanted in whole(rules(*backed("10.1.0.1")))
    assert "ct original ip daddr @cluster-ips masquerade" in whole(rules(*backed("10.1.0.1"), masquerade_all=True))


def test_a_new_endpoint_changes_its_services_chain_alone() -> None:
    old, new = rules(*backed("10.1.0.1")), rules(*backed("10.1.0.1", "10.1.0.2"))
    lines = difference(old, new).splitlines()
    assert [line.split()[0:2] for line in lines] == [["flush", "chain"], ["add", "rule"], ["add", "element"]]
    assert lines[2] == "add element ip vkcri_test_20 hairpins { 10.1.0.2 . 10.1.0.2 }"


def test_a_deleted_service_takes_its_elements_before_its_chain() -> None:
    lines = difference(rules(*backed("10.1.0.1")), rules()).splitlines()
    verbs = [" ".join(line.split()[0:2]) for line in lines]
    assert verbs == ["delete element"] * 3 + ["flush chain", "delete chain"]


def test_a_last_endpoint_gone_leaves_the_address_refused() -> None:
    text = difference(rules(*backed("10.1.0.1")), rules(service()))
    assert "delete element ip vkcri_test_20 service-ips { 10.120.0.5 . tcp . 80" in text
    assert "cluster-ips" not in text


def test_affinity_remembers_clients_by_endpoint() -> None:
    subject = rules(*backed("10.1.0.1", "10.1.0.2", sessionAffinity="ClientIP"))
    assert set(subject.affinity.values()) == {10800}
    first, second, choice = chain(subject, "svc-")
    assert re.fullmatch(r"ip saddr @clients-\w+ goto ep-\w+", first)
    assert first != second
    assert choice.startswith("numgen random mod 2 vmap { 0 : goto ep-")
    gone = difference(subject, rules(*backed("10.1.0.1", "10.1.0.2"))).splitlines()
    assert [line.split()[1] for line in gone][-2:] == ["set", "set"]


def test_a_rebuild_keeps_what_clients_are_remembered_and_deletes_what_is_gone() -> None:
    old = rules(*backed("10.1.0.1", "10.1.0.2", sessionAffinity="ClientIP"))
    kept = whole(old, old)
    assert "delete" not in kept
    assert "flush table ip vkcri_test_20" in kept
    assert "flush set ip vkcri_test_20 clients" not in kept
    assert kept.count("flush map") == 4
    assert "delete chain" in whole(rules(), old)
    assert whole(old).startswith(
        "add table ip vkcri_test_20\ndelete table ip vkcri_test_20\nadd table ip vkcri_test_20\n"
    )


def test_node_port_and_external_address_are_masqueraded() -> None:
    subject, part = backed("10.1.0.1", type="NodePort", externalIPs=["192.0.2.1"])
    subject["spec"]["ports"][0]["nodePort"] = 30080
    found = rules(subject, part)
    (verdict,) = found.elements["node-ports"].values()
    assert found.elements["service-ips"]["192.0.2.1 . tcp . 80"] == verdict
    assert found.elements["node-ports"] == {"tcp . 30080": verdict}
    assert chain(found, "ext-") == (
        "meta mark set meta mark or 0x4000",
        "meta l4proto tcp dnat to 10.1.0.1:8080",
    )
    empty = rules(subject, endpoint_slice())
    assert empty.elements["unserved-ports"] == {"tcp . 30080": "goto refused"}
    assert empty.elements["node-ports"] == {}


def test_an_external_local_policy_keeps_the_clients_address() -> None:
    subject = service(type="NodePort", externalTrafficPolicy="Local")
    subject["spec"]["ports"][0]["nodePort"] = 30080
    local = rules(subject, endpoint_slice(endpoint("10.1.0.1"), endpoint("10.1.0.2", node="n2")))
    own, node, rest = chain(local, "ext-")
    assert own.startswith("ip saddr 10.1.0.0/24 goto all-ext-")
    assert node.startswith("fib saddr type local goto all-ext-")
    assert rest == "meta l4proto tcp dnat to 10.1.0.1:8080"
    elsewhere = rules(subject, endpoint_slice(endpoint("10.1.0.2", node="n2")))
    assert len(chain(elsewhere, "ext-")) == 2
    assert elsewhere.elements["unserved-ports"] == {"tcp . 30080": "drop"}


def test_names_fit_into_the_kernel_and_stay_apart() -> None:
    long = [service(name="a" * 240 + tail, ip=f"10.120.0.{number}") for number, tail in enumerate("bc", 1)]
    parts = [
        endpoint_slice(endpoint("10.1.0.1"), owner=item["metadata"]["name"], name=item["spec"]["clusterIP"])
        for item in long
    ]
    found = rules(*long, *parts)
    assert len(found.chains) == 2
    assert all(len(name) < 128 for name in found.chains)


@pytest.mark.parametrize("count", [1200])
def test_many_elements_travel_in_batches(count: int) -> None:
    objects = [service(name=f"s{n}", ip=f"10.120.{n // 250}.{n % 250 + 1}") for n in range(count)]
    lines = [line for line in whole(rules(*objects)).splitlines() if "element" in line]
    assert len(lines) == 3


def test_removal_works_with_and_without_the_tables() -> None:
    assert removal("t") == "add table ip t\ndelete table ip t\nadd table ip6 t\ndelete table ip6 t\n"
