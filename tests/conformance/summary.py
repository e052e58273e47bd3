"""The words that a run ends with, as lines. Pure; the last line is in pytest's form, which CI adds up."""

from collections.abc import Iterable, Iterator, Sequence

from tests.conformance import report
from tests.conformance.report import Change, Outcome, Verdict

_WIDTH = 300


def failures(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Each failed test with the first line of its message."""
    for item in outcomes:
        if item.failed:
            yield f"FAILED {item.name} ({item.state}, {item.seconds:.0f} s)"
            yield f"       {item.first_line[:_WIDTH]}"


def change(before: str, found: Change) -> Iterator[str]:
    """What differs from the run `before`."""
    if not found.newly_failing and not found.newly_passing:
        yield f"as in the last kept run ({before})"
    yield from (f"newly failing, passed in {before}: {name}" for name in found.newly_failing)
    yield from (f"newly passing, failed in {before}: {name}" for name in found.newly_passing)


def verdict(found: Verdict, path: str) -> Iterator[str]:
    """What the list of tests that must pass says."""
    yield from (f"must pass and failed: {item.name}" for item in found.broken)
    yield from (f"must pass and did not run: {name}" for name in found.missing)
    yield from (f"failed and is not listed: {item.name}" for item in found.known)
    yield from (f"passes, to be added to {path}: {name}" for name in found.unlisted)


def closing(outcomes: Sequence[Outcome], judged: Verdict | None, seconds: float) -> tuple[str, int]:
    """The last line and the exit status. With a verdict only a listed test that did not pass is a failure."""
    passed, failed, skipped = report.count(outcomes)
    more = ""
    if judged is not None:
        failed = len(judged.broken) + len(judged.missing)
        more = f", {len(judged.known)} known not to pass" if judged.known else ""
    good = failed == 0 and passed > 0
    return f"== {passed} passed, {failed} failed, {skipped} skipped{more} in {seconds:.1f} s ==", 0 if good else 1


def whole(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Each failed test with all that ginkgo has of it."""
    for item in outcomes:
        if item.failed:
            yield f"#### {item.name}\n{item.message}\n----\n{item.output}\n"
