"""What `kubectl get -o wide` shows of each kind, from both API servers: columns and cells of objects in many states."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import pytest

from tests.comparison.sides import Object, Pair, Side, collection
from tests.comparison.tables import comparable
from tests.comparison.transcripts import document, same

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
PARTIALS = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
Steps = Iterator[tuple[str, Any]]
LABELS = {"tables": "yes"}


def pod(name: str, *containers: str, **spec: Any) -> Object:
    body = {
        "nodeName": "t-node",
        "containers": [{"name": item, "image": "none"} for item in containers or ("main",)],
        **spec,
    }
    return document("Pod", name, labels=LABELS, spec=body)


def running(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "none", "imageID": "", "ready": True, "started": True, "restartCount": 0, **more}


def waiting(name: str, reason: str, **more: Any) -> dict[str, Any]:
    return running(name, ready=False, started=False, state={"waiting": {"reason": reason}}, **more)


def ended(name: str, code: int, reason: str = "", **more: Any) -> dict[str, Any]:
    state = {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "finishedAt": "2026-01-01T00:00:00Z",
            **more.pop("state", {}),
        }
    }
    return running(name, ready=False, started=False, state=state, **more)


RUNNING = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
READY = {"type": "Ready", "status": "True"}
INIT = {"name": "init", "image": "none"}
SIDECAR = {"name": "side", "image": "none", "restartPolicy": "Always"}
PODS: list[tuple[Object, dict[str, Any]]] = [
    (pod("t-new"), {}),
    (pod("t-creating"), {"phase": "Pending", "containerStatuses": [waiting("main", "ContainerCreating")]}),
    (
        pod("t-running", "main", "other"),
        {
            "phase": "Running",
            "conditions": [READY],
            "podIP": "10.0.0.7",
            "podIPs": [{"ip": "10.0.0.7"}],
            "containerStatuses": [running("main", **RUNNING), waiting("other", "ImagePullBackOff")],
        },
    ),
    (
        pod("t-restarted"),
        {
            "phase": "Running",
            "conditions": [READY],
            "containerStatuses": [
                running(
                    "main",
                    **{
                        **RUNNING,
                        "restartCount": 3,
                        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}},
                    },
                )
            ],
        },
    ),
    (
        pod("t-crashing"),
        {"phase": "Running", "containerStatuses": [waiting("main", "CrashLoopBackOff", restartCount=2)]},
    ),
    (
        pod("t-done", restartPolicy="Never"),
        {"phase": "Succeeded", "containerStatuses": [ended("main", 0, "Completed")]},
    ),
    (pod("t-failed", restartPolicy="Never"), {"phase": "Failed", "containerStatuses": [ended("main", 3, "Error")]}),
    (pod("t-code", restartPolicy="Never"), {"phase": "Failed", "containerStatuses": [ended("main", 3)]}),
    (
        pod("t-signal", restartPolicy="Never"),
        {"phase": "Failed", "containerStatuses": [ended("main", 137, state={"signal": 9})]},
    ),
    (pod("t-reason"), {"phase": "Failed", "reason": "Evicted"}),
    (
        pod("t-init", initContainers=[INIT]),
        {
            "phase": "Pending",
            "initContainerStatuses": [waiting("init", "PodInitializing")],
            "containerStatuses": [waiting("main", "PodInitializing")],
        },
    ),
    (
        pod("t-init-failed", initContainers=[INIT]),
        {"phase": "Pending", "initContainerStatuses": [ended("init", 1, "Error", restartCount=1)]},
    ),
    (
        pod("t-init-crash", initContainers=[INIT]),
        {"phase": "Pending", "initContainerStatuses": [waiting("init", "CrashLoopBackOff", restartCount=4)]},
    ),
    (
        pod("t-side", initContainers=[SIDECAR]),
        {
            "phase": "Running",
            "conditions": [READY],
            "initContainerStatuses": [running("side", **RUNNING)],
            "containerStatuses": [running("main", **RUNNING)],
        },
    ),
    (
        pod("t-mixed", "main", "other"),
        {"phase": "Running", "containerStatuses": [ended("main", 0, "Completed"), running("other", **RUNNING)]},
    ),
    (
        pod(
            "t-gates",
            nodeName=None,
            schedulingGates=[{"name": "example.com/wait"}],
            readinessGates=[{"conditionType": "example.com/ready"}],
        ),
        {"phase": "Pending"},
    ),
]
NODES: list[tuple[Object, dict[str, Any]]] = [
    (document("Node", "t-bare", labels=LABELS), {}),
    (
        document(
            "Node",
            "t-full",
            labels={**LABELS, "node-role.kubernetes.io/b": "", "kubernetes.io/role": "a"},
            spec={"unschedulable": True},
        ),
        {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [
                {"type": "Hostname", "address": "full"},
                {"type": "InternalIP", "address": "10.0.0.1"},
                {"type": "InternalIP", "address": "10.0.0.2"},
                {"type": "ExternalIP", "address": "192.0.2.9"},
            ],
            "nodeInfo": {
                "kubeletVersion": "v1.37.0",
                "osImage": "Debian",
                "kernelVersion": "6.1",
                "containerRuntimeVersion": "containerd://1.6",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    ),
    (document("Node", "t-down", labels=LABELS), {"conditions": [{"type": "Ready", "status": "False"}]}),
    (document("Node", "t-unknown", labels=LABELS), {"conditions": [{"type": "Ready", "status": "Unknown"}]}),
]


def service(name: str, **spec: Any) -> Object:
    return document("Service", name, labels=LABELS, spec=spec)


def event(name: str, **fields: Any) -> Object:
    about = {"kind": "Pod", "namespace": "same", "name": "t-pod", "fieldPath": "spec.containers{main}"}
    return document("Event", name, labels=LABELS, **{"involvedObject": about, **fields})


def endpoint_slice(name: str, **fields: Any) -> Object:
    return document(
        "EndpointSlice",
        name,
        "discovery.k8s.io/v1",
        labels=LABELS,
        **{"addressType": "IPv4", "endpoints": [], **fields},
    )


PORTS = [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}]
STAMP = "2026-01-01T00:00:00Z"
OTHERS: list[Object] = [
    service("t-headless", clusterIP="None", selector={"b": "2", "a": "1"}),
    service("t-ports", clusterIP="None", ports=PORTS),
    service("t-name", type="ExternalName", externalName="example.com"),
    service("t-external", clusterIP="None", externalIPs=["192.0.2.1", "192.0.2.2"], ports=PORTS[:1]),
    event(
        "t-plain",
        reason="Seen",
        message="hello\nthere \n",
        type="Normal",
        count=3,
        firstTimestamp=STAMP,
        lastTimestamp=STAMP,
    ),
    event("t-source", reason="Seen", source={"component": "me", "host": "here"}, message="x"),
    event("t-bare-event", involvedObject={"namespace": "same"}),
    event(
        "t-series",
        reason="New",
        type="Warning",
        eventTime="2026-01-01T00:00:00.000000Z",
        action="Acting",
        reportingComponent="example.com/r",
        reportingInstance="r-1",
        series={"count": 4, "lastObservedTime": "2026-01-02T00:00:00.000000Z"},
    ),
    document("ConfigMap", "t-empty", labels=LABELS),
    document("ConfigMap", "t-config", labels=LABELS, data={"a": "1", "b": "2"}, binaryData={"c": "YQ=="}),
    document("Secret", "t-secret", labels=LABELS, type="example.com/t", stringData={"a": "1"}),
    document("ServiceAccount", "t-account", labels=LABELS, secrets=[{"name": "a"}]),
    document("Lease", "t-lease", "coordination.k8s.io/v1", labels=LABELS, spec={"holderIdentity": "me"}),
    document("Lease", "t-free", "coordination.k8s.io/v1", labels=LABELS),
    endpoint_slice("t-none"),
    endpoint_slice(
        "t-many",
        ports=[
            {"name": "a", "port": 80},
            {"name": "b", "port": 81},
            {"name": "c", "port": 82},
            {"name": "d", "port": 83},
        ],
        endpoints=[
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"]},
            {"addresses": ["10.0.0.3"]},
            {"addresses": ["10.0.0.4"]},
        ],
    ),
    endpoint_slice(
        "t-any", ports=[{"name": "a"}], endpoints=[{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}]
    ),
    document("Endpoints", "t-points", labels=LABELS),
    document(
        "Endpoints",
        "t-points-full",
        labels=LABELS,
        subsets=[
            {"addresses": [{"ip": f"10.0.0.{number}"} for number in (1, 2, 3, 4)], "ports": [{"port": 80}]},
            {"notReadyAddresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 81}]},
        ],
    ),
    document("RuntimeClass", "t-class", "node.k8s.io/v1", labels=LABELS, handler="h"),
    document("Namespace", "t-namespace", labels=LABELS),
]


MADE = {obj["metadata"]["name"] for obj in (*OTHERS, *(obj for obj, _ in PODS + NODES))}


def create(side: Side, obj: Object, status: dict[str, Any] | None = None) -> None:
    answer = side.create(obj, "same")
    assert answer.code == 201, answer
    if status:
        path = f"{collection(obj, 'same')}/{obj['metadata']['name']}/status"
        answer = side.request("PATCH", path, {"status": status}, Content_Type="application/merge-patch+json")
        assert answer.code == 200, answer


def shown(side: Side, path: str, accept: str = TABLE, **query: str) -> Any:
    answer = side.request("GET", path, query={"labelSelector": "tables=yes", **query}, Accept=accept)
    return {"code": answer.code, "body": comparable(answer.body)}


def pods(side: Side) -> Steps:
    create(side, document("Node", "t-node"))
    for obj, status in PODS:
        create(side, obj, status)
    side.request("DELETE", "/api/v1/namespaces/same/pods/t-running")
    yield from rows(shown(side, "/api/v1/namespaces/same/pods", includeObject="None"))


def nodes(side: Side) -> Steps:
    for obj, status in NODES:
        create(side, obj, status)
    yield from rows(shown(side, "/api/v1/nodes", includeObject="None"))


def others(side: Side) -> Steps:
    for obj in OTHERS:
        create(side, obj)
    paths = {obj["kind"]: collection(obj, "same") for obj in OTHERS}
    for kind, path in paths.items():
        # Controllers make Endpoints and slices for some of these: Endpoints have their Service's name.
        made = {obj["metadata"]["name"] for obj in OTHERS if obj["kind"] == kind}
        for label, row in rows(shown(side, path, includeObject="None"), made):
            yield f"{kind} {label}", row


def rows(answer: Any, made: AbstractSet[str] = MADE) -> Steps:
    """The rows of what was made, each under its object's name, so that what differs is easily found."""
    body = answer["body"]
    yield "columns", body["columnDefinitions"]
    for row in body["rows"]:
        known = made & {str(cell) for cell in row["cells"]}
        if known:
            yield min(known), row


def forms(side: Side) -> Steps:
    """One object, a list, metadata alone; what is included in a row; what is refused."""
    create(side, document("ConfigMap", "t-form", labels={"form": "yes"}, data={"a": "1"}))
    path, selector = "/api/v1/namespaces/same/configmaps", "form=yes"
    yield "one", shown(side, f"{path}/t-form")
    yield "metadata of one", shown(side, f"{path}/t-form", PARTIAL)
    yield "metadata of all", shown(side, path, PARTIALS, labelSelector=selector)
    for include in ("None", "Metadata", "Object", "Everything"):
        yield include, shown(side, path, labelSelector=selector, includeObject=include)
    yield "none", shown(side, path, labelSelector="form=none")
    yield "nothing", shown(side, f"{path}/t-none")
    yield "old version", shown(side, path, TABLE.replace("v=v1", "v=v1beta1"), labelSelector=selector)["code"]
    yield "unknown form", shown(side, path, "application/json;as=Chart;v=v1;g=meta.k8s.io", labelSelector=selector)
    yield "unknown media", shown(side, path, "text/html", labelSelector=selector)["code"]


SCENARIOS = [pods, nodes, others, forms]
ALLOWED: dict[str, dict[tuple[str, str], str]] = {}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)
def test_a_table_shows_the_same(sides: Pair, scenario: Any) -> None:
    same(sides, scenario, ALLOWED.get(scenario.__name__))
