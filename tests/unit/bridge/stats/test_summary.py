"""The Summary, held against the fields of Kubernetes' own types."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.stats import usage
from bridge.stats.disk import Filesystem, Taken
from bridge.stats.network import Interface, Traffic
from bridge.stats.shapes import Measured
from bridge.stats.summary import ContainerUse, NodeUse, PodUse, SystemUse, VolumeUse, brief, summary
from tests.unit.bridge.stats.texts import V1, V2

TYPES = Path(__file__).parents[3] / "data" / "summary-kubernetes-1.37.tsv"
TIME = 1_800_000_000_000_000_000
STAMP = "2027-01-15T08:00:00.000000000Z"
SECOND = 1_000_000_000
MEASURED = Measured(usage.of_v2(V2, TIME), 250_000_000)
ON = Filesystem(TIME, 600, 1000, 300, 50, 20)
ETH0 = Interface("eth0", 1, 2, 3, 4, 5, 6, 7, 8)


def container(name: str = "app", **more: Any) -> ContainerUse:
    fields: dict[str, Any] = {
        "processes": 3,
        "layers": ON,
        "rootfs": Taken(TIME, 40, 4),
        "logs": Taken(TIME + SECOND, 10, 1),
        **more,
    }
    return ContainerUse(name, TIME - SECOND, MEASURED, **fields)


def pod(*containers: ContainerUse, **more: Any) -> PodUse:
    fields: dict[str, Any] = {
        "measured": MEASURED,
        "traffic": Traffic(TIME, (replace(ETH0, name="net1"), ETH0)),
        "volumes": (
            VolumeUse("scratch", ON, Taken(TIME, 100, 10), local=True),
            VolumeUse("data", ON, Taken(TIME, 1000, 100), local=False, claim="claim"),
        ),
        "files": (None, Taken(TIME, 5, 1)),
        **more,
    }
    return PodUse("default", "p", "uid", TIME - 2 * SECOND, containers or (container(),), **fields)


def node(**more: Any) -> NodeUse:
    fields: dict[str, Any] = {
        "traffic": Traffic(TIME, (ETH0,)),
        "disk": ON,
        "images": ON,
        "images_taken": Taken(TIME, 70, 7),
        "processes": 99,
        "processes_most": 32768,
        "systems": (SystemUse("pods", TIME - SECOND, MEASURED),),
        **more,
    }
    return NodeUse("n1", TIME - 60 * SECOND, MEASURED, **fields)


def types() -> dict[str, dict[str, tuple[str, str]]]:
    """Type -> field -> (Go type, presence), embedded types' fields included."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for line in TYPES.read_text().splitlines()[1:]:
        name, field, kind, presence = line.split("\t")
        found.setdefault(name, {})[field or kind] = (kind, presence)
    for fields in found.values():
        for embedded in [kind for kind, presence in fields.values() if presence == "inline"]:
            fields |= found[fields.pop(embedded)[0]]
    return found


def wrong(value: Any, kind: str, where: str, known: dict[str, dict[str, tuple[str, str]]]) -> Iterator[str]:
    """Where a value is not what that Go type decodes from."""
    kind = kind.removeprefix("*")
    if kind.startswith("[]"):
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            yield from wrong(item, kind[2:], f"{where}[{index}]", known)
    elif kind in known:
        for name, item in value.items():
            if name in known[kind]:
                yield from wrong(item, known[kind][name][0], f"{where}.{name}", known)
            else:
                yield f"{where}.{name} is no field of {kind}"
        required = {name for name, (_, presence) in known[kind].items() if presence == "required"}
        yield from (f"{where}.{name} is missing" for name in required - value.keys())
    elif not isinstance(value, {"string": str, "metav1.Time": str, "float64": float}.get(kind, int)):
        yield f"{where} is {value!r}, not {kind}"


@pytest.mark.parametrize("make", [summary, brief])
def test_every_field_is_one_of_kubernetes_types(make: Any) -> None:
    assert list(wrong(make(node(), [pod()]), "Summary", "", types())) == []


def test_whole_summary_has_every_field_but_those_that_nothing_here_fills() -> None:
    """`accelerators` and custom metrics come with what serves them; the deprecated ones never."""
    known = types()
    found = summary(node(), [pod()])
    filled = {
        "NodeStats": found["node"],
        "PodStats": found["pods"][0],
        "ContainerStats": found["pods"][0]["containers"][0],
        "CPUStats": found["node"]["cpu"],
        "MemoryStats": found["node"]["memory"],
        "IOStats": found["node"]["io"],
        "NetworkStats": found["pods"][0]["network"],
        "VolumeStats": found["pods"][0]["volume"][1],
        "FsStats": found["node"]["fs"],
        "RlimitStats": found["node"]["rlimit"],
    }
    left = {(name, field) for name, shape in filled.items() for field in known[name].keys() - shape.keys()}
    assert left == {("ContainerStats", "accelerators"), ("ContainerStats", "userDefinedMetrics")}


def test_numbers_stand_where_they_belong() -> None:
    found = summary(node(), [pod()])["pods"][0]
    assert found["podRef"] == {"name": "p", "namespace": "default", "uid": "uid"}
    assert found["cpu"]["time"] == STAMP
    assert (found["cpu"]["usageNanoCores"], found["cpu"]["usageCoreNanoSeconds"]) == (250_000_000, 5_000_000_000)
    memory = found["memory"]
    assert (memory["workingSetBytes"], memory["availableBytes"]) == (83886080, 209715200 - 83886080)
    assert memory["psi"]["some"] == {"total": 2_500_000, "avg10": 1.5, "avg60": 0.25, "avg300": 0.0}
    assert "swapAvailableBytes" not in found["swap"]
    assert found["process_stats"] == {"process_count": 3}
    assert [item["name"] for item in found["network"]["interfaces"]] == ["net1", "eth0"]
    assert (found["network"]["name"], found["network"]["rxBytes"], found["network"]["txErrors"]) == ("eth0", 1, 7)
    assert found["volume"][1]["pvcRef"] == {"name": "claim", "namespace": "default"}


def test_ephemeral_storage_is_layers_logs_files_and_local_volumes() -> None:
    found = summary(node(), [pod(container("a"), container("b"))])["pods"][0]["ephemeral-storage"]
    assert (found["usedBytes"], found["inodesUsed"]) == (2 * (40 + 10) + 100 + 5, 2 * (4 + 1) + 10 + 1)
    assert (found["availableBytes"], found["capacityBytes"]) == (600, 1000)
    assert found["time"] == "2027-01-15T08:00:01.000000000Z"  # the newest of its parts


def test_pod_without_a_readable_cgroup_is_the_sum_of_its_containers() -> None:
    found = summary(node(), [pod(container("a"), container("b"), measured=None)])["pods"][0]
    assert (found["cpu"]["usageNanoCores"], found["memory"]["workingSetBytes"]) == (500_000_000, 2 * 83886080)


def test_container_that_nobody_measured_has_no_numbers() -> None:
    found = summary(node(), [pod(replace(container(), measured=None, rootfs=None, logs=None), measured=None)])["pods"][
        0
    ]
    assert found["containers"] == [{"name": "app", "startTime": "2027-01-15T07:59:59.000000000Z"}]
    assert "cpu" not in found


def test_kernel_without_pressure_leaves_it_out() -> None:
    found = summary(replace(node(), measured=Measured(usage.of_v1(V1, TIME), 0)), [])
    assert "io" not in found["node"]
    assert "psi" not in found["node"]["cpu"]
    assert found["pods"] == []


def test_huge_pages_are_no_available_memory_of_the_node() -> None:
    assert summary(node(), [])["node"]["memory"]["availableBytes"] == 209715200 - 83886080
    assert summary(node(hugepages=100_000_000), [])["node"]["memory"]["availableBytes"] == 25_829_120
    assert summary(node(hugepages=1 << 40), [])["node"]["memory"]["availableBytes"] == 0


def test_brief_summary_has_cpu_memory_and_swap_alone() -> None:
    found = brief(node(), [pod()])
    assert found["pods"][0].keys() == {"podRef", "startTime", "containers", "cpu", "memory", "swap"}
    assert found["pods"][0]["containers"][0].keys() == {"name", "startTime", "cpu", "memory", "swap"}
    assert found["node"].keys() == {"nodeName", "systemContainers", "startTime", "cpu", "memory", "swap"}
    assert found["pods"][0]["cpu"] == summary(node(), [pod()])["pods"][0]["cpu"]
