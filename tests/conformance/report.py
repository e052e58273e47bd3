"""What a run of the end-to-end tests says, and what that means beside an earlier one. Pure.

The source is ginkgo's own JSON report, which names every test of the binary, those that the selection left out too:
these are skipped without a reason and are no outcome here.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PASSED, SKIPPED = "passed", "skipped"
_WAITED = re.compile(r"(Timed out|Told to stop trying) after [0-9.]+s\.$")


@dataclass(frozen=True)
class Outcome:
    """One test of the selection. `state`: passed, skipped (by itself, with a reason), or ginkgo's word for a failure
    (failed, panicked, timedout, interrupted, aborted). `message`: ginkgo's whole text; `seconds`: how long it ran."""

    name: str
    state: str
    seconds: float = 0.0
    message: str = ""
    output: str = ""

    @property
    def failed(self) -> bool:
        return self.state not in (PASSED, SKIPPED)

    @property
    def first_line(self) -> str:
        """The first line of the message; with the next one where it says only how long was waited."""
        lines = [line.strip() for line in self.message.splitlines() if line.strip()] or [self.state]
        return " ".join(lines[: 2 if _WAITED.match(lines[0]) else 1])


@dataclass(frozen=True)
class Change:
    """Names of tests whose end differs from an earlier run's; tests that one of the two does not have do not count."""

    newly_failing: Sequence[str]
    newly_passing: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """What the kept list of tests that pass says about a run. `broken`: listed and failed; `missing`: listed and not
    run; `known`: failed and not listed; `unlisted`: passed and not listed, to be added."""

    broken: Sequence[Outcome]
    missing: Sequence[str]
    known: Sequence[Outcome]
    unlisted: Sequence[str]


def parse(text: str) -> list[Outcome]:
    """The outcomes of a JSON report, in the order of the tests' names; a part of the suite that failed before or after
    the tests is one by its kind's name. Raises ValueError for what is no such report."""
    found = [_outcome(spec) for suite in json.loads(text) for spec in suite.get("SpecReports") or ()]
    return sorted((item for item in found if item is not None), key=lambda item: item.name)


def compare(before: Iterable[Outcome], after: Iterable[Outcome]) -> Change:
    """What changed between two runs of one selection."""
    earlier = {item.name: item for item in before}
    both = [(earlier[item.name], item) for item in after if item.name in earlier]
    return Change(
        [new.name for old, new in both if new.failed and not old.failed],
        [new.name for old, new in both if new.state == PASSED and old.failed],
    )


def judge(outcomes: Sequence[Outcome], listed: Collection[str]) -> Verdict:
    """A run beside the list of tests that must pass."""
    ended = {item.name for item in outcomes if item.state == PASSED or item.failed}
    return Verdict(
        broken=[item for item in outcomes if item.failed and item.name in listed],
        missing=sorted(set(listed) - ended),
        known=[item for item in outcomes if item.failed and item.name not in listed],
        unlisted=[item.name for item in outcomes if item.state == PASSED and item.name not in listed],
    )


def count(outcomes: Iterable[Outcome]) -> tuple[int, int, int]:
    """How many passed, failed and skipped themselves."""
    states = [SKIPPED if item.state == SKIPPED else PASSED if item.state == PASSED else "failed" for item in outcomes]
    return states.count(PASSED), states.count("failed"), states.count(SKIPPED)


def listed_names(text: str, focus: str = "") -> list[str]:
    """The tests of a list whose names the regular expression finds: a name a line, without empty lines and those that
    begin with #."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#") and re.search(focus, line)]


def _outcome(spec: Mapping[str, Any]) -> Outcome | None:
    """One of the report's entries; None for what the selection left out and for set-up and tear-down that went well."""
    failure = spec.get("Failure") or {}
    state, message = str(spec.get("State", "")), str(failure.get("Message", ""))
    test = spec.get("LeafNodeType") == "It"
    if (state == SKIPPED and not message) or state == "pending" or (not test and state in (PASSED, SKIPPED)):
        return None
    words = [*(spec.get("ContainerHierarchyTexts") or ()), spec.get("LeafNodeText") or spec.get("LeafNodeType", "")]
    output = "\n".join(str(spec.get(key) or "") for key in ("CapturedGinkgoWriterOutput", "CapturedStdOutErr"))
    return Outcome(" ".join(words), state, spec.get("RunTime", 0) / 1e9, message, output.strip())
