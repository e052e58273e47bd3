"""A test that meets its limit ends and is named, where CPython tells no line and where the first signal was lost."""

import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]
CONFTEST = """
from tests import limits
from tests.limits import pytest_runtest_makereport, pytest_timeout_set_timer

limits.AGAIN_SECONDS = 4.0
"""
TESTS = """
import time
import pytest

def without_lines(function):
    size = len(function.__code__.co_code) // 2
    pieces = [min(8, size - begun) for begun in range(0, size, 8)]
    table = bytes(0x80 | 15 << 3 | piece - 1 for piece in pieces)  # "no location", for so many code units
    function.__code__ = function.__code__.replace(co_linetable=table)
    return function

@without_lines
def lost():
    time.sleep(1000)

@pytest.mark.timeout(1.0, func_only=True)
def test_whose_line_is_lost():
    lost()

@pytest.mark.timeout(1.0, func_only=True)
def test_that_swallows_its_limit():
    try:
        time.sleep(1000)
    except BaseException:
        time.sleep(1000)

def test_that_comes_after():
    pass
"""


def test_a_limit_that_is_met_names_its_test_and_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path]
    kept = {key: value for key, value in os.environ.items() if key != "PYTEST_ADDOPTS"}  # this run's, as CI's
    environment = {**kept, "COLUMNS": "400"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    for name in ("test_whose_line_is_lost", "test_that_swallows_its_limit"):
        assert re.search(rf"FAILED .*test_it.py::{name} - Failed: Timeout", done.stdout), done.stdout
    assert "2 failed, 1 passed" in done.stdout
