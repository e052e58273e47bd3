import json
from typing import Any

import pytest

from tests.conformance import report
from tests.conformance.report import Outcome


def spec(name: str, state: str, message: str = "", kind: str = "It", **more: Any) -> dict[str, Any]:
    failure = {"Failure": {"Message": message, "Location": {}}} if message else {}
    node = {"LeafNodeType": kind, "LeafNodeText": name if kind == "It" else "", "State": state}
    return {**node, "ContainerHierarchyTexts": ["[sig-node] Pods"], "RunTime": 1_500_000_000, **failure, **more}


def text(*specs: dict[str, Any]) -> str:
    return json.dumps([{"SuiteDescription": "Kubernetes e2e suite", "SpecReports": list(specs)}])


def test_a_report_gives_names_states_and_seconds() -> None:
    (found,) = report.parse(text(spec("should be updated", "passed")))
    assert found == Outcome("[sig-node] Pods should be updated", "passed", 1.5)
    assert not found.failed


def test_what_the_selection_left_out_is_no_outcome_but_a_test_that_skipped_itself_is() -> None:
    found = report.parse(text(spec("a", "skipped"), spec("b", "pending"), spec("c", "skipped", "needs two nodes")))
    assert [(item.name, item.state) for item in found] == [("[sig-node] Pods c", "skipped")]
    assert report.count(found) == (0, 0, 1)


@pytest.mark.parametrize("state", ["failed", "panicked", "timedout", "interrupted", "aborted"])
def test_every_other_end_is_a_failure_with_its_first_line(state: str) -> None:
    (found,) = report.parse(text(spec("a", state, "\n  Timed out after 300 s.\nExpected\n", CapturedStdOutErr="seen")))
    assert (found.failed, found.first_line, found.output) == (True, "Timed out after 300 s.", "seen")
    assert report.count([found]) == (0, 1, 0)


def test_a_suite_that_cannot_begin_is_a_failure_by_its_nodes_name() -> None:
    before = spec("", "failed", "no nodes", kind="SynchronizedBeforeSuite", ContainerHierarchyTexts=None)
    after = spec("", "passed", kind="SynchronizedAfterSuite", ContainerHierarchyTexts=None)
    (found,) = report.parse(text(before, after))
    assert (found.name, found.first_line) == ("SynchronizedBeforeSuite", "no nodes")


@pytest.mark.parametrize("waited", ["Timed out after 240.001s.", "Told to stop trying after 2.0s."])
def test_how_long_was_waited_is_told_with_what_for(waited: str) -> None:
    assert (
        Outcome("a", "failed", message=f"{waited}\nThe phase is Failed\nmore").first_line
        == f"{waited} The phase is Failed"
    )
    assert Outcome("a", "failed", message=waited).first_line == waited


def test_a_failure_without_words_says_its_state() -> None:
    assert Outcome("a", "interrupted").first_line == "interrupted"


def test_a_report_that_was_cut_off_is_refused() -> None:
    with pytest.raises(ValueError):
        report.parse(text(spec("a", "passed"))[:-3])


def test_two_runs_are_compared_by_the_tests_that_both_have() -> None:
    before = [Outcome("a", "passed"), Outcome("b", "failed"), Outcome("c", "failed"), Outcome("gone", "passed")]
    after = [Outcome("a", "timedout"), Outcome("b", "passed"), Outcome("c", "failed"), Outcome("new", "failed")]
    change = report.compare(before, after)
    assert (change.newly_failing, change.newly_passing) == (["a"], ["b"])


def test_a_test_that_now_skips_itself_is_neither_newly_failing_nor_newly_passing() -> None:
    change = report.compare(
        [Outcome("a", "failed"), Outcome("b", "passed")], [Outcome("a", "skipped"), Outcome("b", "skipped")]
    )
    assert (change.newly_failing, change.newly_passing) == ([], [])


def test_the_list_of_passing_tests_tells_broken_missing_known_and_unlisted_apart() -> None:
    outcomes = [
        Outcome("a", "passed"),
        Outcome("b", "failed"),
        Outcome("c", "failed"),
        Outcome("d", "passed"),
        Outcome("e", "skipped"),
    ]
    verdict = report.judge(outcomes, ["a", "b", "e", "gone"])
    assert [item.name for item in verdict.broken] == ["b"]
    assert verdict.missing == ["e", "gone"]
    assert [item.name for item in verdict.known] == ["c"]
    assert verdict.unlisted == ["d"]


def test_a_list_of_names_has_comments_and_empty_lines() -> None:
    assert report.listed_names("# of 1.37\n\n a [x] b \nc\n") == ["a [x] b", "c"]
    assert report.listed_names("# b\na b\nbc\nd\n", "b$|^d") == ["a b", "d"]
