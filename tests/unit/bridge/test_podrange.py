"""When the range of the pods' addresses is known, and which it is."""

from ipaddress import IPv4Network
from typing import Any

from bridge.podrange import GRACE_SECONDS, Known, Pending, PodRange

OWN = IPv4Network("10.244.9.0/24")
GIVEN = Known(IPv4Network("10.9.7.0/24"), given=True)
BORN = 1_800_000_000.0  # as CREATED
CREATED = "2027-01-15T08:00:00Z"


def node(uid: str = "u", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "creationTimestamp": CREATED}, "spec": spec}


def look(found: PodRange, of: dict[str, Any], now: float, *, stands: bool = False, age: float = 0.0) -> Known | Pending:
    return found.look(of, stands=stands, now=now, wall=BORN + age)


def test_a_range_that_is_given_is_the_range() -> None:
    found = PodRange(OWN, late=True)
    assert look(found, node(podCIDR="10.9.7.0/24"), 100.0) == GIVEN
    assert look(found, node(podCIDRs=["fd00::/64", "10.9.7.0/24"]), 100.0) == GIVEN


def test_a_cluster_of_ipv6_alone_leaves_our_own() -> None:
    assert look(PodRange(OWN, late=True), node(podCIDRs=["fd00::/64"]), 100.0) == Known(OWN, given=False)


def test_no_node_at_all_is_given_time_too_and_then_our_own_serves() -> None:
    """With the API server away static pods start."""
    found = PodRange(OWN, late=True)
    assert look(found, {}, 100.0) == Pending("the Node is not registered yet", GRACE_SECONDS)
    assert look(found, {}, 100.0 + GRACE_SECONDS - 5) == Pending("the Node is not registered yet", 5.0)
    assert look(found, {}, 100.0 + GRACE_SECONDS) == Known(OWN, given=False)


def test_a_node_that_comes_late_has_time_for_its_range_again() -> None:
    found = PodRange(OWN, late=True)
    late = 100.0 + GRACE_SECONDS
    assert look(found, {}, 100.0) != look(found, {}, late) == Known(OWN, given=False)
    assert look(found, node(), late, stands=True) == Pending("the Node has no podCIDR yet", GRACE_SECONDS)
    assert look(found, node(podCIDR="10.9.7.0/24"), late + 1, stands=True) == GIVEN
    assert look(found, {}, late + 2) == Pending("the Node is not registered yet", GRACE_SECONDS)


def test_a_node_without_a_range_is_given_time_from_when_it_was_first_seen() -> None:
    found = PodRange(OWN, late=True)
    assert look(found, node(), 100.0) == Pending("the Node has no podCIDR yet", GRACE_SECONDS)
    assert look(found, node(), 100.0 + GRACE_SECONDS - 5) == Pending("the Node has no podCIDR yet", 5.0)
    assert look(found, node(), 100.0 + GRACE_SECONDS) == Known(OWN, given=False)


def test_a_node_that_was_made_anew_has_its_own_time() -> None:
    found = PodRange(OWN, late=True)
    look(found, node(), 100.0)
    assert isinstance(look(found, node("other"), 100.0 + GRACE_SECONDS), Pending)


def test_the_clocks_of_two_hosts_are_compared_only_where_our_network_stands() -> None:
    old = GRACE_SECONDS + 1
    assert isinstance(look(PodRange(OWN, late=True), node(), 100.0, age=old), Pending)
    assert look(PodRange(OWN, late=True), node(), 100.0, stands=True, age=old) == Known(OWN, given=False)
    young = look(PodRange(OWN, late=True), node(), 100.0, stands=True, age=GRACE_SECONDS - 1)
    assert young == Pending("the Node has no podCIDR yet", 1.0)


def test_the_embedded_server_is_not_waited_for() -> None:
    for known in (node(), {}):
        assert look(PodRange(OWN, late=False), known, 100.0) == Known(OWN, given=False)
