"""Watches on both API servers: which events, in which order, of what; bookmarks; versions that are too old."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.comparison.sides import Pair, Side
from tests.comparison.tables import comparable
from tests.comparison.transcripts import document, same

CONFIGMAPS = "/api/v1/namespaces/same/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
OLD = 2000  # changes of a kind after which its first version is no longer kept by any of the two
Steps = Iterator[tuple[str, Any]]


def make(side: Side, name: str, **labels: str) -> dict[str, Any]:
    answer = side.create(document("ConfigMap", name, labels=labels, data={"a": "1"}), "same")
    assert answer.code == 201, answer
    made: dict[str, Any] = answer.body
    return made


def merge(side: Side, path: str, patch: dict[str, Any]) -> dict[str, Any]:
    answer = side.request("PATCH", path, patch, Content_Type="application/merge-patch+json")
    assert answer.code == 200, answer
    changed: dict[str, Any] = answer.body
    return changed


def in_order(events: list[tuple[str, Any]]) -> bool:
    versions = [int(obj["metadata"]["resourceVersion"]) for _, obj in events]
    return versions == sorted(set(versions))


def changes(side: Side) -> Steps:
    """From a list's version: an object's whole life, in order."""
    listed = side.get(CONFIGMAPS)["metadata"]["resourceVersion"]
    with side.watch(CONFIGMAPS, resourceVersion=listed) as stream:
        make(side, "w-life")
        merge(side, f"{CONFIGMAPS}/w-life", {"data": {"b": "2"}})
        merge(side, f"{CONFIGMAPS}/w-life", {"data": {"b": "2"}})  # changes nothing
        merge(side, f"{CONFIGMAPS}/w-life", {"metadata": {"finalizers": ["example.com/held"]}})
        side.request("DELETE", f"{CONFIGMAPS}/w-life")
        merge(side, f"{CONFIGMAPS}/w-life", {"metadata": {"finalizers": None}})
        found = stream.read(5)
    yield "events", found
    yield "in order", in_order(found)


def selected(side: Side) -> Steps:
    """An object that comes into a selection is added, one that leaves it is deleted."""
    selector = "watched in (yes,maybe)"
    with side.watch(
        CONFIGMAPS, resourceVersion=side.get(CONFIGMAPS)["metadata"]["resourceVersion"], labelSelector=selector
    ) as stream:
        make(side, "w-other", watched="no")
        make(side, "w-selected", watched="no")
        merge(side, f"{CONFIGMAPS}/w-selected", {"metadata": {"labels": {"watched": "yes"}}})
        merge(side, f"{CONFIGMAPS}/w-selected", {"metadata": {"labels": {"watched": "maybe"}}})
        gone = merge(side, f"{CONFIGMAPS}/w-selected", {"metadata": {"labels": {"watched": None}}})
        merge(side, f"{CONFIGMAPS}/w-selected", {"metadata": {"labels": {"watched": "yes"}}})
        side.request("DELETE", f"{CONFIGMAPS}/w-selected")
        found = stream.read(5)
    yield "events", found
    yield (
        "the one that left has the version of that",
        found[2][1]["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"],
    )
    yield "in order", in_order(found)
    with side.watch(CONFIGMAPS, fieldSelector="metadata.name=w-other", resourceVersion="0") as stream:
        yield "one by its name", stream.read(1)
        side.request("DELETE", f"{CONFIGMAPS}/w-other")
        yield "its end", stream.read(1)


def begun(side: Side) -> Steps:
    """From 0 a watch begins with what is there."""
    for name in ("w-b", "w-a"):
        make(side, name, begun="yes")
    with side.watch(CONFIGMAPS, labelSelector="begun=yes", resourceVersion="0") as stream:
        yield "what is there", sorted(stream.read(2), key=lambda event: str(event[1]["metadata"]["name"]))
        merge(side, f"{CONFIGMAPS}/w-a", {"data": {"b": "2"}})
        yield "a change", stream.read(1)


def streamed(side: Side) -> Steps:
    """sendInitialEvents: what is there, a bookmark that says so, what comes."""
    version = make(side, "w-one", streamed="yes")["metadata"]["resourceVersion"]
    side.get(f"{CONFIGMAPS}/w-one", resourceVersion=version)  # from now on what a watch begins with has it
    asked = {"labelSelector": "streamed=yes", "resourceVersionMatch": "NotOlderThan"}
    query = {**asked, "sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersion": "0"}
    with side.watch(CONFIGMAPS, **query) as stream:
        yield "what is there", stream.read(2)
        changed = merge(side, f"{CONFIGMAPS}/w-one", {"data": {"b": "2"}})
        yield "a change", stream.read(1)
    version = changed["metadata"]["resourceVersion"]
    query = {**asked, "sendInitialEvents": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
    with side.watch(CONFIGMAPS, **query) as stream:
        found = stream.read(2)
        yield "not older than", found
        yield "the bookmark is not older", int(found[1][1]["metadata"]["resourceVersion"]) >= int(version)
    for accept, form in ((TABLE, "a table"), (PARTIAL, "metadata")):
        with side.watch(CONFIGMAPS, accept=accept, **query) as stream:
            found = stream.read(2)
            yield form, [(kind, comparable(obj)) for kind, obj in found]
    with side.watch(CONFIGMAPS, **{**query, "allowWatchBookmarks": "false"}) as stream:
        yield "without bookmarks", stream.read(1)
        merge(side, f"{CONFIGMAPS}/w-one", {"data": {"now": "more"}})
        yield "a change follows", stream.read(1)
    query = {**asked, "sendInitialEvents": "false", "resourceVersion": version, "allowWatchBookmarks": "true"}
    with side.watch(CONFIGMAPS, **query) as stream:
        merge(side, f"{CONFIGMAPS}/w-one", {"data": {"now": "last"}})
        yield "without what is there", stream.read(1)


def ended(side: Side) -> Steps:
    """A watch ends in peace after timeoutSeconds."""
    make(side, "w-end", ended="yes")
    with side.watch(
        CONFIGMAPS, resourceVersion="0", labelSelector="ended=yes", timeoutSeconds=1, allowWatchBookmarks="true"
    ) as stream:
        kinds = [kind for kind, _ in stream.read(100)]
        yield "events", [kind for kind in kinds if kind != "BOOKMARK"]


BAD = {
    "match without initial events": {"resourceVersionMatch": "NotOlderThan"},
    "exact match": {"resourceVersionMatch": "Exact", "resourceVersion": "1"},
    "unknown match": {"resourceVersionMatch": "Newest", "resourceVersion": "1"},
    "initial events without match": {"sendInitialEvents": "true", "allowWatchBookmarks": "true"},
    "initial events with another match": {
        "sendInitialEvents": "true",
        "allowWatchBookmarks": "true",
        "resourceVersionMatch": "Exact",
        "resourceVersion": "1",
    },
    "no version": {"resourceVersion": "newest"},
    "negative version": {"resourceVersion": "-1"},
    "selector": {"labelSelector": "a in b"},
    "field": {"fieldSelector": "data.a=1"},
    "timeout": {"timeoutSeconds": "soon"},
}


def refused(side: Side) -> Steps:
    for label, query in BAD.items():
        with side.watch(CONFIGMAPS, **query) as stream:
            yield label, stream.refusal


def outdated(side: Side) -> Steps:
    """A version that is no longer kept is an event that says 410. Of Events, which the real one keeps in etcd alone."""
    path = "/api/v1/namespaces/same/events"
    first = side.create({**document("Event", "w-old"), "involvedObject": {"namespace": "same"}}, "same").body
    for number in range(10):
        merge(side, f"{path}/w-old", {"metadata": {"annotations": {"big": str(number) * 250_000}}})
    side.forget(merge(side, f"{path}/w-old", {"metadata": {"annotations": None}})["metadata"]["resourceVersion"])
    with side.watch(path, resourceVersion=first["metadata"]["resourceVersion"]) as stream:
        yield "too old", stream.read(2)
    with side.watch(path, fieldSelector="metadata.name=w-old", resourceVersion="0") as stream:
        yield "what is there", stream.read(1)


SCENARIOS = [changes, selected, begun, streamed, ended, refused, outdated]


_NUMBER = "Kubernetes answers 500 where the request is at fault"
ALLOWED: dict[str, dict[tuple[str, str], str]] = {
    "refused": {
        **{
            (label, path): _NUMBER
            for label in ("no version", "negative version")
            for path in ("code", "body.code", "body.reason", "body.message")
        },
        ("selector", "body.message"): "the parser's own words",
    },
    "outdated": {("too old", "[0][1].message"): "what Kubernetes says of kinds that it has a cache of"},
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)
def test_a_watch_tells_the_same(sides: Pair, scenario: Any) -> None:
    same(sides, scenario, ALLOWED.get(scenario.__name__))
