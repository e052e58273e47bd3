"""DNSConfig by dnsPolicy and dnsConfig."""

from typing import Any

import pytest

from bridge.spec import Finding, ResolvConf, dns, sandbox_findings
from tests.unit.bridge.spec.make import context, pod

NODE = ResolvConf(("1.1.1.1",), ("corp.example",), ("timeout:2",))
CLUSTER = ("10.96.0.10",)


def formed(cluster_dns: tuple[str, ...] = CLUSTER, resolv_conf: ResolvConf = NODE, **spec: Any) -> ResolvConf:
    config = dns.dns_config(pod(**spec), context(cluster_dns=cluster_dns, resolv_conf=resolv_conf))
    return ResolvConf(tuple(config.servers), tuple(config.searches), tuple(config.options))


CLUSTER_FIRST = ResolvConf(
    CLUSTER, ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"), ("ndots:5",)
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, CLUSTER_FIRST),
        ({"dnsPolicy": "ClusterFirst"}, CLUSTER_FIRST),
        ({"dnsPolicy": "ClusterFirst", "hostNetwork": True}, NODE),
        ({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": True}, CLUSTER_FIRST),
        ({"dnsPolicy": "Default"}, NODE),
        ({"dnsPolicy": "None"}, ResolvConf()),
    ],
)
def test_the_policy_chooses_the_base(spec: dict[str, Any], expected: ResolvConf) -> None:
    assert formed(**spec) == expected


def test_dns_config_is_added_without_duplicates_and_overrides_options() -> None:
    extra = {
        "nameservers": ["8.8.8.8", "10.96.0.10"],
        "searches": ["my.example", "svc.cluster.local"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
    }
    found = formed(dnsConfig=extra)
    assert found.servers == ("10.96.0.10", "8.8.8.8")
    assert found.searches == (*CLUSTER_FIRST.searches, "my.example")
    assert found.options == ("ndots:2", "edns0")


def test_policy_none_has_only_the_pods_own() -> None:
    assert formed(dnsPolicy="None", dnsConfig={"nameservers": ["9.9.9.9"]}) == ResolvConf(("9.9.9.9",))


def test_without_cluster_dns_the_node_is_asked_and_an_event_says_so() -> None:
    assert formed(cluster_dns=()) == NODE
    of_node, of_pod = sandbox_findings(pod(), context(resolv_conf=NODE))
    message = (
        'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
        'Falling back to "Default" policy.'
    )
    assert of_node == Finding("Warning", "MissingClusterDNS", message, of_node=True)
    assert of_pod == Finding("Warning", "MissingClusterDNS", f'pod: "web_shop(u-1)". {message}')


@pytest.mark.parametrize("spec", [{"dnsPolicy": "Default"}, {"dnsPolicy": "None"}, {"hostNetwork": True}])
def test_a_policy_that_needs_no_cluster_dns_misses_none(spec: dict[str, Any]) -> None:
    assert sandbox_findings(pod(**spec), context(resolv_conf=NODE)) == ()


def test_more_than_three_servers_are_cut_with_an_event() -> None:
    servers = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    spec: dict[str, Any] = {"dnsConfig": {"nameservers": servers}}
    assert formed(**spec).servers == ("10.96.0.10", "10.0.0.1", "10.0.0.2")
    (finding,) = sandbox_findings(pod(**spec), context(cluster_dns=CLUSTER, resolv_conf=NODE))
    assert finding.reason == "DNSConfigForming"
    assert finding.message.endswith("the applied nameserver line is: 10.96.0.10 10.0.0.1 10.0.0.2")


def test_more_than_32_searches_or_2048_characters_are_cut_with_an_event() -> None:
    many: dict[str, Any] = {"dnsPolicy": "None", "dnsConfig": {"searches": [f"s{index}" for index in range(40)]}}
    assert len(formed(**many).searches) == 32
    wide: dict[str, Any] = {"dnsPolicy": "None", "dnsConfig": {"searches": [f"{index:0>200}" for index in range(12)]}}
    assert len(formed(**wide).searches) == 10  # 10 * 200 + 9 spaces
    for spec in (many, wide):
        assert [item.reason for item in sandbox_findings(pod(**spec), context())] == ["DNSConfigForming"]


def test_a_search_longer_than_a_name_may_be_is_left_out() -> None:
    spec: dict[str, Any] = {"dnsPolicy": "None", "dnsConfig": {"searches": ["x" * 254, "ok"]}}
    assert formed(**spec).searches == ("ok",)


def test_resolv_conf_is_read_as_the_resolver_reads_it() -> None:
    text = """
# comment
; comment
nameserver 1.1.1.1
nameserver  2606:4700::1111
nameserver
search old.example
search a.example. . b.example
options timeout:1 attempts:3
options timeout:5 rotate
domain ignored.example
"""
    assert dns.parse_resolv_conf(text) == ResolvConf(
        ("1.1.1.1", "2606:4700::1111"), ("a.example", "b.example"), ("timeout:5", "attempts:3", "rotate")
    )
