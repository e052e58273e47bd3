"""Lists on both API servers: pages and their tokens, versions, selectors by label and by field."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.comparison.sides import Answer, Pair, Side
from tests.comparison.transcripts import document, same

SECRETS = "/api/v1/namespaces/same/secrets"
PODS = "/api/v1/namespaces/same/pods"
Steps = Iterator[tuple[str, Any]]


def secrets(side: Side, prefix: str, count: int, **fields: Any) -> None:
    for number in range(count):
        answer = side.create(document("Secret", f"{prefix}-{number}", labels={"of": prefix}, **fields), "same")
        assert answer.code in (201, 409), answer


def names(body: Any) -> list[str]:
    return [item["metadata"]["name"] for item in body["items"]]


def pages(side: Side) -> Steps:
    """Each page, what remains, and that a later one keeps the first one's version."""
    secrets(side, "page", 5)
    first = side.get(SECRETS, limit=2)
    yield "first", {**first, "items": names(first)}
    token = first["metadata"]["continue"]
    second = side.get(SECRETS, limit=2, **{"continue": token})
    yield "second", {**second, "items": names(second)}
    yield "same version", first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
    last = side.get(SECRETS, **{"continue": second["metadata"]["continue"]})
    yield "last", {**last, "items": names(last)}
    yield "exactly as many", side.get(SECRETS, limit=5)["metadata"]
    chosen = side.get(SECRETS, limit=2, labelSelector="of=page")
    yield "of a selection", {**chosen, "items": names(chosen)}
    rest = side.get(SECRETS, labelSelector="of=page", **{"continue": chosen["metadata"]["continue"]})
    yield "the rest of it", {**rest, "items": names(rest)}
    yield "an item in a list", first["items"][0]


def versions(side: Side) -> Steps:
    """What a list says to versions, and to what does not go together."""
    secrets(side, "version", 1)
    held = side.get(f"{SECRETS}/version-0")["metadata"]["resourceVersion"]
    asked: dict[str, dict[str, Any]] = {
        "not older": {"resourceVersion": held, "resourceVersionMatch": "NotOlderThan"},
        "at least": {"resourceVersion": held},
        "any": {"resourceVersion": "0"},  # by now what the real one answers from has it
        "match without version": {"resourceVersionMatch": "Exact"},
        "exactly any": {"resourceVersion": "0", "resourceVersionMatch": "Exact"},
        "unknown match": {"resourceVersion": held, "resourceVersionMatch": "Newest"},
        "initial events": {"sendInitialEvents": "true"},
        "bad token": {"continue": "!", "limit": 1},
        "token and match": {"continue": "x", "resourceVersion": held, "resourceVersionMatch": "Exact"},
        "token and version": {"continue": _token(side), "resourceVersion": held},
        "bad limit": {"limit": "many"},
        "negative limit": {"limit": "-1", "labelSelector": "of=version"},
        "bad timeout": {"timeoutSeconds": "x"},
    }
    for label, query in asked.items():
        answer = side.request("GET", SECRETS, query=query)
        if answer.code == 200:
            yield label, sorted(name for name in names(answer.body) if name.startswith("version-"))
        else:
            yield label, answer
    yield "object from the future", _code(side, f"{SECRETS}/version-0", resourceVersion="99999999")
    yield "object not older", side.get(f"{SECRETS}/version-0", resourceVersion=held)
    yield "object of no version", _code(side, f"{SECRETS}/version-0", resourceVersion="x")


def _token(side: Side) -> str:
    secrets(side, "page", 2)
    return str(side.get(SECRETS, limit=1)["metadata"]["continue"])


def _code(side: Side, path: str, **query: Any) -> Any:
    return side.request("GET", path, query=query)


def outdated(side: Side) -> Steps:
    """A token whose version is no longer kept: 410, with a token for the rest as it is by now."""
    path = "/api/v1/namespaces/same/events"
    for name in ("p-a", "p-b", "p-c"):
        side.create(
            {**document("Event", name, labels={"old": "token"}), "involvedObject": {"namespace": "same"}}, "same"
        )
    query = {"labelSelector": "old=token", "limit": 1}
    token = side.get(path, **query)["metadata"]["continue"]
    for number in range(10):
        patch = {"metadata": {"annotations": {"big": str(number) * 250_000}}}
        answer = side.request("PATCH", f"{path}/p-a", patch, Content_Type="application/merge-patch+json")
    side.forget(answer.body["metadata"]["resourceVersion"])
    refused = side.request("GET", path, query={**query, "continue": token})
    yield "too old", refused
    rest = side.get(path, labelSelector="old=token", **{"continue": refused.body["metadata"]["continue"]})
    yield "the rest", {**rest, "items": names(rest)}


LABELS = {
    "l-none": {},
    "l-one": {"app": "one", "tier": "front", "count": "5"},
    "l-two": {"app": "two", "tier": "back", "count": "17"},
    "l-three": {"app": "three", "example.com/role": "spare", "count": "many"},
    "l-empty": {"app": ""},
}
SELECTORS = yaml.safe_load((Path(__file__).parent / "objects" / "selectors.yaml").read_text())


def by_labels(side: Side) -> Steps:
    for name, labels in LABELS.items():
        side.create(document("Secret", name, labels=labels), "same")
    for selector in SELECTORS["labels"] + SELECTORS["label mistakes"]:
        answer = side.request("GET", SECRETS, query={"labelSelector": selector})
        found = sorted(name for name in names(answer.body) if name.startswith("l-")) if answer.code == 200 else answer
        yield selector, found


def _known(answer: Answer) -> list[str]:
    """Of what the scenario made and of what each namespace has; an Event of a controller has a made-up name."""
    known = ("f-", "same", "default", "kube-root")
    return sorted(name for name in names(answer.body) if name.startswith(known) and not name.startswith("f-host."))


def by_fields(side: Side) -> Steps:
    main = {"name": "main", "image": "none"}
    reference = {"kind": "Pod", "namespace": "same", "name": "f-pod", "uid": "7", "apiVersion": "v1"}
    for obj in (
        document("Node", "f-node", spec={"unschedulable": True}),
        document("Pod", "f-pod", spec={"nodeName": "f-node", "restartPolicy": "Never", "containers": [main]}),
        document("Pod", "f-host", spec={"hostNetwork": True, "containers": [main]}),
        document("Secret", "f-secret", type="example.com/f"),
        document("Service", "f-service", spec={"clusterIP": "None"}),
        {
            **document("Event", "f-event"),
            "involvedObject": reference,
            "reason": "Here",
            "source": {"component": "tester"},
        },
        document("Lease", "f-lease", "coordination.k8s.io/v1", spec={"holderIdentity": "a"}),
        document("EndpointSlice", "f-slice", "discovery.k8s.io/v1", addressType="IPv4", endpoints=[]),
    ):
        side.create(obj, "same")
    for path, selectors in SELECTORS["fields"].items():
        for selector in selectors:
            answer = side.request("GET", path, query={"fieldSelector": selector})
            yield f"{path}?{selector}", _known(answer) if answer.code == 200 else answer


SCENARIOS = [pages, versions, outdated, by_labels, by_fields]


_WORDS = "the parser's own words"
ALLOWED: dict[str, dict[tuple[str, str], str]] = {
    "versions": {
        ("bad token", "body.message"): "words of Go's base64 decoder",
        **{
            ("object of no version", path): "Kubernetes answers 500 where the request is at fault"
            for path in ("code", "body.code", "body.reason", "body.message")
        },
    },
    "by_labels": {(selector, "body.message"): _WORDS for selector in SELECTORS["label mistakes"]},
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda item: item.__name__)
def test_a_list_tells_the_same(sides: Pair, scenario: Any) -> None:
    same(sides, scenario, ALLOWED.get(scenario.__name__))
