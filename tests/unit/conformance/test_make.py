"""Who judges by the kept list: a person who says so to make, not an environment that has a variable CI."""

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("said", "exported", "judges"),
    [(["CI=1"], "", True), ([], "true", False), ([], "1", False), (["CI=0"], "1", False), ([], "", False)],
)
def test_only_ci_given_to_make_judges_by_the_kept_list(said: list[str], exported: str, judges: bool) -> None:
    line = would_run(["conformance", *said], **({"CI": exported} if exported else {}))
    assert ("--ci" in line.split()) == judges


@pytest.mark.parametrize(
    ("target", "given"),
    [("conformance", "tests.conformance --list=x.txt"), ("test-conformance", "tests.conformance.own x.txt")],
)
def test_only_a_list_given_to_make_is_run(target: str, given: str) -> None:
    assert given in " ".join(would_run([target, "LIST=x.txt"]).split())
    assert "x.txt" not in would_run([target], LIST="x.txt")


def would_run(words: list[str], **exported: str) -> str:
    """The line by which make would run the tests."""
    dropped = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CI", "LIST")
    environment = {key: value for key, value in os.environ.items() if key not in dropped} | exported
    shown = subprocess.run(
        ["make", "-n", *words], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    ).stdout
    (line,) = [line for line in shown.splitlines() if "-m tests.conformance" in line]
    return line
