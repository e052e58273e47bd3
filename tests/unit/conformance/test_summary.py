import re

from tests.conformance import report, summary
from tests.conformance.report import Outcome

OUTCOMES = [
    Outcome("a", "passed", 2.0),
    Outcome("b", "failed", 31.2, "\nTimed out after 30 s.\nmore\n", "the log"),
    Outcome("c", "failed", 1.0, "no"),
]


def test_a_failure_is_printed_with_its_first_line() -> None:
    assert list(summary.failures(OUTCOMES[:2])) == ["FAILED b (failed, 31 s)", "       Timed out after 30 s."]


def test_the_file_of_failures_has_the_whole_message_and_output() -> None:
    (whole,) = summary.whole(OUTCOMES[:2])
    assert "#### b\n" in whole
    assert "Timed out after 30 s.\nmore" in whole
    assert "the log" in whole


def test_without_a_list_every_failure_counts() -> None:
    line, status = summary.closing(OUTCOMES, None, 65.04)
    assert (line, status) == ("== 1 passed, 2 failed, 0 skipped in 65.0 s ==", 1)


def test_with_a_list_only_a_listed_test_that_did_not_pass_counts() -> None:
    line, status = summary.closing(OUTCOMES, report.judge(OUTCOMES, ["a"]), 1.0)
    assert (line, status) == ("== 1 passed, 0 failed, 0 skipped, 2 known not to pass in 1.0 s ==", 0)
    line, status = summary.closing(OUTCOMES, report.judge(OUTCOMES, ["a", "b", "gone"]), 1.0)
    assert (line, status) == ("== 1 passed, 2 failed, 0 skipped, 1 known not to pass in 1.0 s ==", 1)


def test_a_run_of_no_test_is_no_success() -> None:
    assert summary.closing([], None, 1.0)[1] == 1


def test_the_closing_line_has_the_form_that_ci_adds_up() -> None:
    line, _ = summary.closing(OUTCOMES, report.judge(OUTCOMES, ["a"]), 1.0)
    assert re.search(r"^=+ .*(passed|failed|errors?|skipped).* in [0-9.]+", line)
    assert re.findall(r"[0-9]+ failed\b", line) == ["0 failed"]


def test_changes_name_the_run_that_they_are_seen_against() -> None:
    lines = list(summary.change("T1", report.compare([Outcome("a", "failed"), Outcome("b", "passed")], OUTCOMES)))
    assert lines == ["newly failing, passed in T1: b", "newly passing, failed in T1: a"]
    assert list(summary.change("T1", report.compare(OUTCOMES, OUTCOMES))) == ["as in the last kept run (T1)"]


def test_the_verdict_names_each_test() -> None:
    lines = list(summary.verdict(report.judge(OUTCOMES, ["b", "gone"]), "passing.txt"))
    assert lines == [
        "must pass and failed: b",
        "must pass and did not run: gone",
        "failed and is not listed: c",
        "passes, to be added to passing.txt: a",
    ]
