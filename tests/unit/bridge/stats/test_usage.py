"""The kernel's texts as numbers."""

import os
from dataclasses import replace

import pytest

from bridge.stats import detail, network, usage
from bridge.stats.detail import DeviceUse
from bridge.stats.usage import Memory, Pressure, Stall, Usage, pressure, rate
from tests.unit.bridge.stats.texts import V1, V2

TIME = 1_800_000_000_000_000_000
COMMON = {
    "usage": 104857600,
    "working_set": 83886080,
    "rss": 62914560,
    "cache": 31457280,
    "mapped_file": 4096,
    "swap": 8192,
    "active_file": 10485760,
    "inactive_file": 20971520,
    "page_faults": 900,
    "major_page_faults": 7,
    "limit": 209715200,
}
STALLED = Pressure(some=Stall(2_500_000, 1.5, 0.25, 0.0), full=Stall(500_000))


def test_version_1_and_version_2_tell_the_same_use() -> None:
    assert usage.of_v1(V1, TIME) == Usage(TIME, 5_000_000_000, Memory(**COMMON, swap_limit=209715200))
    two = usage.of_v2(V2, TIME)
    assert two == Usage(TIME, 5_000_000_000, Memory(**COMMON, pressure=STALLED), STALLED, STALLED)


def test_limit_beyond_2_to_the_62_is_none() -> None:
    unlimited = {
        **V1,
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
    }
    found = usage.of_v1(unlimited, TIME).memory
    assert (found.limit, found.swap_limit) == (None, None)
    assert usage.of_v2({**V2, "memory.max": "max\n"}, TIME).memory.limit is None


def test_kernel_without_swap_accounting_has_no_room_for_swap() -> None:
    without = {name: text for name, text in V2.items() if "swap" not in name}
    assert (usage.of_v2(without, TIME).memory.swap, usage.of_v2(without, TIME).memory.swap_limit) == (0, 0)


def test_root_has_the_machines_limits_and_on_version_2_a_usage_of_pages() -> None:
    assert usage.of_v1(V1, TIME, limit=1 << 30, swap_limit=0).memory.limit == 1 << 30
    root = {name: text for name, text in V2.items() if name not in ("memory.current", "memory.max")}
    found = usage.of_v2(root, TIME, limit=1 << 30, swap_limit=4096).memory
    assert (found.usage, found.limit, found.swap_limit) == (62914560 + 31457280, 1 << 30, 4096)


def test_pages_that_are_inactive_never_make_a_working_set_negative() -> None:
    assert usage.of_v2({**V2, "memory.current": "1024\n"}, TIME).memory.working_set == 0


def test_rate_is_cpu_time_a_second_and_zero_without_a_past() -> None:
    first = usage.of_v1(V1, TIME)
    later = replace(first, time=TIME + 2_000_000_000, cpu=first.cpu + 1_000_000_000)
    assert rate(first, later) == 500_000_000
    assert rate(None, later) == rate(later, first) == rate(later, later) == 0


def test_pressure_is_none_where_the_kernel_has_none() -> None:
    assert pressure("") is None
    assert pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n") == Pressure(some=Stall(9))


def test_text_that_is_cut_short_is_an_error() -> None:
    with pytest.raises(ValueError):
        usage.of_v1({**V1, "memory.stat": "cache 1\nrss"}, TIME)


def test_details_of_both_versions_agree() -> None:
    wanted = {
        "periods": 10,
        "throttled_periods": 4,
        "throttled": 1_500_000_000,
        "period": 100000,
        "quota": 50000,
        "max_usage": 157286400,
        "oom_kills": 2,
        "threads": 12,
        "threads_max": 0,
        "devices": (DeviceUse("8:0", 5, 6, 20480, 24576),),
    }
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    one, two = detail.of_v1(V1), detail.of_v2(V2)
    assert one == detail.Detail(
        cpu_user=300 * tick, cpu_system=200 * tick, shares=512, failures=3, kernel_usage=65536, **wanted
    )
    assert two == detail.Detail(cpu_user=3_000_000_000, cpu_system=2_000_000_000, shares=500, **wanted)


def test_missing_files_are_zeros() -> None:
    assert detail.of_v1({}) == detail.Detail()
    assert detail.of_v2({}) == detail.Detail(period=100000)


def test_interfaces_that_are_no_pods_own_do_not_count() -> None:
    head = "Inter-|   Receive\n face |bytes\n"
    row = "{}: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"
    text = head + "".join(row.format(name) for name in ("    lo", "  eth0", "veth12ab", "docker0"))
    assert network.interfaces(text) == (network.Interface("eth0", 1, 2, 3, 4, 5, 6, 7, 8),)
    with pytest.raises(ValueError):
        network.interfaces(f"{head}eth0: 1 2 3\n")
