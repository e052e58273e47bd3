"""CRI's resources by the kubelet's arithmetic."""

from fractions import Fraction
from typing import Any

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.spec import CgroupFacts, container_config
from bridge.spec.resources import hugepage_limits, oom_score_adj, page_size, quota, shares
from tests.unit.bridge.spec.make import container, context, pod

GIB = 1 << 30


def made(own: dict[str, Any], facts: CgroupFacts | None = None, **spec: Any) -> cri.LinuxContainerResources:
    item = container(resources=own)
    ctx = context(cgroups=facts or CgroupFacts())
    return container_config(pod(item, **spec), item, ctx, 0).linux.resources


@pytest.mark.parametrize(
    ("cpus", "expected"), [("0", 2), ("1/1000", 2), ("1/10", 102), ("1", 1024), ("5/2", 2560), ("1000", 262144)]
)
def test_shares(cpus: str, expected: int) -> None:
    assert shares(Fraction(cpus)) == expected


@pytest.mark.parametrize(("cpus", "expected"), [("0", 0), ("1/1000", 1000), ("1/2", 50000), ("3", 300000)])
def test_quota(cpus: str, expected: int) -> None:
    assert quota(Fraction(cpus)) == expected


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, (2, 0, 0)),
        ({"requests": {"cpu": "250m"}}, (256, 0, 0)),
        ({"limits": {"cpu": "1"}}, (1024, 100000, 0)),
        ({"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "64Mi"}}, (102, 100000, 64 << 20)),
        ({"limits": {"memory": "1.5"}}, (2, 0, 2)),
    ],
)
def test_requests_and_limits(resources: dict[str, Any], expected: tuple[int, int, int]) -> None:
    found = made(resources)
    assert (found.cpu_shares, found.cpu_quota, found.memory_limit_in_bytes) == expected
    assert found.cpu_period == 100_000


def test_a_limit_left_out_is_the_pods() -> None:
    found = made({"requests": {"cpu": "100m"}}, resources={"limits": {"cpu": "2", "memory": "1Gi"}})
    assert (found.cpu_quota, found.memory_limit_in_bytes, found.cpu_shares) == (200_000, GIB, 102)


def test_huge_pages_are_limited_for_every_size_of_the_guest() -> None:
    facts = CgroupFacts(hugepages=("2MB", "1GB"))
    found = made({"limits": {"hugepages-2Mi": "4Mi", "cpu": "1", "memory": "1Gi"}}, facts)
    assert [(item.page_size, item.limit) for item in found.hugepage_limits] == [("2MB", 4 << 20), ("1GB", 0)]


def test_huge_pages_that_only_the_pod_asks_for_are_every_containers() -> None:
    facts = CgroupFacts(hugepages=("2MB", "1GB"))
    level = {"limits": {"hugepages-2Mi": "8Mi", "hugepages-1Gi": "1Gi"}}
    found = made({"limits": {"hugepages-2Mi": "4Mi"}}, facts, resources=level)
    assert {item.page_size: item.limit for item in found.hugepage_limits} == {"2MB": 4 << 20, "1GB": GIB}


def test_a_page_size_that_the_guest_lacks_is_no_limit() -> None:
    assert hugepage_limits({"hugepages-1Gi": Fraction(GIB)}, CgroupFacts(hugepages=("2MB",))) == {"2MB": 0}


@pytest.mark.parametrize(("size", "name"), [(2 << 20, "2MB"), (1 << 30, "1GB"), (64 << 10, "64KB"), (512, "512B")])
def test_page_sizes_have_the_kernels_names(size: int, name: str) -> None:
    assert page_size(size) == name


def test_swap_is_never_given_and_on_v2_a_container_dies_whole() -> None:
    resources = {"limits": {"memory": "64Mi"}}
    assert made(resources, CgroupFacts(1, swap=True)).memory_swap_limit_in_bytes == 64 << 20
    assert made(resources, CgroupFacts(1)).memory_swap_limit_in_bytes == 0
    assert dict(made(resources, CgroupFacts(2, swap=True)).unified) == {
        "memory.oom.group": "1",
        "memory.swap.max": "0",
    }
    assert dict(made(resources, CgroupFacts(2)).unified) == {"memory.oom.group": "1"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, 1000),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, -997),
        ({"requests": {"cpu": "1"}}, 999),
        ({"requests": {"memory": "4Gi"}}, 500),
        ({"requests": {"memory": "8Gi"}}, 3),
        ({"requests": {"memory": "1"}}, 999),
    ],
)
def test_oom_score_follows_the_qos_class(resources: dict[str, Any], expected: int) -> None:
    item = container(resources=resources)
    assert oom_score_adj(pod(item), item, 8 * GIB) == expected


def test_node_critical_pods_go_last() -> None:
    item = container()
    assert oom_score_adj(pod(item, priorityClassName="system-node-critical"), item, 8 * GIB) == -997


def test_a_sidecar_is_not_killed_before_the_smallest_container() -> None:
    side = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"memory": "1Mi"}}}
    big = container(resources={"requests": {"memory": "4Gi"}})
    found = pod(big, initContainers=[side])
    assert oom_score_adj(found, side, 8 * GIB) == oom_score_adj(found, big, 8 * GIB) == 500


def test_memory_that_only_the_pod_requests_is_shared_out() -> None:
    one, two = container(resources={"requests": {"memory": "1Gi"}}), {"name": "b"}
    found = pod(one, two, resources={"requests": {"memory": "5Gi"}})
    assert oom_score_adj(found, one, 8 * GIB) == 1000 - 1000 * 3 // 8
    assert oom_score_adj(found, two, 8 * GIB) == 1000 - 1000 * 2 // 8
