"""Pods' cgroups: pure amounts, v2 in a folder that plays the kernel, and the real tree of this guest."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cgroupfs import Hierarchies, Limits, host_hugepages, mounted_hierarchies, shares_of_weight, weight
from bridge.cgroups import Cgroups, pod_limits
from bridge.spec import CgroupFacts
from bridge.spec.resources import Sizes, pod_sizes
from tests.instances import own
from tests.waiting import PATIENCE
from vkcri.config import RuntimeSettings
from vkcri.errors import Invalid
from vkcri.instance import Instance

FACTS = CgroupFacts(1, hugepages=("2MB",))
FULL = {"cpu": "500m", "memory": "64Mi"}


def pod(*resources: dict[str, Any], uid: str = "uid-1", **spec: Any) -> dict[str, Any]:
    containers = [{"name": f"c{index}", "resources": item} for index, item in enumerate(resources or ({},))]
    return {"metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": {"containers": containers, **spec}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(), Limits(2, None, None)),
        (pod({"limits": FULL}), Limits(512, 50000, 64 << 20)),
        (pod({"requests": FULL}), Limits(512, None, None)),
        (pod({"requests": {"cpu": "250m"}, "limits": FULL}), Limits(256, 50000, 64 << 20)),
        (pod({"limits": FULL}, {"requests": {"cpu": "1"}}), Limits(1536, None, None)),
        (pod({"limits": {"cpu": "1"}}), Limits(1024, 100000, None)),
        (pod({}, resources={"limits": FULL, "requests": {"cpu": "250m"}}), Limits(256, 50000, 64 << 20)),
        (pod({"limits": FULL}, overhead={"cpu": "500m", "memory": "1Mi"}), Limits(1024, 100000, 65 << 20)),
    ],
)
def test_a_pod_is_held_to_its_sums_where_all_of_it_is_limited(found: dict[str, Any], expected: Limits) -> None:
    made = pod_limits(found, FACTS)
    assert (made.shares, made.quota, made.memory) == (expected.shares, expected.quota, expected.memory)


def test_huge_pages_are_none_unless_requested() -> None:
    assert pod_limits(pod(), FACTS).hugepages == {"2MB": 0}
    asked = pod({"limits": {"hugepages-2Mi": "4Mi", "cpu": "1", "memory": "1Mi"}})
    assert pod_limits(asked, FACTS).hugepages == {"2MB": 4 << 20}


@pytest.mark.parametrize(("shares", "expected"), [(0, 1), (2, 1), (102, 17), (1024, 100), (262144, 10000)])
def test_weight_of_shares(shares: int, expected: int) -> None:
    assert weight(shares) == expected


V1 = """24 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
26 24 0:24 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
27 24 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
28 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""
V2 = "24 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_hierarchies_are_read_from_the_mount_table() -> None:
    found = mounted_hierarchies(V1)
    assert dict(found.v1) == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "memory": Path("/sys/fs/cgroup/memory"),
        "name=systemd": Path("/sys/fs/cgroup/systemd"),
    }
    assert (found.version, len(found.roots)) == (1, 3)
    unified = mounted_hierarchies(V2)
    assert (unified.version, unified.roots) == (2, (Path("/sys/fs/cgroup"),))


def test_what_runc_made_in_a_hybrid_guests_v2_tree_is_removed_too(tmp_path: Path) -> None:
    settings = RuntimeSettings(instance=Instance("core-57"))
    cgroups = Cgroups(settings, Hierarchies({"memory": tmp_path / "memory"}, hybrid=tmp_path / "unified"))
    base = settings.instance.cgroup_root.strip("/")
    for root in ("memory", "unified"):
        (tmp_path / root / base / "kubepods/besteffort/pod1234/container").mkdir(parents=True)
    (tmp_path / "unified" / base / "kubepods/pod5678/container").mkdir(parents=True)
    assert cgroups.known() == {"1234", "5678"}
    cgroups.remove_pod("1234")
    assert list(tmp_path.rglob("pod1234")) == []
    assert cgroups.known() == {"5678"}
    cgroups.cleanup()
    assert {path.name for path in tmp_path.rglob("*") if path.is_dir()} == {"memory", "unified"}


def test_huge_page_sizes_have_cris_names(tmp_path: Path) -> None:
    for name in ("hugepages-2048kB", "hugepages-1048576kB", "other"):
        (tmp_path / name).mkdir()
    assert host_hugepages(tmp_path) == ("2MB", "1GB")
    assert host_hugepages(tmp_path / "none") == ()


class Kernel:
    """A folder in which every new cgroup of v2 gets the files that the kernel would give it."""

    FILES = ("cgroup.procs", "cpu.weight", "cpu.max", "memory.max", "pids.max", "hugetlb.2MB.max")

    def __init__(self, root: Path) -> None:
        self.fill(root)

    def fill(self, folder: Path) -> None:
        for name in self.FILES:
            (folder / name).write_text("")
        (folder / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma\n")
        (folder / "cgroup.subtree_control").write_text("")


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cgroups:
    kernel = Kernel(tmp_path)
    plain = Path.mkdir

    def mkdir(self: Path, *arguments: Any, **named: Any) -> None:
        plain(self, *arguments, **named)
        if tmp_path in self.parents:
            kernel.fill(self)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr("bridge.cgroups.host_hugepages", lambda: ("2MB",))
    return Cgroups(settings(), Hierarchies({}, tmp_path))


def settings() -> RuntimeSettings:
    return RuntimeSettings(instance=Instance("speccg-59"), node_name="n")


def test_v2_has_weights_and_maxima(v2: Cgroups, tmp_path: Path) -> None:
    path = v2.ensure_pod(pod({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "64Mi"}}))
    assert path == "/vk-cri-speccg-59/kubepods/burstable/poduid-1"
    folder = tmp_path / path.strip("/")
    assert {
        name: (folder / name).read_text() for name in ("cpu.weight", "cpu.max", "memory.max", "hugetlb.2MB.max")
    } == {
        "cpu.weight": "100",
        "cpu.max": "200000 100000",
        "memory.max": str(64 << 20),
        "hugetlb.2MB.max": "0",
    }


def test_v2_hands_controllers_down_to_the_pods_parent_and_not_further(v2: Cgroups, tmp_path: Path) -> None:
    folder = tmp_path / v2.ensure_pod(pod()).strip("/")
    assert (folder.parent / "cgroup.subtree_control").read_text() == "+pids"  # the last of them, one write each
    assert (folder / "cgroup.subtree_control").read_text() == ""


def test_best_effort_pods_share_the_least_and_burstable_ones_what_they_request(v2: Cgroups, tmp_path: Path) -> None:
    v2.ensure_pod(pod())
    v2.ensure_pod(pod({"requests": {"cpu": "1"}}, uid="uid-2"))
    v2.ensure_pod(pod({"requests": {"cpu": "1"}}, uid="uid-3"))
    kubepods = tmp_path / "vk-cri-speccg-59/kubepods"
    assert (kubepods / "besteffort/cpu.weight").read_text() == "1"
    assert (kubepods / "burstable/cpu.weight").read_text() == str(weight(2048))


def test_a_level_that_was_taken_away_is_made_anew_with_what_it_holds(v2: Cgroups, tmp_path: Path) -> None:
    v2.ensure_pod(pod())
    besteffort = tmp_path / "vk-cri-speccg-59/kubepods/besteffort"
    shutil.rmtree(besteffort)
    v2.ensure_pod(pod({"requests": {"cpu": "1"}}, uid="uid-2"))
    assert (besteffort / "cpu.weight").read_text() == "1"


@pytest.mark.parametrize("uid", ["../x", "", "a/b", "a..b"])
def test_a_uid_that_leads_elsewhere_is_refused(v2: Cgroups, uid: str) -> None:
    with pytest.raises(Invalid):
        v2.ensure_pod(pod(uid=uid))
    with pytest.raises(Invalid):
        v2.remove_pod(uid)


@pytest.fixture
def real() -> Iterator[Cgroups]:
    made = Cgroups(RuntimeSettings(instance=own("speccg"), node_name="n"))
    yield made
    made.cleanup()


def folders(path: str) -> list[Path]:
    return [root / path.strip("/") for root in mounted_hierarchies().roots]


@pytest.mark.container
def test_a_pod_has_a_cgroup_in_every_hierarchy_and_none_afterwards(real: Cgroups) -> None:
    path = real.ensure_pod(pod({"limits": FULL}))
    assert path.endswith("/kubepods/poduid-1")
    assert all(folder.is_dir() for folder in folders(path))
    assert real.ensure_pod(pod({"limits": FULL})) == path
    assert real.known() == {"uid-1"}
    real.remove_pod("uid-1")
    real.remove_pod("uid-1")
    assert not any(folder.exists() for folder in folders(path))
    assert real.known() == set()


@pytest.mark.container
def test_the_kernel_has_the_limits(real: Cgroups) -> None:
    path = real.ensure_pod(pod({"limits": FULL}))
    if mounted_hierarchies().version == 1:
        v1, below = mounted_hierarchies().v1, path.strip("/")
        assert (v1["cpu"] / below / "cpu.shares").read_text() == "512\n"
        assert (v1["cpu"] / below / "cpu.cfs_quota_us").read_text() == "50000\n"
        assert (v1["memory"] / below / "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        assert (v1["cpuset"] / below / "cpuset.cpus").read_text().strip() != ""
    else:
        (folder,) = folders(path)
        assert (folder / "cpu.max").read_text() == "50000 100000\n"
        assert (folder / "memory.max").read_text() == f"{64 << 20}\n"


@pytest.mark.container
def test_a_changed_pod_changes_the_limits_in_place(real: Cgroups) -> None:
    path = real.ensure_pod(pod({"requests": {"cpu": "100m"}, "limits": FULL})).strip("/")
    real.ensure_pod(pod({"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "64Mi"}}))
    if mounted_hierarchies().version == 1:
        assert (mounted_hierarchies().v1["cpu"] / path / "cpu.cfs_quota_us").read_text() == "100000\n"
    else:
        assert (folders(path)[0] / "cpu.max").read_text() == "100000 100000\n"


@pytest.mark.container
def test_what_is_left_in_a_pods_cgroup_is_killed(real: Cgroups) -> None:
    path = real.ensure_pod(pod({"limits": FULL}))
    nested = [folder / "container" for folder in folders(path)]
    with subprocess.Popen(["sleep", "1000"]) as process:
        for folder in nested:
            folder.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (folder / name).exists() and mounted_hierarchies().version == 1:
                    (folder / name).write_text((folder.parent / name).read_text())
            (folder / "cgroup.procs").write_text(str(process.pid))
        real.remove_pod("uid-1")
        assert process.wait(PATIENCE) == -9
    assert not any(folder.exists() for folder in folders(path))


@pytest.mark.container
def test_the_kernel_is_read_back_and_changed_amount_by_amount(real: Cgroups) -> None:
    given = pod({"requests": {"cpu": "100m"}, "limits": FULL})
    assert real.read(given) is None
    real.ensure_pod(given)
    assert real.read(given) == pod_sizes(given)
    real.resize(given, Limits(quota=100000))
    real.resize(given, Limits(memory=128 << 20))
    real.resize(given, Limits(shares=204))
    found = real.read(given)
    assert found is not None
    assert (found.quota, found.memory) == (100000, 128 << 20)
    assert found.shares == 204 or mounted_hierarchies().version == 2
    unlimited = pod({"requests": {"cpu": "100m"}}, uid="uid-2")
    real.ensure_pod(unlimited)
    assert real.read(unlimited) == Sizes(102)


@pytest.mark.container
def test_memory_that_is_no_whole_number_of_pages_is_read_back_as_it_was_asked_for(real: Cgroups) -> None:
    given = pod({"limits": {"cpu": "500m", "memory": "1000M"}})
    real.ensure_pod(given)
    assert real.read(given) == pod_sizes(given)
    larger = pod({"limits": {"cpu": "500m", "memory": "1001M"}})
    found = real.read(larger)
    assert found is not None
    assert found.memory == 1_000_000_000 // 4096 * 4096


@pytest.mark.container
def test_a_cgroup_that_is_there_keeps_its_limits_at_a_start(real: Cgroups) -> None:
    given = pod({"limits": FULL})
    path = real.pod_path(given)
    assert real.read(given) == pod_sizes(given)
    assert real.pod_path(pod({"limits": {"cpu": "1", "memory": "1Gi"}})) == path
    assert real.read(given) == pod_sizes(given)


@pytest.mark.container
def test_what_a_pods_processes_use_is_told(real: Cgroups) -> None:
    given = pod({"limits": FULL})
    assert real.memory_usage(given) is None
    real.ensure_pod(given)
    assert real.memory_usage(given) == 0


def test_weights_come_back_as_the_shares_that_they_were_made_of() -> None:
    assert [weight(shares_of_weight(amount)) for amount in (1, 2, 39, 100, 5000, 10000)] == [1, 2, 39, 100, 5000, 10000]


def test_a_resize_counts_for_the_level_at_once(v2: Cgroups, tmp_path: Path) -> None:
    v2.ensure_pod(pod({"requests": {"cpu": "1"}}))
    v2.resize(pod({"requests": {"cpu": "2"}}), Limits(shares=2048))
    burstable = tmp_path / "vk-cri-speccg-59/kubepods/burstable"
    assert (burstable / "cpu.weight").read_text() == str(weight(2048))
    assert (burstable / "poduid-1/cpu.weight").read_text() == str(weight(2048))


def test_all_pods_together_are_held_to_what_the_node_has(v2: Cgroups, tmp_path: Path) -> None:
    v2.ensure_pod(pod())
    kubepods = tmp_path / "vk-cri-speccg-59/kubepods"
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert (kubepods / "memory.max").read_text() == str(total)
    assert (kubepods / "cpu.weight").read_text() == str(weight(1024 * (os.cpu_count() or 1)))


@pytest.mark.container
def test_a_pod_may_be_held_to_a_number_of_processes() -> None:
    settings = RuntimeSettings(instance=own("speccg"), node_name="n", pod_pids_limit=100)
    held = Cgroups(settings)
    try:
        path = held.ensure_pod(pod()).strip("/")
        hierarchies = mounted_hierarchies()
        root = hierarchies.unified or hierarchies.v1["pids"]
        assert (root / path / "pids.max").read_text().strip() == "100"
    finally:
        held.cleanup()
