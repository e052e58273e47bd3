"""What Services and EndpointSlices mean, by kube-proxy's rules."""

from typing import Any

import pytest

from tests.unit.vkcri.proxy.objects import Object, endpoint, endpoint_slice, service
from vkcri.errors import Invalid
from vkcri.proxy.model import ServicePort, Targets, build, parse_service, parse_slice, subnets


def ports(*objects: Object) -> tuple[ServicePort, ...]:
    services = [parse_service(item) for item in objects if item["kind"] == "Service"]
    slices = [parse_slice(item, "n1") for item in objects if item["kind"] == "EndpointSlice"]
    return build([item for item in services if item], [item for item in slices if item])


def internal(*objects: Object) -> Targets:
    (port,) = ports(*objects)
    return port.internal


def test_ready_endpoints_of_all_slices_are_the_targets() -> None:
    (port,) = ports(
        service(),
        endpoint_slice(endpoint("10.1.0.2"), endpoint("10.1.0.1", ready=False)),
        endpoint_slice(endpoint("10.1.0.3", node="n2"), endpoint("10.1.0.2"), name="web-2"),
        endpoint_slice(endpoint("10.1.0.9"), owner="other", name="other-1"),
    )
    assert (port.key, port.protocol, port.port, port.cluster_ips) == ("ns/web", "tcp", 80, ("10.120.0.5",))
    assert port.internal == Targets((("10.1.0.2", 8080), ("10.1.0.3", 8080)))


def test_without_a_ready_one_those_that_end_but_serve_take_over() -> None:
    ending = endpoint("10.1.0.1", ready=False, serving=True, terminating=True)
    gone = endpoint("10.1.0.2", ready=False, serving=False, terminating=True)
    unready = endpoint("10.1.0.3", ready=False, serving=False, terminating=False)
    assert internal(service(), endpoint_slice(ending, gone, unready)).endpoints == (("10.1.0.1", 8080),)
    assert internal(service(), endpoint_slice(ending, endpoint("10.1.0.4"))).endpoints == (("10.1.0.4", 8080),)
    assert internal(service(), endpoint_slice(gone, unready)) == Targets()


def test_absent_conditions_mean_ready() -> None:
    bare = {"addresses": ["10.1.0.1"], "conditions": {}}
    assert internal(service(), endpoint_slice(bare)).endpoints == (("10.1.0.1", 8080),)


def test_ports_are_matched_by_name_and_protocol() -> None:
    subject = service(
        ports=[
            {"name": "http", "port": 80},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            {"name": "sctp", "port": 9, "protocol": "SCTP"},
        ]
    )
    slices = endpoint_slice(
        endpoint("10.1.0.1"),
        ports=[
            {"name": "dns", "protocol": "UDP", "port": 5353},
            {"name": "dns-tcp", "protocol": "TCP", "port": 5354},
            {"name": "http", "protocol": "UDP", "port": 1},
            {"name": "sctp", "protocol": "SCTP", "port": None},
        ],
    )
    found = {(port.name, port.protocol): port.internal.endpoints for port in ports(subject, slices)}
    assert found == {
        ("http", "tcp"): (),
        ("dns", "udp"): (("10.1.0.1", 5353),),
        ("dns-tcp", "tcp"): (("10.1.0.1", 5354),),
        ("sctp", "sctp"): (),
    }


def test_a_service_with_one_unnamed_port() -> None:
    slices = endpoint_slice(endpoint("10.1.0.1"), ports=[{"name": "", "port": 8080}])
    (port,) = ports(service(ports=[{"port": 80}]), slices)
    assert port.internal.endpoints == (("10.1.0.1", 8080),)
    assert port.identity == "ns/web/tcp/80"


def test_internal_traffic_policy_local_keeps_this_nodes_endpoints_or_drops() -> None:
    local, other = endpoint("10.1.0.1"), endpoint("10.1.0.2", node="n2")
    subject = service(internalTrafficPolicy="Local")
    assert internal(subject, endpoint_slice(local, other)) == Targets((("10.1.0.1", 8080),))
    assert internal(subject, endpoint_slice(other)) == Targets(dropped=True)
    assert internal(subject, endpoint_slice()) == Targets()


def test_external_traffic_policy_local_is_apart_from_the_internal_one() -> None:
    subject = service(type="NodePort", externalTrafficPolicy="Local")
    subject["spec"]["ports"][0]["nodePort"] = 30080
    (port,) = ports(subject, endpoint_slice(endpoint("10.1.0.2", node="n2")))
    assert port.node_port == 30080
    assert port.internal.endpoints == port.everywhere.endpoints == (("10.1.0.2", 8080),)
    assert port.external == Targets(dropped=True)


@pytest.mark.parametrize(
    "change",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"clusterIP": "", "clusterIPs": []},
        {"type": "ExternalName", "externalName": "example.com"},
    ],
)
def test_what_has_no_cluster_ip_has_no_rules(change: Object) -> None:
    assert parse_service(service(**change)) is None


@pytest.mark.parametrize("label", ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"])
def test_what_belongs_to_another_proxy_is_left_to_it(label: str) -> None:
    subject, part = service(), endpoint_slice(endpoint("10.1.0.1"))
    subject["metadata"]["labels"] = {label: "x"}
    part["metadata"]["labels"][label] = "x"
    assert parse_service(subject) is None
    assert parse_slice(part, "n1") is None


def test_dual_stack_is_a_port_a_family() -> None:
    subject = service(clusterIPs=["10.120.0.5", "fd00:120::5"], externalIPs=["192.0.2.1", "2001:db8::1"])
    four = endpoint_slice(endpoint("10.1.0.1"))
    six = endpoint_slice(endpoint("fd00:1:0::1"), name="web-6", family="IPv6")
    first, second = ports(subject, four, six)
    assert (first.cluster_ips, first.external_ips, first.internal.endpoints) == (
        ("10.120.0.5",),
        ("192.0.2.1",),
        (("10.1.0.1", 8080),),
    )
    assert (second.cluster_ips, second.external_ips, second.internal.endpoints) == (
        ("fd00:120::5",),
        ("2001:db8::1",),
        (("fd00:1::1", 8080),),
    )


def test_session_affinity_and_its_default() -> None:
    def seconds(**spec: Any) -> int:
        return ports(service(**spec))[0].affinity_seconds

    assert seconds() == 0
    assert seconds(sessionAffinity="ClientIP") == 10800
    assert seconds(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 5}}) == 5


def test_a_load_balancers_addresses_count_unless_their_sources_are_limited() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}]}}
    subject = service(type="LoadBalancer")
    subject["status"] = status
    assert ports(subject)[0].external_ips == ("192.0.2.7",)
    subject["spec"]["loadBalancerSourceRanges"] = ["198.51.100.0/24"]
    parsed = parse_service(subject)
    assert parsed is not None
    assert parsed.external_ips == ()
    assert parsed.unsupported == ("loadBalancerSourceRanges",)


def test_what_is_not_served_is_named() -> None:
    parsed = parse_service(service(trafficDistribution="PreferSameZone", healthCheckNodePort=31000))
    assert parsed is not None
    assert parsed.unsupported == ("healthCheckNodePort", "trafficDistribution=PreferSameZone")


@pytest.mark.parametrize(
    "broken",
    [
        service(ip="10.0.0.1; flush ruleset"),
        service(name="web } flush ruleset"),
        service(ports=[{"port": "80 }"}]),
        service(ports=[{"port": 0}]),
        service(ports=[{"port": 80, "name": "a b"}]),
        service(ports=[{"port": 80, "protocol": "ICMP"}]),
        service(externalIPs=["example.com"]),
        service(sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": "1s;"}}),
    ],
)
def test_nothing_but_names_addresses_and_numbers_gets_near_a_rule(broken: Object) -> None:
    with pytest.raises(Invalid):
        parse_service(broken)


def test_a_broken_slice_is_invalid() -> None:
    for broken in (
        endpoint_slice(endpoint("10.0.0.1 }")),
        endpoint_slice(endpoint("10.0.0.1"), owner="a;b"),
        endpoint_slice(endpoint("10.0.0.1"), ports=[{"name": "http", "port": 99999}]),
    ):
        with pytest.raises(Invalid):
            parse_slice(broken, "n1")


def test_the_pod_subnets_are_the_nodes_or_the_default() -> None:
    assert subnets({}, "10.244.0.0/24") == ("10.244.0.0/24",)
    assert subnets({"spec": {"podCIDR": "10.9.0.0/16"}}, "x") == ("10.9.0.0/16",)
    assert subnets({"spec": {"podCIDRs": ["10.9.0.0/16", "fd00::/64"]}}, "x") == ("10.9.0.0/16", "fd00::/64")
    with pytest.raises(Invalid):
        subnets({"spec": {"podCIDR": "} flush ruleset"}}, "x")
