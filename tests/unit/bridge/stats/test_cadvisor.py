"""cAdvisor's page."""

from dataclasses import replace

from bridge.stats import cadvisor, detail, usage
from bridge.stats.cadvisor import CgroupUse, Machine
from bridge.stats.disk import Filesystem
from bridge.stats.network import Interface, Traffic
from tests.unit.bridge.stats.texts import V1, V2
from vkcri.api import exposition

TIME = 1_800_000_000_123_456_789
MACHINE = Machine(2, 1 << 30, 0, "m", "s", "b")
ROOT = CgroupUse(
    "/",
    usage.of_v1(V1, TIME),
    detail.of_v1(V1),
    4,
    TIME,
    TIME,
    filesystems={"/dev/sda": Filesystem(TIME, 600, 1000, 300, 50, 20)},
)
SANDBOX = CgroupUse(
    "/vk-cri/kubepods/poduid/sandbox",
    usage.of_v2(V2, TIME),
    detail.of_v2({**V2, "cpu.max": "max 100000"}),
    1,
    TIME - 10**9,
    TIME,
    name="sandbox",
    image="pause",
    namespace="default",
    pod="web",
    traffic=Traffic(TIME, (Interface("eth0", 1, 2, 3, 4, 5, 6, 7, 8),)),
)
OWN = 'container="",id="/vk-cri/kubepods/poduid/sandbox",image="pause",name="sandbox",namespace="default",pod="web"'
BARE = 'container="",id="/",image="",name="",namespace="",pod=""'


def page() -> dict[str, str]:
    text = exposition.text(cadvisor.families([ROOT, SANDBOX], MACHINE, {"8:0": "/dev/sda"}))
    return {line.partition("} ")[0] + "}": line.partition("} ")[2] for line in text.splitlines() if line[0] != "#"}


def test_samples_have_the_cgroups_labels_and_the_time_of_the_sample() -> None:
    found = page()
    assert found[f'container_cpu_usage_seconds_total{{{OWN},cpu="total"}}'] == "5 1800000000123"
    assert found[f"container_memory_working_set_bytes{{{OWN}}}"] == "83886080 1800000000123"
    assert found[f"container_cpu_user_seconds_total{{{OWN}}}"] == "3 1800000000123"
    assert found[f'container_network_transmit_packets_dropped_total{{{OWN},interface="eth0"}}'] == "8 1800000000123"
    assert found[f'container_memory_failures_total{{{OWN},failure_type="pgmajfault",scope="hierarchy"}}'].startswith(
        "7 "
    )
    assert found[f"container_oom_events_total{{{OWN}}}"].startswith("2 ")
    assert found[f'container_fs_writes_bytes_total{{{OWN},device="/dev/sda"}}'].startswith("24576 ")


def test_what_a_cgroup_is_made_of_has_no_time() -> None:
    found = page()
    assert found[f"container_spec_memory_limit_bytes{{{OWN}}}"] == "209715200"
    assert found[f"container_spec_cpu_shares{{{OWN}}}"] == "500"
    assert found['machine_memory_bytes{boot_id="b",machine_id="m",system_uuid="s"}'] == "1073741824"


def test_throttling_is_told_only_under_a_quota_and_pressure_only_where_it_is_accounted() -> None:
    found = page()
    assert found[f"container_cpu_cfs_throttled_seconds_total{{{BARE}}}"] == "1.5 1800000000123"
    assert f"container_cpu_cfs_throttled_seconds_total{{{OWN}}}" not in found
    assert found[f"container_pressure_memory_waiting_seconds_total{{{OWN}}}"] == "2.5 1800000000123"
    assert f"container_pressure_memory_waiting_seconds_total{{{BARE}}}" not in found


def test_file_systems_are_the_roots_and_a_limit_that_is_none_is_zero() -> None:
    found = page()
    assert found[f'container_fs_usage_bytes{{{BARE},device="/dev/sda"}}'].startswith("300 ")
    assert not any(key.startswith("container_fs_usage_bytes") and OWN in key for key in found)
    unlimited = replace(SANDBOX, usage=usage.of_v2({**V2, "memory.max": "max"}, TIME))
    text = exposition.text(cadvisor.families([unlimited], MACHINE, {}))
    assert f"container_spec_memory_limit_bytes{{{OWN}}} 0\n" in text


def test_page_says_whether_it_failed() -> None:
    assert exposition.text(cadvisor.failed()).endswith("container_scrape_error 1\n")
    assert page()["container_scrape_error 0}"] == ""
