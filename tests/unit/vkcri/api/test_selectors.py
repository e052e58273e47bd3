"""Label and field selectors: every operator, both forms, and what is refused."""

import pytest

from vkcri.api import selectors
from vkcri.errors import Invalid

LABELS = {"app": "web", "tier": "front", "weight": "7", "empty": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=other", False),
        ("app!=other", True),
        ("missing!=x", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("missing notin (db)", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("! app", False),
        ("weight>6", True),
        ("weight<7", False),
        ("app>1", False),
        ("empty=", True),
        ("empty in ()", True),
        ("empty in (,a)", True),
        ("app=web,tier=front,!x", True),
        ("app=web,tier=back", False),
        ("in in (a)", False),
        ("example.com/x!=1", True),
    ],
)
def test_label_selectors_match(text: str, expected: bool) -> None:
    assert selectors.parse_labels(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    "text",
    ["=a", "a=b,", "a in b", "a in (b", "a=b c", "a>x", "-a=b", "a=b!", "!", "a in (b c)", "/a=b", "a=" + "x" * 64],
)
def test_bad_label_selectors_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        selectors.parse_labels(text)


@pytest.mark.parametrize("text", ["a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m=", "x in (1,2)"])
def test_a_printed_selector_parses_to_itself(text: str) -> None:
    parsed = selectors.parse_labels(text)
    assert selectors.parse_labels(str(parsed)) == parsed


def test_a_null_label_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert not selectors.from_object(None).matches(LABELS)
    assert selectors.from_object({}).matches(LABELS)
    assert selectors.from_object({}).empty


def test_label_selector_objects_join_labels_and_expressions() -> None:
    selector = selectors.from_object(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["front"]},
                {"key": "x", "operator": "DoesNotExist"},
                {"key": "app", "operator": "Exists"},
                {"key": "tier", "operator": "NotIn", "values": ["back"]},
            ],
        }
    )
    assert selector.matches(LABELS)
    assert not selector.matches({"app": "web"})


@pytest.mark.parametrize(
    "expression",
    [
        {"key": "a", "operator": "In"},
        {"key": "a", "operator": "Exists", "values": ["b"]},
        {"key": "a", "operator": "Near"},
        {"key": "", "operator": "Exists"},
    ],
)
def test_bad_expressions_are_refused(expression: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        selectors.from_object({"matchExpressions": [expression]})


def test_a_plain_map_must_be_equal() -> None:
    assert selectors.from_map({"app": "web"}).matches(LABELS)
    assert not selectors.from_map({"app": "web", "z": "1"}).matches(LABELS)
    assert selectors.from_map(None).matches({})


FIELDS = {"metadata.name": "a", "spec.nodeName": "", "status.phase": "Running"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==b", False),
        ("status.phase!=Succeeded,status.phase!=Failed", True),
        ("spec.nodeName=", True),
        ("unknown=", True),
        ("unknown=x", False),
    ],
)
def test_field_selectors_match(text: str, expected: bool) -> None:
    assert selectors.parse_fields(text).matches(FIELDS) is expected


def test_field_values_may_hold_escaped_separators() -> None:
    parsed = selectors.parse_fields(r"a=b\,c\=d\\,e=f")
    assert parsed.terms == (("a", True, "b,c=d\\"), ("e", True, "f"))
    assert selectors.parse_fields(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["a", r"a=b\c", "a=b=c", "a<b"])
def test_bad_field_selectors_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        selectors.parse_fields(text)


def test_the_value_that_a_field_selector_requires_is_known() -> None:
    parsed = selectors.parse_fields("spec.nodeName=n,status.phase!=Failed")
    assert (parsed.required("spec.nodeName"), parsed.required("status.phase")) == ("n", None)
    assert parsed.paths == ("spec.nodeName", "status.phase")
