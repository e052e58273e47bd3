"""Deletions on both API servers: grace, one that shortens it, preconditions, policies, collections, dry runs."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.comparison.sides import Answer, Pair, Side
from tests.comparison.transcripts import document, same

CONFIGMAPS = "/api/v1/namespaces/same/configmaps"
PODS = "/api/v1/namespaces/same/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/same/leases"
OTHER = "00000000-0000-0000-0000-000000000000"
Steps = Iterator[tuple[str, Any]]


def delete(side: Side, path: str, options: dict[str, Any] | None = None, **query: str) -> Answer:
    body = None if options is None else {"kind": "DeleteOptions", "apiVersion": "v1", **options}
    return side.request("DELETE", path, body, query=query)


def make(side: Side, name: str, **spec: Any) -> dict[str, Any]:
    """A pod, on a node that is there."""
    side.create(document("Node", "d-node"))
    body = {"nodeName": "d-node", "containers": [{"name": "main", "image": "none"}], **spec}
    answer = side.create(document("Pod", name, labels={"d": name}, spec=body), "same")
    assert answer.code == 201, answer
    made: dict[str, Any] = answer.body
    return made


def remaining(side: Side, path: str) -> Any:
    """(grace, how long after the creation the deletion is due, in whole seconds is not told) or the refusal."""
    answer = side.request("GET", path)
    return answer.body["metadata"].get("deletionGracePeriodSeconds") if answer.code == 200 else answer


def graces(side: Side) -> Steps:
    """The grace of a bound pod, and a second deletion that shortens it, lengthens it, ends it."""
    make(side, "d-grace", terminationGracePeriodSeconds=50)
    with side.watch(
        PODS, resourceVersion=side.get(PODS)["metadata"]["resourceVersion"], labelSelector="d=d-grace"
    ) as stream:
        yield "first", delete(side, f"{PODS}/d-grace")
        yield "again", delete(side, f"{PODS}/d-grace")
        yield "longer", delete(side, f"{PODS}/d-grace", {"gracePeriodSeconds": 70})
        yield "shorter", delete(side, f"{PODS}/d-grace", {"gracePeriodSeconds": 5})
        yield "shorter by the query", delete(side, f"{PODS}/d-grace", gracePeriodSeconds="3")
        yield "negative", delete(side, f"{PODS}/d-grace", {"gracePeriodSeconds": -1})
        yield "dry", delete(side, f"{PODS}/d-grace", {"gracePeriodSeconds": 0, "dryRun": ["All"]})
        yield "still there", remaining(side, f"{PODS}/d-grace")
        yield "now", delete(side, f"{PODS}/d-grace", {"gracePeriodSeconds": 0})
        yield "gone", remaining(side, f"{PODS}/d-grace")
        yield "once more", delete(side, f"{PODS}/d-grace", {"gracePeriodSeconds": 0})
        found: list[tuple[str, Any]] = []
        while not found or found[-1][0] != "DELETED":
            more = stream.read(1)
            assert more, f"{side.name}: the watch ended before DELETED: {found}"
            found += more
        yield "events", [(kind, obj["metadata"].get("deletionGracePeriodSeconds")) for kind, obj in found]


def at_once_or_not(side: Side) -> Steps:
    """Pods that end at once, for want of a grace, of life or of a node, and one that a finalizer keeps."""
    make(side, "d-zero", terminationGracePeriodSeconds=0)
    yield "no grace of its own", delete(side, f"{PODS}/d-zero")
    yield "and so", remaining(side, f"{PODS}/d-zero")
    make(side, "d-long", terminationGracePeriodSeconds=50)
    yield "longer than its own", delete(side, f"{PODS}/d-long", {"gracePeriodSeconds": 90})
    delete(side, f"{PODS}/d-long", {"gracePeriodSeconds": 0})
    make(side, "d-ended")
    side.request(
        "PATCH",
        f"{PODS}/d-ended/status",
        {"status": {"phase": "Succeeded"}},
        Content_Type="application/merge-patch+json",
    )
    yield "of one that has ended", delete(side, f"{PODS}/d-ended")
    yield "and it is", remaining(side, f"{PODS}/d-ended")
    side.create(
        document("Pod", "d-unbound", spec={"schedulerName": "none", "containers": [{"name": "main", "image": "none"}]}),
        "same",
    )
    yield "of one that no node has", delete(side, f"{PODS}/d-unbound")
    make(side, "d-final")
    side.request(
        "PATCH",
        f"{PODS}/d-final",
        {"metadata": {"finalizers": ["example.com/x"]}},
        Content_Type="application/merge-patch+json",
    )
    yield "with a finalizer", delete(side, f"{PODS}/d-final", {"gracePeriodSeconds": 0})
    yield "it waits", remaining(side, f"{PODS}/d-final")
    yield (
        "a finalizer more",
        side.request(
            "PATCH",
            f"{PODS}/d-final",
            {"metadata": {"finalizers": ["example.com/x", "example.com/y"]}},
            Content_Type="application/merge-patch+json",
        ),
    )
    yield (
        "without",
        side.request(
            "PATCH", f"{PODS}/d-final", {"metadata": {"finalizers": None}}, Content_Type="application/merge-patch+json"
        ),
    )
    yield "it went", remaining(side, f"{PODS}/d-final")


def preconditions(side: Side) -> Steps:
    made = side.create(document("ConfigMap", "d-pre"), "same").body["metadata"]
    path = f"{CONFIGMAPS}/d-pre"
    yield "another uid", delete(side, path, {"preconditions": {"uid": OTHER}})
    yield "another version", delete(side, path, {"preconditions": {"resourceVersion": "1"}})
    yield "one of two", delete(side, path, {"preconditions": {"uid": made["uid"], "resourceVersion": "1"}})
    both = {"preconditions": {field: made[field] for field in ("uid", "resourceVersion")}}
    yield "both in a dry run", delete(side, path, {**both, "dryRun": ["All"]})
    yield "both", delete(side, path, both)
    yield "of nothing", delete(side, path, {"preconditions": {"uid": OTHER}})
    pod = make(side, "d-pre")["metadata"]
    yield "of a pod", delete(side, f"{PODS}/d-pre", {"gracePeriodSeconds": 0, "preconditions": {"uid": OTHER}})
    yield "of that pod", delete(side, f"{PODS}/d-pre", {"gracePeriodSeconds": 0, "preconditions": {"uid": pod["uid"]}})


POLICIES: dict[str, dict[str, Any]] = {
    "Background": {"propagationPolicy": "Background"},
    "unknown": {"propagationPolicy": "Later"},
    "both": {"propagationPolicy": "Background", "orphanDependents": True},
    "dependents": {"orphanDependents": False},
    "bad dry run": {"dryRun": ["Some"]},
    "two dry runs": {"dryRun": ["All", "All"]},
    "grace of no pod": {"gracePeriodSeconds": 30},
    "unknown field": {"policy": "x"},
    "wrong type": {"gracePeriodSeconds": "soon"},
}


def policies(side: Side) -> Steps:
    for label, options in POLICIES.items():
        side.create(document("ConfigMap", "d-policy"), "same")
        yield label, delete(side, f"{CONFIGMAPS}/d-policy", options)
        yield f"{label}: left", remaining(side, f"{CONFIGMAPS}/d-policy")
    side.create(document("ConfigMap", "d-policy"), "same")
    yield "no options' kind", side.request("DELETE", f"{CONFIGMAPS}/d-policy", {"kind": "Pod", "apiVersion": "v1"})
    yield "by the query", delete(side, f"{CONFIGMAPS}/d-policy", propagationPolicy="Later")
    yield "bad query", delete(side, f"{CONFIGMAPS}/d-policy", gracePeriodSeconds="soon")
    yield "last", delete(side, f"{CONFIGMAPS}/d-policy")
    side.create(document("ConfigMap", "d-policy"), "same")
    yield (
        "a dry run of the query, beside options",
        delete(side, f"{CONFIGMAPS}/d-policy", {"gracePeriodSeconds": 0}, dryRun="All").code,
    )
    yield "is none to Kubernetes", side.request("GET", f"{CONFIGMAPS}/d-policy").code
    for kind, version, path in (
        ("Secret", "v1", "/api/v1/namespaces/same/secrets"),
        ("Lease", "coordination.k8s.io/v1", LEASES),
        ("ServiceAccount", "v1", "/api/v1/namespaces/same/serviceaccounts"),
    ):
        side.create(document(kind, "d-kind", version), "same")
        yield f"answer of a {kind}", delete(side, f"{path}/d-kind")
    side.create(document("Service", "d-kind", spec={"clusterIP": "None"}), "same")
    yield "answer of a Service", delete(side, "/api/v1/namespaces/same/services/d-kind")
    side.create(document("Node", "d-kind"))
    yield "answer of a Node", delete(side, "/api/v1/nodes/d-kind")


def collections(side: Side) -> Steps:
    for name in ("d-a", "d-b", "d-c"):
        side.create(document("Lease", name, "coordination.k8s.io/v1", labels={"d": name}), "same")
    yield "in a dry run", delete(side, LEASES, dryRun="All", labelSelector="d")
    yield "all there", [item["metadata"]["name"] for item in side.get(LEASES, labelSelector="d")["items"]]
    yield "some", delete(side, LEASES, labelSelector="d in (d-a,d-b)")
    yield "by field", delete(side, LEASES, fieldSelector="metadata.name=none")
    yield "bad selector", delete(side, LEASES, labelSelector="a in b").code
    yield "left", [item["metadata"]["name"] for item in side.get(LEASES, labelSelector="d")["items"]]
    yield "the rest", delete(side, LEASES, {"propagationPolicy": "Background"}, labelSelector="d")
    yield "none", delete(side, LEASES, labelSelector="d")
    for name in ("d-x", "d-y"):
        make(side, name)
    yield "pods", delete(side, PODS, {"gracePeriodSeconds": 7}, labelSelector="d in (d-x,d-y)")
    yield "their grace", remaining(side, f"{PODS}/d-x")
    yield "pods at once", delete(side, PODS, labelSelector="d in (d-x,d-y)", gracePeriodSeconds="0")
    yield "they went", remaining(side, f"{PODS}/d-y")


def dry_runs(side: Side) -> Steps:
    """Nothing is kept of a dry run, and it is refused as the real request is."""
    obj = document("ConfigMap", "d-dry", data={"a": "1"})
    yield "created", side.create(obj, "same", dryRun="All")
    yield "is not there", side.request("GET", f"{CONFIGMAPS}/d-dry")
    yield "unknown", side.create(obj, "same", dryRun="Some")
    yield "unknown validation", side.create(obj, "same", fieldValidation="Some")
    side.create(obj, "same")
    yield "created twice", side.create(obj, "same", dryRun="All")
    held = side.get(f"{CONFIGMAPS}/d-dry")
    yield "updated", side.request("PUT", f"{CONFIGMAPS}/d-dry", {**held, "data": {"a": "2"}}, query={"dryRun": "All"})
    old = {**held, "metadata": {**held["metadata"], "resourceVersion": "1"}}
    yield "an old version", side.request("PUT", f"{CONFIGMAPS}/d-dry", old, query={"dryRun": "All"})
    yield "deleted", delete(side, f"{CONFIGMAPS}/d-dry", dryRun="All")
    yield "as it was", side.get(f"{CONFIGMAPS}/d-dry") == held
    made = make(side, "d-dry")
    yield "a pod deleted", delete(side, f"{PODS}/d-dry", dryRun="All")
    yield "a pod as it was", side.get(f"{PODS}/d-dry")["metadata"].get("deletionTimestamp")
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "d-dry"},
        "target": {"kind": "Node", "name": "x"},
    }
    yield "bound again", side.request("POST", f"{PODS}/d-dry/binding", binding, query={"dryRun": "All"})
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "d-dry"}}
    yield (
        "evicted in a dry run",
        side.request("POST", f"{PODS}/d-dry/eviction", {**eviction, "deleteOptions": {"dryRun": ["All"]}}),
    )
    yield "evicted", side.request("POST", f"{PODS}/d-dry/eviction", eviction)
    yield "on its way", remaining(side, f"{PODS}/d-dry")
    delete(side, f"{PODS}/d-dry", {"gracePeriodSeconds": 0, "preconditions": {"uid": made["metadata"]["uid"]}})


SCENARIOS = [graces, at_once_or_not, preconditions, policies, collections, dry_runs]


_UNKNOWN = "an option that is not known is told, where Kubernetes drops it without a word"
ALLOWED: dict[str, dict[tuple[str, str], str]] = {
    "policies": {
        ("is none to Kubernetes", ""): "a dry run that is asked for is one here, wherever it was asked for",
        ("unknown field", "headers.warning"): _UNKNOWN,
        ("unknown field", "warnings[0]"): _UNKNOWN,
        ("wrong type", "body.message"): "names the kind too",
        ("no options' kind", "body.message"): "words of Go's scheme",
    },
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)
def test_a_deletion_does_the_same(sides: Pair, scenario: Any) -> None:
    same(sides, scenario, ALLOWED.get(scenario.__name__))
