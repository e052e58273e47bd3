"""Patches on both API servers: JSON, merge and strategic merge, of objects and of their status; what each refuses."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.comparison.sides import Answer, Pair, Side
from tests.comparison.transcripts import document, same

CONFIGMAPS = "/api/v1/namespaces/same/configmaps"
PODS = "/api/v1/namespaces/same/pods"
NODES = "/api/v1/nodes"
JSON = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
Steps = Iterator[tuple[str, Any]]


def patch(side: Side, path: str, kind: str, body: Any, **query: str) -> Answer:
    return side.request("PATCH", path, body, query=query, Content_Type=kind)


JSON_PATCHES: dict[str, Any] = {
    "add": [{"op": "add", "path": "/data/b", "value": "2"}],
    "test and replace": [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "one"},
    ],
    "a test that fails": [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "never"},
    ],
    "test of nothing": [{"op": "test", "path": "/data/none", "value": None}],
    "test of a missing parent": [{"op": "test", "path": "/none/a", "value": "1"}],
    "copy and move": [
        {"op": "copy", "from": "/data/a", "path": "/data/copied"},
        {"op": "move", "from": "/data/b", "path": "/data/moved"},
    ],
    "escaped": [{"op": "add", "path": "/metadata/annotations", "value": {"example.com/a~b": "1"}}],
    "escaped path": [{"op": "replace", "path": "/metadata/annotations/example.com~1a~0b", "value": "2"}],
    "remove": [{"op": "remove", "path": "/data/copied"}],
    "remove what is not there": [{"op": "remove", "path": "/data/none"}],
    "replace what is not there": [{"op": "replace", "path": "/data/none", "value": "1"}],
    "add below what is not there": [{"op": "add", "path": "/none/a", "value": "1"}],
    "finalizers": [{"op": "add", "path": "/metadata/finalizers", "value": ["example.com/b"]}],
    "first in a list": [{"op": "add", "path": "/metadata/finalizers/0", "value": "example.com/a"}],
    "last in a list": [{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/c"}],
    "out of a list": [{"op": "remove", "path": "/metadata/finalizers/7"}],
    "no finalizers": [{"op": "remove", "path": "/metadata/finalizers"}],
    "unknown operation": [{"op": "swap", "path": "/data/a"}],
    "no path": [{"op": "add", "value": "1"}],
    "no value": [{"op": "add", "path": "/data/c"}],
    "no list": {"op": "add"},
    "wrong type": [{"op": "add", "path": "/data/n", "value": 1}],
    "name": [{"op": "replace", "path": "/metadata/name", "value": "other"}],
    "kind": [{"op": "replace", "path": "/kind", "value": "Secret"}],
    "no metadata": [{"op": "remove", "path": "/metadata"}],
    "empty": [],
}


def json_patches(side: Side) -> Steps:
    side.create(document("ConfigMap", "p-json", data={"a": "1"}), "same")
    for label, operations in JSON_PATCHES.items():
        yield label, patch(side, f"{CONFIGMAPS}/p-json", JSON, operations)
    yield "as it is then", side.get(f"{CONFIGMAPS}/p-json")
    yield "of nothing", patch(side, f"{CONFIGMAPS}/p-none", JSON, [])
    yield "no json", patch(side, f"{CONFIGMAPS}/p-json", JSON, b"[{")


MERGE_PATCHES: dict[str, Any] = {
    "change, add and remove": {"data": {"a": "one", "b": None, "c": "3"}},
    "nothing": {},
    "uid of another": {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}},
    "old version": {"metadata": {"resourceVersion": "1"}, "data": {"a": "late"}},
    "no version": {"metadata": {"resourceVersion": "x"}},
    "name": {"metadata": {"name": "other"}},
    "namespace": {"metadata": {"namespace": "other"}},
    "generation and creation": {"metadata": {"generation": 7, "creationTimestamp": "2020-01-01T00:00:00Z"}},
    "deletion": {"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}},
    "wrong type": {"data": "text"},
    "wrong label": {"metadata": {"labels": {"a b": "c"}}},
    "unknown field": {"dta": {"a": "1"}},
    "all labels": {"metadata": {"labels": None}},
    "a list": ["a"],
    "immutable": {"immutable": True},
    "of immutable": {"data": {"a": "never"}},
    "labels of immutable": {"metadata": {"labels": {"a": "b"}}},
}


def merge_patches(side: Side) -> Steps:
    side.create(document("ConfigMap", "p-merge", labels={"x": "y"}, data={"a": "1", "b": "2"}), "same")
    for label, body in MERGE_PATCHES.items():
        yield label, patch(side, f"{CONFIGMAPS}/p-merge", MERGE, body)
    held = side.get(f"{CONFIGMAPS}/p-merge")["metadata"]["resourceVersion"]
    metadata = {"resourceVersion": held, "labels": {"x": "z"}}
    yield "its version", patch(side, f"{CONFIGMAPS}/p-merge", MERGE, {"metadata": metadata})
    yield "that version again", patch(side, f"{CONFIGMAPS}/p-merge", MERGE, {"metadata": metadata})
    yield (
        "as a dry run",
        patch(side, f"{CONFIGMAPS}/p-merge", MERGE, {"metadata": {"labels": {"d": "r"}}}, dryRun="All"),
    )
    for mode in ("Strict", "Warn", "Ignore"):
        yield (
            f"unknown, {mode}",
            patch(side, f"{CONFIGMAPS}/p-merge", MERGE, {"metadata": {"labls": {}}}, fieldValidation=mode),
        )
    yield "given twice", patch(side, f"{CONFIGMAPS}/p-merge", MERGE, b'{"metadata":{"labels":{"a":"1","a":"2"}}}')
    yield "as it is then", side.get(f"{CONFIGMAPS}/p-merge")
    for kind in ("application/json", "text/plain", ""):
        yield f"of type {kind!r}", patch(side, f"{CONFIGMAPS}/p-merge", kind, {})


POD_PATCHES: dict[str, Any] = {
    "a container's image": {"spec": {"containers": [{"name": "b", "image": "new"}]}},
    "a container without name": {"spec": {"containers": [{"image": "new"}]}},
    "an environment": {"spec": {"containers": [{"name": "a", "env": [{"name": "A", "value": "1"}]}]}},
    "a toleration": {"spec": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute"}]}},
    "finalizers": {"metadata": {"finalizers": ["example.com/a"]}},
    "another finalizer": {"metadata": {"finalizers": ["example.com/b"]}},
    "a finalizer out": {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}},
    "an order": {
        "metadata": {"$setElementOrder/finalizers": ["example.com/c", "example.com/b"], "finalizers": ["example.com/c"]}
    },
    "more finalizers, in another order": {"metadata": {"finalizers": ["example.com/d", "example.com/b"]}},
    "labels replaced": {"metadata": {"labels": {"$patch": "replace", "only": "this"}}},
    "labels gone": {"metadata": {"labels": {"$patch": "delete"}}},
    "active deadline": {"spec": {"activeDeadlineSeconds": 100}},
    "a longer deadline": {"spec": {"activeDeadlineSeconds": 200}},
    "a container out": {"spec": {"containers": [{"name": "b", "$patch": "delete"}]}},
    "status by the object": {"status": {"phase": "Failed"}},
    # of a kind that no server has: an owner that could be there and is not would have the pod collected
    "owner": {
        "metadata": {"ownerReferences": [{"apiVersion": "example.com/v1", "kind": "Owner", "name": "n", "uid": "1"}]}
    },
    "the same owner": {"metadata": {"ownerReferences": [{"uid": "1", "controller": True}]}},
    "no owner": {"metadata": {"ownerReferences": [{"uid": "1", "$patch": "delete"}]}},
    "no object": ["a"],
}
STATUS_PATCHES: dict[str, Any] = {
    "a condition": {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Waits"}]}},
    "another": {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}},
    "the first changed": {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": None}]}},
    "an order": {"status": {"$setElementOrder/conditions": [{"type": "example.com/gate"}, {"type": "Ready"}]}},
    "one out": {"status": {"conditions": [{"type": "example.com/gate", "$patch": "delete"}]}},
    "addresses": {"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.0.9"}},
    "another address": {"status": {"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}]}},
    "what does not go together": {"status": {"podIP": "10.0.0.3"}},
    "running": {"status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "message": "hello"}},
    "containers": {
        "status": {"containerStatuses": [{"name": "a", "image": "i", "imageID": "", "ready": True, "restartCount": 1}]}
    },
    "spec by the status": {"spec": {"containers": [{"name": "a", "image": "never"}]}},
    "labels by the status": {"metadata": {"labels": {"by": "status"}}},
    "old version": {"metadata": {"resourceVersion": "1"}, "status": {"phase": "Failed"}},
    "wrong uid": {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "status": {"phase": "Failed"}},
    "wrong phase": {"status": {"phase": "Sleeping"}},
    "observed generation": {"status": {"observedGeneration": -1}},
}


def strategic_patches(side: Side) -> Steps:
    containers = [{"name": name, "image": "old"} for name in ("a", "b")]
    spec = {"schedulerName": "none", "containers": containers}
    side.create(document("Pod", "p-pod", labels={"x": "y"}, spec=spec), "same")
    for label, body in POD_PATCHES.items():
        yield label, patch(side, f"{PODS}/p-pod", STRATEGIC, body)
    for label, body in STATUS_PATCHES.items():
        yield f"status: {label}", patch(side, f"{PODS}/p-pod/status", STRATEGIC, body)
    yield (
        "status by JSON",
        patch(side, f"{PODS}/p-pod/status", JSON, [{"op": "add", "path": "/status/message", "value": "j"}]),
    )
    yield (
        "status by merge",
        patch(side, f"{PODS}/p-pod/status", MERGE, {"status": {"reason": "Merged", "message": None}}),
    )
    yield "as it is then", side.get(f"{PODS}/p-pod")
    patch(side, f"{PODS}/p-pod", MERGE, {"metadata": {"finalizers": None}})


NODE_PATCHES: dict[str, Any] = {
    "a taint": {"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}},
    "another taint": {"spec": {"taints": [{"key": "b", "effect": "NoSchedule", "value": "v"}]}},
    "no taints": {"spec": {"taints": None}},
    "unschedulable": {"spec": {"unschedulable": True}},
    "labels": {"metadata": {"labels": {"kubernetes.io/role": "x"}}},
    "provider": {"spec": {"providerID": "one"}},
    "another provider": {"spec": {"providerID": "two"}},
    "status by the node": {"status": {"capacity": {"cpu": "1"}}},
}
NODE_STATUS: dict[str, Any] = {
    "capacity": {
        "status": {"capacity": {"cpu": "2", "memory": "1Gi", "example.com/d": "1"}, "allocatable": {"cpu": "2"}}
    },
    "a capacity out": {"status": {"capacity": {"example.com/d": None}}},
    "conditions": {
        "status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "PIDPressure", "status": "False"}]}
    },
    "one condition": {"status": {"conditions": [{"type": "PIDPressure", "status": "True", "reason": "Full"}]}},
    "addresses": {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}},
    "another address": {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.2"}]}},
    "addresses replaced": {"status": {"addresses": [{"type": "Hostname", "address": "h"}, {"$patch": "replace"}]}},
    "images": {"status": {"images": [{"names": ["a"], "sizeBytes": 1}]}},
    "info": {"status": {"nodeInfo": {"kubeletVersion": "v1.0.0"}}},
    "wrong quantity": {"status": {"capacity": {"cpu": "much"}}},
}


def node_patches(side: Side) -> Steps:
    side.create(document("Node", "p-node"))
    for label, body in NODE_PATCHES.items():
        yield label, _settled(patch(side, f"{NODES}/p-node", STRATEGIC, body))
    for label, body in NODE_STATUS.items():
        yield f"status: {label}", _settled(patch(side, f"{NODES}/p-node/status", STRATEGIC, body))


def _settled(answer: Answer) -> Answer:
    """Without what controllers write into any Node, sooner or later: its range, a time to live, taints of its state."""
    body = json.loads(json.dumps(answer.body))
    spec, annotations = body.get("spec") or {}, body["metadata"].get("annotations") or {}
    annotations.pop("node.alpha.kubernetes.io/ttl", None)
    if not annotations:
        body["metadata"].pop("annotations", None)
    taints = [item for item in spec.pop("taints", []) if not item["key"].startswith("node.kubernetes.io/")]
    for name in ("podCIDR", "podCIDRs"):
        spec.pop(name, None)
    return Answer(answer.code, answer.headers, {**body, "taints": taints}, answer.warnings)


SCENARIOS = [json_patches, merge_patches, strategic_patches, node_patches]
_STATUS = ("code", "body.code", "body.reason", "body.message")
_WORDS = "says which operation fails, where Kubernetes says that one does"
_DECODER = "words of Go's JSON decoder"
_WHOLE = "the whole object is told, here without managedFields and in another order"
_FAULT = "Kubernetes answers 500 where the request is at fault"
_FAILING = (
    "a test that fails",
    "test of a missing parent",
    "escaped path",
    "remove what is not there",
    "add below what is not there",
    "out of a list",
    "unknown operation",
    "no path",
)


def told_whole(*labels: str) -> dict[tuple[str, str], str]:
    return {(label, path): _WHOLE for label in labels for path in ("body.message", "body.details.causes[0].message")}


ALLOWED: dict[str, dict[tuple[str, str], str]] = {
    "json_patches": {
        **{(label, path): _WORDS for label in _FAILING for path in ("body.message", "body.details")},
        **told_whole("wrong type", "kind"),
        ("no list", "body.message"): _DECODER,
        ("no json", "body.message"): _DECODER,
    },
    "merge_patches": {
        **{("no version", path): _FAULT for path in (*_STATUS, "body.details")},
        **told_whole("wrong type", "unknown, Strict"),
        ("a list", "body.message"): _DECODER,
        ("given twice", "headers.warning"): "the parser knows the field's name and not its path",
        ("given twice", "warnings[0]"): "the same",
        **{
            (f"of type {kind!r}", path): "says which kinds of patch there are"
            for kind in ("application/json", "text/plain", "")
            for path in ("body.message", "body.details")
        },
    },
    "strategic_patches": {
        **{("a container without name", path): _FAULT for path in _STATUS},
        **{
            ("an environment", path): "the difference is told in another form"
            for path in ("body.message", "body.details.causes[0].message")
        },
        ("no object", "body.message"): _DECODER,
    },
    "node_patches": told_whole("status: wrong quantity"),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)
def test_a_patch_does_the_same(sides: Pair, scenario: Any) -> None:
    same(sides, scenario, ALLOWED.get(scenario.__name__))
