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
    dropped = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "CI")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    if exported:
        environment["CI"] = exported
    shown = subprocess.run(
        ["make", "-n", "conformance", *said], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    ).stdout
    (line,) = [line for line in shown.splitlines() if "-m tests.conformance" in line]
    assert ("--ci" in line.split()) == judges
