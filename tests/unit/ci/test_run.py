""".ci/run with a make of our own: what it adds up, what it calls a failure, what it leaves out and says so."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[3] / ".ci" / "run"
GOOD = 'case "$1" in programs | check) ;; *) echo "==== 3 passed, 1 warning in 1.23s ====" ;; esac'
ALL = [
    "programs",
    "test",
    "test RUNTIME=1.7 TESTS=tests/contract",
    "test RUNTIME=2 TESTS=tests/contract",
    "test-cluster",
    "test-conformance",
    "check",
    "test-guest",
]


class Ci:
    """A checkout with .ci/run alone, and a PATH that begins with our make and containerd."""

    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls"
        self._bin = folder / "bin"
        (folder / "checkout" / ".ci").mkdir(parents=True)
        self._run = Path(shutil.copy(CI, folder / "checkout" / ".ci" / "run"))
        self._bin.mkdir()
        self.containerd("1.6.20~ds1")

    def containerd(self, version: str) -> None:
        self.program("containerd", f"echo containerd github.com/containerd/containerd {version} {version}-1+deb")

    def run(self, make: str, **environment: str) -> tuple[int, list[str]]:
        """Exit status and output lines; `make` is the body of the make that is called, in sh."""
        self.program("make", f'echo "$*" >>{self.calls}\n{make}')
        environment = {**os.environ, "PATH": f"{self._bin}:{os.environ['PATH']}", **environment}
        done = subprocess.run(
            ["bash", str(self._run)], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout.splitlines()

    def program(self, name: str, body: str) -> None:
        (self._bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self._bin / name).chmod(0o755)


@pytest.fixture
def ci(tmp_path: Path) -> Ci:
    return Ci(tmp_path)


def test_what_is_built_comes_first_the_guest_last_and_the_last_line_is_the_sum(ci: Ci) -> None:
    status, lines = ci.run(GOOD)
    assert ci.calls.read_text().splitlines() == ALL
    assert lines[-1] == "19 passed, 0 failed, 0 skipped"
    assert status == 0


def test_each_stage_has_its_seconds_in_a_table_before_the_closing_line(ci: Ci) -> None:
    _, lines = ci.run(GOOD)
    table = lines[lines.index("== seconds ==") + 1 :]
    rows = [re.fullmatch(r" *\d+ s  (?:make )?(.*)", line) for line in table]
    assert [row[1] for row in rows if row] == [*ALL, "all"]


def test_failures_and_errors_of_every_stage_are_counted(ci: Ci) -> None:
    counts = 'echo "==== 2 failed, 3 passed, 1 error in 9s ===="; exit 1'
    status, lines = ci.run(f'if [ "$1" = test-cluster ]; then {counts}; fi; {GOOD}')
    assert lines[-1] == "19 passed, 3 failed, 0 skipped"
    assert status == 1


@pytest.mark.parametrize("verb", ["programs", "test-conformance", "check", "test-guest"])
def test_a_verb_that_fails_without_a_count_is_one_failure(ci: Ci, verb: str) -> None:
    status, lines = ci.run(f'[ "$1" != {verb} ] || exit 2; {GOOD}')
    assert lines[-1].endswith(" passed, 1 failed, 0 skipped")
    assert status == 1


def test_a_test_verb_that_succeeds_without_a_test_is_a_failure(ci: Ci) -> None:
    status, lines = ci.run(f'if [ "$1" = test-cluster ]; then exit 0; fi; {GOOD}')
    assert lines[-1] == "16 passed, 1 failed, 0 skipped"
    assert status == 1


def test_a_skipped_test_is_not_good(ci: Ci) -> None:
    status, lines = ci.run(f'if [ "$1" = test-cluster ]; then echo "= 3 passed, 2 skipped in 1s ="; exit; fi; {GOOD}')
    assert lines[-1] == "19 passed, 0 failed, 2 skipped"
    assert status == 1


def test_with_less_than_25_minutes_left_the_guest_is_left_out_and_that_is_said(ci: Ci) -> None:
    status, lines = ci.run(GOOD, SECONDS="3781")
    assert ci.calls.read_text().splitlines() == ALL[:-1]
    assert lines[-2].startswith("NOT RUN HERE FOR LACK OF TIME: make test-guest")
    assert lines[-1] == "16 passed, 0 failed, 0 skipped"
    assert status == 0


def test_a_stage_that_does_not_end_is_ended_before_all_of_ci_would_be(ci: Ci) -> None:
    ci.program("timeout", 'shift 3; echo "$*" >>"$LIMITS"; shift; [ "$2" != test-guest ] || exit 124; exec "$@"')
    limits = ci.calls.with_name("limits")
    status, lines = ci.run(GOOD, LIMITS=str(limits), SECONDS="3000")
    stages = [line.split(" ", 2) for line in limits.read_text().splitlines()]
    assert [words for _, make, words in stages if make == "make"] == ALL
    assert all(2000 < int(limit) <= 88 * 60 - 3000 for limit, *_ in stages)
    assert lines[-1] == "16 passed, 1 failed, 0 skipped"
    assert status == 1


def test_a_stage_for_which_no_time_is_left_still_has_a_limit(ci: Ci) -> None:
    ci.program("timeout", 'echo "$4" >>"$LIMITS"; exit 124')
    limits = ci.calls.with_name("limits")
    status, _ = ci.run(GOOD, LIMITS=str(limits), SECONDS="5400")
    assert set(limits.read_text().split()) == {"1"}  # 0 would be none
    assert status == 1


def test_what_is_built_is_tried_a_second_time(ci: Ci) -> None:
    status, lines = ci.run(f'[ "$1" != programs ] || [ "$(wc -l <{ci.calls})" != 1 ] || exit 2; {GOOD}')
    assert ci.calls.read_text().splitlines() == ["programs", *ALL]
    assert lines[-1] == "19 passed, 0 failed, 0 skipped"
    assert status == 0


@pytest.mark.parametrize(
    ("own", "others"), [("1.6.20~ds1", ["1.7", "2"]), ("1.7.24", ["1.6", "2"]), ("2.1.9", ["1.6", "1.7"])]
)
def test_every_runtime_but_the_guests_own_has_a_stage(ci: Ci, own: str, others: list[str]) -> None:
    ci.containerd(own)
    ci.run(GOOD)
    assert re.findall(r"RUNTIME=(\S+)", ci.calls.read_text()) == others


def test_what_one_stage_leaves_out_and_none_runs_is_a_failure(ci: Ci) -> None:
    note = 'file=${PYTEST_ADDOPTS#--selection=}; put() { printf "%s\\t%s\\t%s\\n" "$@" >>"$file"; }; '
    stages = 'case "$1" in test) put run a.py::one ""; put left a.py::two cluster; put left a.py::three cluster ;; '
    stages += 'test-cluster) put run a.py::two cluster; put left a.py::one ""; put left a.py::four x,rival ;; esac; '
    status, lines = ci.run(note + stages + GOOD)
    assert lines[lines.index("left out by one stage and run by none:") + 1 :][0] == "a.py::three"
    assert not [line for line in lines if line in ("a.py::one", "a.py::two", "a.py::four")]
    assert lines[-1] == "19 passed, 1 failed, 0 skipped"
    assert status == 1
