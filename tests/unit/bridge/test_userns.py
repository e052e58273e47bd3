"""Ranges of ids: one a pod, never shared, found again in CRI after a restart."""

import pytest

from bridge.relist import Box, Listing
from bridge.spec import names
from bridge.userns import RANGES, USER_IDS, UserNamespaces
from vkcri.errors import Unavailable
from vkcri.instance import Instance

HOST = Instance()


def listed(**first: str) -> Listing:
    """Pods with one sandbox that has that range."""
    return {
        uid: frozenset({Box(f"s-{uid}", uid, "", f"s-{uid}", 0, 1, {}, {names.FIRST_ID: value})})
        for uid, value in first.items()
    }


def test_each_pod_has_a_range_of_its_own_above_the_guests_users_and_keeps_it() -> None:
    users = UserNamespaces(HOST, dict)
    assert (users.range_of("a"), users.range_of("b"), users.range_of("a")) == (65536, 131072, 65536)
    users.forget("a")
    assert users.range_of("c") == 65536


def test_what_sandboxes_have_is_found_again_and_given_to_nobody_else() -> None:
    found = listed(a="131072", b="65536", odd="x")
    users = UserNamespaces(HOST, lambda: found)
    assert users.range_of("new") == 196608
    assert (users.range_of("a"), users.range_of("b")) == (131072, 65536)
    users.forget("a")
    assert users.range_of("a") == 131072  # its sandbox is still there


def test_two_instances_share_no_id_and_the_last_one_ends_within_32_bits() -> None:
    first = UserNamespaces(Instance("a-98"), dict).range_of("x")
    last = UserNamespaces(Instance("a-99"), dict).range_of("x")
    assert last - first == RANGES * USER_IDS
    assert last + RANGES * USER_IDS <= 2**32


def test_when_all_ranges_are_taken_it_is_said() -> None:
    users = UserNamespaces(HOST, lambda: listed(**{f"p{n}": str((n + 1) * USER_IDS) for n in range(RANGES)}))
    with pytest.raises(Unavailable, match="could not find an empty slot"):
        users.range_of("one more")
