"""The same objects on both API servers: what each answers, warns of and stores; and what both refuse, in which words.

A field that differs is a bug of the embedded server, or it stands in ALLOWED with its reason.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.comparison.differences import differences, plain
from tests.comparison.sides import Answer, Object, Pair, collection, in_both

OBJECTS = Path(__file__).parent / "objects"
FEWEST_STORED, FEWEST_REFUSED = 100, 40

_GATES = "a gate that Kubernetes has off: here the field is kept, so that the node does what it says or refuses the pod"
_OFF = (
    "spec.containers[0].livenessProbe.httpGet.protocol",
    "spec.containers[0].readinessProbe.grpc.mode",
    "spec.schedulingGroup",
    "spec.volumes[0].emptyDir.mode",
    "spec.volumes[1].configMap.defaultUser",
    "spec.volumes[1].configMap.items[0].user",
)
# (object's name, path): why the embedded server's field is another one; one that is not any more fails.
ALLOWED: Mapping[tuple[str, str], str] = {
    ("stop-signal", "spec.containers[0].lifecycle"): _GATES,
    **{("features-that-are-off", path): _GATES for path in _OFF},
}
# The same, of fields that a server fills sooner or later.
BY_TIME: Mapping[tuple[str, str], str] = dict.fromkeys(
    [(node, path) for node in ("same-bare", "same-capacity") for path in ("spec.podCIDR", "spec.podCIDRs")],
    "the embedded server gives the range itself, where Kubernetes has a controller do it",
)
# Causes whose words differ, by the object's name and the field.
ALLOWED_WORDS: Mapping[tuple[str, str], str] = {
    ("bad-security", "spec.containers[0].securityContext"): "the value is told as Go's whole struct",
    ("bad-security", "spec.containers[1].securityContext"): "the value is told as Go's whole struct",
    ("bad-registry", "data[.dockerconfigjson]"): "words of Go's JSON decoder",
    ("address-elsewhere", "spec.clusterIPs"): "the ranges are other ones",
}
# Answers that differ otherwise, by the object's name.
ALLOWED_ANSWERS: Mapping[str, str] = {
    "versioned": "Kubernetes answers 500 where the request is at fault",
    "bad-base64": "words of Go's base64 decoder",
}


def load(*files: str) -> Iterator[Object]:
    for file in files:
        yield from yaml.safe_load_all((OBJECTS / file).read_text())


def name_of(obj: Object) -> str:
    metadata = obj["metadata"]
    return str(metadata.get("name") or metadata.get("generateName") or "")


STORED = list(load("pods.yaml", "services.yaml", "others.yaml"))
REFUSED = list(load("invalid.yaml"))


@pytest.fixture(scope="module")
def referred(sides: Pair) -> Pair:
    """Both sides, with what the pods refer to."""
    for obj in load("first.yaml"):
        check_same(obj, created(sides, obj))
    return sides


def created(pair: Pair, obj: Object, **query: str) -> list[Answer]:
    return in_both(pair, lambda side: side.create(obj, "same", **query))


@pytest.mark.parametrize("obj", STORED, ids=lambda obj: f"{obj['kind']}-{name_of(obj)}")
def test_an_object_is_answered_and_stored_alike(referred: Pair, obj: Object) -> None:
    asked = created(referred, obj, dryRun="All")
    assert [answer.code for answer in asked] == [201, 201], asked
    check_same(obj, asked)
    made = created(referred, obj)
    assert [answer.code for answer in made] == [201, 201], made
    found = check_same(obj, made)
    assert {path for name, path in ALLOWED if name == name_of(obj)} <= found, "what is allowed to differ does not"
    if obj["metadata"].get("name"):
        path = f"{collection(obj, 'same')}/{name_of(obj)}"
        read = in_both(referred, lambda side: side.request("GET", path))
        assert [one.body["metadata"]["uid"] for one in read] == [one.body["metadata"]["uid"] for one in made]
        ours, theirs = created(referred, obj)
        assert (ours.code, ours.body) == (theirs.code, theirs.body)
        assert ours.code in (409, 422)


def check_same(obj: Object, answers: list[Answer]) -> set[str]:
    """Fails where they differ in more than they may; the paths in which they do."""
    ours, theirs = (plain(answer.body, obj) for answer in answers)
    found = list(differences(ours, theirs))
    wrong = [str(item) for item in found if (name_of(obj), item.path) not in {**ALLOWED, **BY_TIME}]
    assert wrong == [], "\n".join(wrong)
    assert answers[0].warnings == answers[1].warnings
    return {item.path for item in found}


@pytest.mark.parametrize("obj", REFUSED, ids=lambda obj: f"{obj['kind']}-{name_of(obj)}")
def test_an_object_is_refused_alike(referred: Pair, obj: Object) -> None:
    answers = created(referred, obj)
    assert all(answer.code >= 400 for answer in answers), answers
    name = name_of(obj)
    ours, theirs = (answer.body for answer in answers)
    if name in ALLOWED_ANSWERS:
        assert ours != theirs, "what is allowed to differ does not"
        return
    assert answers[0].code == answers[1].code, answers
    for field in (field for refused, field in ALLOWED_WORDS if refused == name):
        assert messages(ours, field) != messages(theirs, field), "what is allowed to differ does not"
    assert causes(ours, name) == causes(theirs, name)
    for field in ("kind", "apiVersion", "status", "reason", "code", "metadata"):
        assert ours.get(field) == theirs.get(field), field
    ours_details, theirs_details = ({**(body.get("details") or {}), "causes": None} for body in (ours, theirs))
    assert ours_details == theirs_details
    if "causes" not in (ours.get("details") or {}):
        assert ours["message"] == theirs["message"]


def causes(status: Object, name: str) -> list[tuple[str, str, str]]:
    """(field, reason, words) of each cause, in the order of the fields: Go's maps have none."""
    found = (status.get("details") or {}).get("causes") or []
    return sorted((item.get("field", ""), item["reason"], words(item, name)) for item in found)


def messages(status: Object, field: str) -> list[str]:
    """What its causes say of a field."""
    causes = (status.get("details") or {}).get("causes") or []
    return [str(item["message"]) for item in causes if item.get("field") == field]


def words(cause: Mapping[str, Any], name: str) -> str:
    return "<words>" if (name, cause.get("field", "")) in ALLOWED_WORDS else str(cause["message"])


def test_there_are_as_many_objects_as_promised() -> None:
    assert len(STORED) >= FEWEST_STORED
    assert len(REFUSED) >= FEWEST_REFUSED
    named = [(obj["kind"], name_of(obj)) for obj in STORED + REFUSED]
    assert len(set(named)) == len(named)


def test_what_is_allowed_to_differ_is_about_an_object_that_is_there() -> None:
    names = {name_of(obj) for obj in REFUSED}
    assert {name for name, _ in ALLOWED_WORDS} | set(ALLOWED_ANSWERS) <= names
    assert {name for name, _ in {**ALLOWED, **BY_TIME}} <= {name_of(obj) for obj in STORED}
