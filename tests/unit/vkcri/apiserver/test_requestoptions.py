"""What requests may ask besides their object: the refusals, with the kind of options and the fields at fault."""

from typing import Any

import pytest

from vkcri.apiserver import requestoptions
from vkcri.apiserver.status import StatusError


def fields(error: StatusError) -> list[str]:
    assert error.details is not None
    return [cause["field"] for cause in error.details["causes"]]


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"resourceVersionMatch": "Exact"}, ["resourceVersionMatch"]),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, ["resourceVersionMatch"]),
        ({"resourceVersionMatch": "Newest", "resourceVersion": "7", "continue": "x"}, ["resourceVersionMatch"] * 2),
        ({"sendInitialEvents": "true"}, ["sendInitialEvents"]),
    ],
)
def test_a_list_is_refused_what_does_not_go_together(query: dict[str, str], wrong: list[str]) -> None:
    with pytest.raises(StatusError) as caught:
        requestoptions.check(query, watch=False)
    assert (caught.value.code, fields(caught.value)) == (422, wrong)
    assert str(caught.value).startswith('ListOptions.meta.k8s.io "" is invalid: ')


def test_a_watch_may_begin_with_what_is_there_and_then_says_so() -> None:
    requestoptions.check({"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}, watch=True)
    for query in ({"sendInitialEvents": "true"}, {"resourceVersionMatch": "NotOlderThan"}):
        with pytest.raises(StatusError) as caught:
            requestoptions.check(query, watch=True)
        assert fields(caught.value) == ["resourceVersionMatch"]


@pytest.mark.parametrize(
    "query", [{"limit": "many"}, {"timeoutSeconds": "x"}, {"continue": "x", "resourceVersion": "7"}]
)
def test_a_number_that_is_none_and_a_version_beside_a_token_are_bad_requests(query: dict[str, str]) -> None:
    with pytest.raises(StatusError) as caught:
        requestoptions.check(query, watch=False)
    assert caught.value.code == 400


def test_a_write_is_told_by_its_own_kind_of_options() -> None:
    requestoptions.check_write("create", {"dryRun": "All", "fieldValidation": "Ignore"})
    for verb, kind in (("create", "CreateOptions"), ("update", "UpdateOptions"), ("patch", "PatchOptions")):
        with pytest.raises(StatusError, match=f"{kind}.meta.k8s.io") as caught:
            requestoptions.check_write(verb, {"dryRun": "Some", "fieldValidation": "Some"})
        assert fields(caught.value) == ["dryRun", "fieldValidation"]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"propagationPolicy": "Later"}, ["propagationPolicy"]),
        ({"propagationPolicy": "Orphan", "orphanDependents": False}, ["propagationPolicy"]),
        ({"dryRun": ["All", "Some"]}, ["dryRun"]),
    ],
)
def test_a_deletion_is_refused_what_means_nothing(options: dict[str, Any], wrong: list[str]) -> None:
    requestoptions.check_delete({"propagationPolicy": "Foreground", "dryRun": ["All"]})
    with pytest.raises(StatusError) as caught:
        requestoptions.check_delete(options)
    assert (caught.value.code, fields(caught.value)) == (422, wrong)
