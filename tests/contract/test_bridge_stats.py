"""What cri-bridge tells of a pod's use on a real containerd: Summary, cAdvisor's page, what runs, metrics.

One pod burns CPU under a quota, fills its layer, a volume and its log, and is looked at for two rounds of samples.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.bridge_node import BridgeNode, container, pod, running
from tests.unit.bridge.stats.test_summary import types, wrong
from tests.waiting import wait_for
from vkcri.errors import Invalid, NotFound, Refused, Unavailable
from vkcri.instance import Instance
from vkcri.queue import request

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-stats"), pytest.mark.timeout(300)]
MEBI = 1024 * 1024
BUSY = (
    "dd if=/dev/zero of=/scratch/data bs=1M count=3; dd if=/dev/zero of=/layer bs=1M count=5; "
    "for i in $(seq 200); do echo a line of a log; done; touch /scratch/done; while :; do :; done"
)


def ask(node: BridgeNode, name: str, **body: Any) -> Any:
    return request(node.instance.queue_socket("provider"), name, body, timeout=60.0)


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    with running(claim("stats").name, tmp_path_factory.mktemp("logs")) as node:
        yield node


@pytest.fixture(scope="module")
def busy(node: BridgeNode) -> dict[str, Any]:
    """The pod, once two rounds have seen it and its volume was counted. A volume with a limit is counted every ten
    seconds, one without but once in a minute or two."""
    limits = {"cpu": "200m", "memory": "64Mi"}
    main = container("main", BUSY, resources={"limits": limits, "requests": limits})
    main["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
    spec = pod("busy", containers=[main, container("idle", "sleep 1000")])
    spec["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {"sizeLimit": "50Mi"}}]
    node.put(spec)
    node.wait_phase(spec, "Running")
    wait_for("what it writes", lambda: next(node.instance.volumes_dir.glob(f"{uid(spec)}/*/scratch/done"), None))
    wait_for("two rounds and the volume", lambda: settled(summary(node, spec)), 90.0)
    return spec


def uid(spec: dict[str, Any]) -> str:
    return str(spec["metadata"]["uid"])


def summary(node: BridgeNode, spec: dict[str, Any]) -> dict[str, Any]:
    """The pod's part of the Summary; empty while it has none."""
    found = [item for item in ask(node, "stats")["pods"] if item["podRef"]["uid"] == uid(spec)]
    return dict(found[0]) if found else {}


def settled(found: dict[str, Any]) -> bool:
    main: dict[str, Any] = next((item for item in found.get("containers", []) if item["name"] == "main"), {})
    sizes = (item["usedBytes"] for item in found.get("volume", []) if item["name"] == "scratch")
    layer = main.get("rootfs", {}).get("usedBytes", 0)  # containerd measures it every ten seconds
    return bool(main.get("cpu", {}).get("usageNanoCores")) and next(sizes, 0) >= 3 * MEBI and layer >= 5 * MEBI


def held(found: dict[str, Any]) -> dict[str, Any] | None:
    """The pod's part, where its loop had about as much as it may have: a machine under load gives it less."""
    main = next(item for item in found["containers"] if item["name"] == "main")
    return found if 100e6 < main["cpu"]["usageNanoCores"] < 300e6 else None


def test_summary_is_of_kubernetes_types_and_true(node: BridgeNode, busy: dict[str, Any]) -> None:
    whole = ask(node, "stats")
    assert list(wrong(whole, "Summary", "", types())) == []
    found = wait_for("a loop held to 200m", lambda: held(summary(node, busy)), 90.0)
    main, idle = (next(item for item in found["containers"] if item["name"] == name) for name in ("main", "idle"))
    assert idle["cpu"]["usageNanoCores"] < 20e6
    assert main["cpu"]["usageNanoCores"] <= found["cpu"]["usageNanoCores"] * 1.3
    assert 0 < main["memory"]["workingSetBytes"] < 64 * MEBI
    assert main["memory"]["availableBytes"] + main["memory"]["workingSetBytes"] == 64 * MEBI
    assert "availableBytes" not in idle["memory"]
    assert 5 * MEBI <= main["rootfs"]["usedBytes"] < 6 * MEBI
    assert 4096 <= main["logs"]["usedBytes"] < MEBI
    assert main["logs"]["inodesUsed"] == 1
    (volume,) = found["volume"]
    assert 3 * MEBI <= volume["usedBytes"] < 4 * MEBI
    assert 8 * MEBI <= found["ephemeral-storage"]["usedBytes"] < 12 * MEBI
    assert found["process_stats"]["process_count"] == 2
    assert found["network"]["name"] == "eth0"
    assert found["network"]["rxBytes"] > 0


def test_node_has_numbers_of_its_own_and_of_its_programs(node: BridgeNode, busy: dict[str, Any]) -> None:
    del busy
    seen: list[dict[str, Any]] = []

    def systems_of() -> dict[str, Any] | None:
        """By name, where the pods had about as much as they may have."""
        seen.append(ask(node, "stats")["node"])
        systems = {item["name"]: item for item in seen[-1]["systemContainers"]}
        return systems if systems["pods"]["cpu"]["usageNanoCores"] > 100e6 else None

    systems = wait_for("a loop held to 200m", systems_of, 90.0)
    found = seen[-1]
    assert systems.keys() == {"kubelet", "runtime", "pods"}
    assert systems["pods"]["cpu"]["usageNanoCores"] <= found["cpu"]["usageNanoCores"]
    assert 20 * MEBI < systems["kubelet"]["memory"]["workingSetBytes"] < 500 * MEBI
    assert systems["runtime"]["cpu"]["usageCoreNanoSeconds"] > 0
    assert found["fs"]["capacityBytes"] > found["fs"]["usedBytes"] > 0
    assert found["runtime"]["imageFs"]["usedBytes"] > 0
    assert found["runtime"]["imageFs"]["capacityBytes"] > 0
    assert 0 < found["rlimit"]["curproc"] < found["rlimit"]["maxpid"]
    assert found["memory"]["availableBytes"] > 0
    assert any(item["rxBytes"] for item in found["network"]["interfaces"])


def test_brief_summary_agrees_with_the_whole_one(node: BridgeNode, busy: dict[str, Any]) -> None:
    found = ask(node, "stats", onlyCPUAndMemory=True)
    assert list(wrong(found, "Summary", "", types())) == []
    (brief,) = [item for item in found["pods"] if item["podRef"]["uid"] == uid(busy)]
    assert brief["cpu"].keys() == summary(node, busy)["cpu"].keys()
    assert "rootfs" not in brief["containers"][0]
    assert brief["containers"][0]["cpu"]["usageCoreNanoSeconds"] > 0


def test_cadvisors_page_tells_of_every_cgroup(node: BridgeNode, busy: dict[str, Any]) -> None:
    page = ask(node, "container-metrics")["text"]
    own = r'container="main",id="(\S+)",image="localhost/vkcri/shell:1",name="(\w{64})",namespace="default",pod="busy"'
    (match,) = re.finditer(rf"^container_memory_working_set_bytes{{{own}}} (\d+) (\d{{13}})$", page, re.MULTILINE)
    assert match[1] == f"{node.instance.cgroup_root}/kubepods/burstable/pod{uid(busy)}/{match[2]}"
    throttled = re.search(rf"^container_cpu_cfs_throttled_periods_total{{{own}}} (\d+)", page, re.MULTILINE)
    assert throttled is not None
    assert int(throttled[3]) > 5
    assert re.search(rf"^container_spec_memory_limit_bytes{{{own}}} {64 * MEBI}$", page, re.MULTILINE)
    sandbox = r'container="",id="\S+",image="localhost/vkcri/pause:latest",name="\w{64}",namespace="default",pod="busy"'
    assert re.search(rf'^container_network_receive_bytes_total{{{sandbox},interface="eth0"}} [1-9]', page, re.MULTILINE)
    assert 'container_cpu_usage_seconds_total{container="",id="/",' in page
    assert "container_scrape_error 0" in page


def test_what_runs_is_told_by_names_and_images(node: BridgeNode, busy: dict[str, Any]) -> None:
    (found,) = [item for item in ask(node, "running-pods")["items"] if item["metadata"]["uid"] == uid(busy)]
    assert {item["name"] for item in found["spec"]["containers"]} == {"main", "idle"}
    history = ask(node, "usage")
    assert len(history["pods"][uid(busy)]["main"]) >= 1
    assert len(history["node"]) >= 1


def test_a_kubelets_metrics_are_counted(node: BridgeNode, busy: dict[str, Any]) -> None:
    del busy

    def read() -> dict[str, str]:
        page = ask(node, "metrics")["text"]
        return dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")

    wait_for("a relist", lambda: read().get('kubelet_running_containers{container_state="running"}') == "2")
    values = read()
    assert values['kubelet_node_name{node="bridge-test"}'] == "1"
    assert values["kubelet_running_pods"] == "1"
    assert values['kubelet_started_containers_total{container_type="container"}'] == "2"
    assert values["kubelet_pod_start_duration_seconds_count"] == "1"
    assert float(values["kubelet_pod_start_duration_seconds_sum"]) > 0
    assert int(values['kubelet_runtime_operations_total{operation_type="run_podsandbox"}']) == 1
    assert int(values["kubelet_pleg_relist_duration_seconds_count"]) > 1


def test_command_is_run_and_its_failure_told(node: BridgeNode, busy: dict[str, Any]) -> None:
    answer = ask(node, "run", uid=uid(busy), container="idle", command=["sh", "-c", "echo out; echo err >&2"])
    assert sorted(base64.b64decode(answer["output"]).split()) == [b"err", b"out"]
    with pytest.raises(Invalid, match="exited with 3"):
        ask(node, "run", uid=uid(busy), container="idle", command=["sh", "-c", "exit 3"])
    with pytest.raises(NotFound, match='"absent"'):
        ask(node, "run", uid=uid(busy), container="absent", command=["true"])


def test_checkpoint_is_refused_in_the_runtimes_words(node: BridgeNode, busy: dict[str, Any]) -> None:
    location = str(node.instance.checkpoints_dir / "c.tar")
    words = r"rpc error: code = Unimplemented desc = .*method CheckpointContainer|CRIU binary not found"
    with pytest.raises((Refused, Unavailable), match=words):  # containerd 1.x has none, 2.x wants criu
        ask(node, "checkpoint", uid=uid(busy), container="main", location=location, timeout=0)
    assert node.instance.checkpoints_dir.stat().st_mode & 0o777 == 0o700


def test_configuration_is_told_as_a_kubelets(node: BridgeNode) -> None:
    found = ask(node, "configz")
    assert (found["cgroupDriver"], found["cgroupRoot"]) == ("cgroupfs", node.instance.cgroup_root)
    assert found["maxPods"] == 110
    assert json.dumps(found)
