"""The same requests to vkcri's kubelet API and to the kubelet's own: two nodes of one control plane with the same pods.

Field by field: which there are and of which type, the metrics with their types, labels and buckets, numbers where both
measure the same, and who may ask what. What may differ is in `answer_differences`.
"""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests import instances
from tests.cluster import answers, pki
from tests.cluster.answer_differences import (
    CADVISOR,
    CONFIGURATION,
    FIELDS,
    HEALTH_CHECKS,
    KUBELET,
    ROUTES,
    UNBOUNDED,
    UNKNOWN_PATHS,
    UNSEEN,
    Rows,
)
from tests.cluster.answers import ADMIN, Answer, Api, kinds, named, series
from tests.cluster.control import Cluster
from tests.cluster.rival import Rival
from tests.flow.live import SHELL_IMAGE, LiveNode, is_ready, phase, shell_pod
from tests.flow.planes import Place
from tests.waiting import wait_for
from vkcri.errors import Conflict
from vkcri.kube.client import Client

pytestmark = [pytest.mark.rival, pytest.mark.xdist_group("cluster"), pytest.mark.timeout(600)]
SAME_SETTINGS = (
    "authentication",
    "authorization",
    "maxPods",
    "containerLogMaxSize",
    "containerLogMaxFiles",
    "podPidsLimit",
    "cpuCFSQuota",
    "cpuCFSQuotaPeriod",
    "crashLoopBackOff",
    "imagePullCredentialsVerificationPolicy",
    "memorySwap",
    "seccompDefault",
    "shutdownGracePeriod",
    "nodeStatusReportFrequency",
    "cgroupDriver",
    "cgroupsPerQOS",
    "nodeLeaseDurationSeconds",
    "clusterDomain",
)

PODS = "/api/v1/namespaces/default/pods"
ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default/token"
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
PATHS = (
    *("/pods", "/pods/", "/pods/more", "/runningpods/", "/runningpods", "/configz", "/nothing", "/"),
    *("/healthz", "/healthz/", "/healthz/ping", "/healthz/log", "/healthz/syncloop", "/healthz/absent"),
    *("/metrics", "/metrics/", "/metrics/resource", "/metrics/cadvisor", "/metrics/probes", "/metrics/absent"),
    *("/stats", "/stats/", "/stats/summary", "/stats/absent", "/logs", "/logs/", "/logs/absent"),
    *("/statusz", "/flagz", "/debug/pprof/", "/debug/flags/v", "/allocatedPods/default/plain-NODE"),
    *("/containerLogs/default/plain-NODE/absent", "/containerLogs/default/absent/main"),
    *("/containerLogs/default/plain-NODE/main?tailLines=x", "/containerLogs/default/plain-NODE"),
    *("/exec/default/plain-NODE/main?command=id&output=1", "/exec/default/absent/main?command=id&output=1"),
    *("/attach/default/plain-NODE/main?output=1", "/portForward/default/plain-NODE", "/portForward/default/absent"),
    *("/run/default/plain-NODE/main?cmd=true", "/run/default/plain-NODE/absent?cmd=id", "/run/default/absent/main"),
    *(
        "/checkpoint/default/absent/main",
        "/checkpoint/default/plain-NODE/absent",
        "/checkpoint/default/plain-NODE/main",
    ),
)


@dataclass(frozen=True)
class Side:
    """One node and its API."""

    node: str
    api: Api

    def ask(self, path: str, who: str = ADMIN, method: str = "GET") -> Answer:
        """The answer, in which the node's name is NODE."""
        found = self.api.ask(path.replace("NODE", self.node), who, method)
        kind = found.type.removesuffix(";escaping=underscores")  # of Prometheus' newer clients
        return Answer(found.status, kind, found.body.replace(self.node, "NODE"))


@dataclass(frozen=True)
class Sides:
    kubelet: Side
    vkcri: Side

    def both(self, path: str, who: str = ADMIN, method: str = "GET") -> tuple[Answer, Answer]:
        return self.kubelet.ask(path, who, method), self.vkcri.ask(path, who, method)


@pytest.fixture(scope="module")
def sides(cluster: Cluster) -> Iterator[Sides]:
    """The real kubelet and a vkcri node, each with the same pods, as they are after some rounds of samples."""
    rival = Rival(cluster)
    rival.stop()  # of a run that was killed
    with instances.claimed("answers", instances.FLOW_NUMBERS) as instance:
        environment = {"KUBECONFIG": str(cluster.node_kubeconfig(instance.name)), "VKUBELET_DISABLE_TAINT": "true"}
        node = LiveNode(instance.name, Place(cluster.admin_kubeconfig, cluster.server, environment=environment))
        node.reset()
        try:
            rival.start()
            node.up()
            client = cluster.client()
            for name in (rival.node, node.name):
                run_pods(client, name)
            certificate = answers.certificate_file(cluster.admin_kubeconfig)
            token = client.create(ACCOUNT, {"spec": {}})["status"]["token"]
            ports = (rival.settings.instance.kubelet_port, instance.kubelet_port)
            apis = [Api(cluster.place.address, port, client, certificate, token) for port in ports]
            found = Sides(Side(rival.node, apis[0]), Side(node.name, apis[1]))
            for side in (found.kubelet, found.vkcri):
                wait_for(f"{side.node} has measured its pods", lambda side=side: is_measured(side), 90)  # type: ignore[misc]
            yield found
        finally:
            node.reset()
            rival.stop()


def run_pods(client: Client, node: str) -> None:
    """The same pods on either node: a plain one, one with limits, probes, volumes and an init container, one of the
    host's network, and one that has ended."""
    always_true = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("disk", "memory", "map")]
    volumes = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "map", "configMap": {"name": "kube-root-ca.crt"}},
    ]
    second = {"name": "second", "image": SHELL_IMAGE, "command": ["sh", "-c", "exec sleep 3600"]}
    limited = shell_pod(
        f"limited-{node}",
        "while :; do echo a line; sleep 1; done",
        container={
            "resources": {"limits": {"cpu": "100m", "memory": "64Mi"}},
            "volumeMounts": mounts,
            "livenessProbe": always_true,
            "readinessProbe": always_true,
        },
        volumes=volumes,
        initContainers=[{**second, "name": "first", "command": ["sh", "-c", "echo init"]}],
        containers=[{**second, "resources": {"requests": {"cpu": "10m"}}}],
    )
    pods = [
        shell_pod(f"plain-{node}", "echo hello; exec sleep 3600"),
        limited,
        shell_pod(f"host-{node}", "exec sleep 3600", hostNetwork=True),
        shell_pod(f"done-{node}", "echo done", restartPolicy="Never"),
    ]
    for pod in pods:
        pod["spec"]["nodeName"] = node
        with suppress(Conflict):
            client.create(PODS, pod)

    def settled() -> bool:
        found = [client.get(f"{PODS}/{pod['metadata']['name']}") for pod in pods]
        return all(is_ready(pod) or phase(pod) == "Succeeded" for pod in found)

    wait_for(f"the pods of {node} run, and one has ended", settled, 180)


def is_measured(side: Side) -> bool:
    """Whether every container has a rate, which wants two samples, and every pod its volumes' numbers."""
    answer = side.ask("/stats/summary")
    pods = answer.json()["pods"] if answer.status == 200 else []
    rates = ["usageNanoCores" in (item.get("cpu") or {}) for pod in pods for item in pod["containers"]]
    probed = "limited" in side.ask("/metrics/probes").body
    return len(rates) == 4 and all(rates) and all(pod.get("volume") for pod in pods) and probed


def may(name: str, rows: Rows) -> bool:
    return any(re.fullmatch(pattern, name) for pattern, _ in rows)


@pytest.mark.parametrize(
    "path", ["/pods", "/runningpods/", "/stats/summary", "/stats/summary?only_cpu_and_memory=true"]
)
def test_documents_have_the_same_fields_of_the_same_types(sides: Sides, path: str) -> None:
    theirs, ours = (kinds(named(side.ask(path).json())) for side in (sides.kubelet, sides.vkcri))
    differing = {name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)}
    left = {name: (theirs.get(name), ours.get(name)) for name in differing if not may(name, FIELDS.get(path, ()))}
    assert left == {}
    assert len(ours) > 10


def test_configuration_is_told_in_the_kubelets_fields(sides: Sides) -> None:
    theirs, ours = (side.ask("/configz").json()["kubeletconfig"] for side in (sides.kubelet, sides.vkcri))
    assert (ours["kind"], ours["apiVersion"]) == (theirs["kind"], theirs["apiVersion"])
    shapes = kinds(theirs), kinds(ours)
    left = {name: kind for name, kind in shapes[1].items() if shapes[0].get(name) != kind}
    assert {name: kind for name, kind in left.items() if not may(name.partition(".")[0], CONFIGURATION)} == {}
    for name in SAME_SETTINGS:
        wanted = dict(theirs)
        wanted["authentication"] = {**theirs["authentication"], "x509": {}}  # here the cluster's own CA, without a file
        assert ours[name] == wanted[name], name


def test_health_has_the_same_checks(sides: Sides) -> None:
    theirs, ours = (answer.body.splitlines() for answer in sides.both("/healthz?verbose"))
    own, foreign = HEALTH_CHECKS

    def named(lines: list[str], but: Collection[str]) -> list[str]:
        return [line for line in lines if line[3:].partition(" ")[0] not in but]

    assert named(ours, own) == named(theirs, foreign)


def judge(sides: Sides, path: str, missing: Rows, prefixes: tuple[str, ...] = ("",)) -> None:
    """Every family of ours is one of theirs, with its type, labels and buckets; `missing` ones alone are left out."""
    theirs, ours = sides.kubelet.api.metrics(path), sides.vkcri.api.metrics(path)
    chosen = [name for name in {*theirs, *ours} if name.startswith(prefixes)]
    left: dict[str, Any] = {}
    for name in chosen:
        if name not in ours:
            if not may(name, missing) and name not in UNSEEN:
                left[name] = "of the kubelet's alone"
        elif name not in theirs:
            if name not in UNSEEN:
                left[name] = "of vkcri's alone"
        else:
            depth = 2 if name in UNBOUNDED else 3
            if shape(theirs[name])[:depth] != shape(ours[name])[:depth]:
                left[name] = shape(theirs[name]), shape(ours[name])
    assert left == {}
    assert set(ours) & set(theirs)


def shape(metric: answers.Metric) -> tuple[str, list[list[str]], list[str]]:
    """Type, label names (without the process that vkcri adds to its joined page) and a histogram's bounds."""
    labels = sorted(sorted(names - {"process"}) for names in {frozenset(item - {"process"}) for item in metric.labels})
    return metric.kind, labels, sorted({dict(key).get("le", "") for key in metric.samples})


def test_resource_and_probe_metrics_are_the_same_families(sides: Sides) -> None:
    judge(sides, "/metrics/resource", ())
    judge(sides, "/metrics/probes", ())


def test_cadvisors_metrics_are_a_subset(sides: Sides) -> None:
    judge(sides, "/metrics/cadvisor", CADVISOR)


def test_kubelets_metrics_are_a_subset(sides: Sides) -> None:
    judge(sides, "/metrics", KUBELET, ("kubelet_",))
    theirs, ours = sides.kubelet.api.metrics("/metrics"), sides.vkcri.api.metrics("/metrics")
    for name in ("rest_client_requests_total", "storage_operation_duration_seconds", "process_start_time_seconds"):
        assert shape(ours[name]) == shape(theirs[name])
    assert [name for name in ours if ours[name].kind == "untyped"] == []


def close(one: float, other: float, ratio: float) -> bool:
    return one == other or (min(one, other) > 0 and max(one, other) / min(one, other) <= ratio)


def test_numbers_of_the_one_machine_agree(sides: Sides) -> None:
    theirs, ours = (side.ask("/stats/summary").json()["node"] for side in (sides.kubelet, sides.vkcri))
    for part, key, ratio in (
        ("cpu", "usageCoreNanoSeconds", 1.1),
        ("memory", "workingSetBytes", 1.5),
        ("memory", "rssBytes", 1.5),
        ("fs", "capacityBytes", 1.0),
        ("fs", "inodes", 1.0),
        ("fs", "usedBytes", 1.1),
        ("network", "rxBytes", 1.1),
        ("rlimit", "maxpid", 1.0),
        ("rlimit", "curproc", 2.0),
    ):
        assert close(theirs[part][key], ours[part][key], ratio), (part, key, theirs[part][key], ours[part][key])
    assert theirs["startTime"] == ours["startTime"]
    assert theirs["network"]["name"] == ours["network"]["name"]
    machine = [side.api.metrics("/metrics/cadvisor") for side in (sides.kubelet, sides.vkcri)]
    for name in ("machine_cpu_cores", "machine_memory_bytes", "machine_swap_bytes"):
        assert [value for value, _ in machine[0][name].samples.values()] == [
            value for value, _ in machine[1][name].samples.values()
        ]


def test_numbers_of_the_same_pod_agree(sides: Sides) -> None:
    found = []
    for side in (sides.kubelet, sides.vkcri):
        pods = side.ask("/stats/summary").json()["pods"]
        (pod,) = [pod for pod in pods if pod["podRef"]["name"] == "limited-NODE"]
        found.append(pod | {"containers": {item["name"]: item for item in pod["containers"]}})
    theirs, ours = found
    limit = 64 * 1024 * 1024
    for pod in found:
        memory = pod["containers"]["main"]["memory"]
        assert memory["availableBytes"] + memory["workingSetBytes"] == limit
        assert {item["name"] for item in pod["volume"]} >= {"disk", "memory", "map"}
    assert set(theirs["containers"]) == set(ours["containers"]) == {"main", "second"}
    for name in ("main", "second"):
        one, other = (pod["containers"][name] for pod in found)
        assert close(one["memory"]["workingSetBytes"], other["memory"]["workingSetBytes"], 4)
        assert (one["rootfs"]["usedBytes"], one["rootfs"]["inodesUsed"]) == (
            other["rootfs"]["usedBytes"],
            other["rootfs"]["inodesUsed"],
        )
        assert one["logs"]["inodesUsed"] == other["logs"]["inodesUsed"]
    volumes = [{item["name"]: item for item in pod["volume"]} for pod in found]
    for name in ("disk", "memory", "map"):
        assert [item[name]["usedBytes"] for item in volumes] == [volumes[0][name]["usedBytes"]] * 2
        assert [item[name]["inodesUsed"] for item in volumes] == [volumes[0][name]["inodesUsed"]] * 2


def test_what_a_cgroup_is_held_to_is_told_alike(sides: Sides) -> None:
    """The container with limits is the one whose quota is a tenth of its period."""
    for name in ("quota", "period", "shares"):
        values = []
        for side in (sides.kubelet, sides.vkcri):
            page = side.api.metrics("/metrics/cadvisor")
            held = {labels["id"] for labels, value in series(page["container_spec_cpu_quota"]) if value == 10_000}
            values.append(
                {value for labels, value in series(page[f"container_spec_cpu_{name}"]) if labels["id"] in held}
            )
        assert values[0] == values[1]
        assert len(values[0]) == 1


def test_an_administrator_gets_the_same_answers_by_every_method(sides: Sides) -> None:
    left = {}
    for path in PATHS:
        for method in METHODS:
            theirs, ours = sides.both(path, method=method)
            plain = theirs.status == 200 or method == "HEAD"
            same = (theirs.status, theirs.type) == (ours.status, ours.type)
            if not (same and (plain or theirs.body == ours.body)) and not may(f"{method} {path}", ROUTES):
                left[f"{method} {path}"] = theirs, ours
    assert left == {}


@pytest.mark.parametrize("who", [answers.WEAK, answers.UNKNOWN, answers.NOBODY])
def test_nobody_else_gets_more_than_from_the_kubelet(sides: Sides, who: str) -> None:
    """The same words, too."""
    left = {}
    for path in PATHS:
        for method in ("GET", "POST", "PUT", "DELETE"):
            theirs, ours = sides.both(path, who, method)
            assert ours.status == (403 if who == answers.WEAK else 401), (method, path, ours)
            if theirs != ours and theirs.status not in UNKNOWN_PATHS:
                left[f"{method} {path}"] = theirs, ours
    assert left == {}


def test_certificate_of_another_authority_is_refused_by_both(sides: Sides, cluster: Cluster, tmp_path: Any) -> None:
    """The kubelet answers 401, vkcri ends the handshake: nobody is let in."""
    foreign = pki.authority(cluster.place, "front-proxy-ca").issue_client("admin", [pki.MASTERS])
    path = tmp_path / "foreign.pem"
    path.write_bytes(b"".join(foreign))
    for side in (sides.kubelet, sides.vkcri):
        stranger = side.api.with_certificate(path)
        with suppress(OSError):
            answer = stranger.ask("/pods")
            assert (answer.status, answer.body) == (401, "Unauthorized")


def test_logs_are_the_same_bytes(sides: Sides) -> None:
    for query in ("", "?tailLines=1", "?limitBytes=3", "?sinceSeconds=86400"):
        theirs, ours = sides.both(f"/containerLogs/default/plain-NODE/main{query}")
        assert (theirs.status, theirs.body) == (ours.status, ours.body)
    assert json.dumps(sides.vkcri.ask("/containerLogs/default/done-NODE/main").body) == '"done\\n"'
