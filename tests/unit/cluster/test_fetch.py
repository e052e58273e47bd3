"""Debian's programs of other ages: make fetches them before pytest begins, and what a test does not find it is told."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cluster import debian, kubectls
from tests.cluster.__main__ import main
from vkcri.errors import Unavailable

PROJECT = Path(__file__).resolve().parents[3]
NAME = "kubectl-1.32"


class FakeApt:
    """An apt of one suite whose mirror has one version of everything, or does not answer."""

    answers = True
    asked = 0

    def __init__(self, suite: str, folder: Path) -> None:
        self.suite, self.folder = suite, folder

    def update(self) -> None:
        FakeApt.asked += 1
        if not self.answers:
            raise Unavailable(f"{self.suite}: no mirror")

    def candidate(self, package: str) -> str:
        return f"1:{package}-1.0"

    def unpack(self, package: str, version: str, target: Path) -> None:
        program = target / next(item.path for item in debian.PROGRAMS.values() if item.package == package)
        program.parent.mkdir(parents=True)
        program.write_text(version)


@pytest.fixture(autouse=True)
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeApt]:
    """Its class; the cache is a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(debian, "Apt", FakeApt)
    monkeypatch.setattr(FakeApt, "asked", 0)
    monkeypatch.setattr(FakeApt, "answers", True)
    return FakeApt


def fetch(*words: str) -> None:
    main.main(["fetch", *words], standalone_mode=False)


def test_a_program_is_fetched_once_and_said(apt: type[FakeApt], capsys: pytest.CaptureFixture[str]) -> None:
    fetch(NAME)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"cluster: fetching {NAME}: kubectl of Debian, ")
    assert said[1].startswith(f"cluster: fetched {NAME}: 1:kubectl-1.0, ")
    assert said[2:] == [str(debian.found(NAME))]
    assert debian.found(NAME).read_text() == "1:kubectl-1.0"
    fetch(NAME)
    assert capsys.readouterr().out.splitlines() == said[2:]
    assert apt.asked == 1


def test_a_test_finds_what_is_there_and_is_told_what_to_type_for_what_is_not(apt: type[FakeApt]) -> None:
    with pytest.raises(Unavailable, match=rf"^{NAME} is not here: \S+python -m tests\.cluster fetch {NAME}$"):
        kubectls.found("1.32")
    with pytest.raises(Unavailable, match=r"make programs$"):
        kubectls.found("1.37")
    assert apt.asked == 0
    fetch(NAME)
    assert kubectls.found("1.32") == debian.found(NAME)


def test_without_a_network_a_fetch_fails_or_says_what_cannot_run(
    apt: type[FakeApt], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(apt, "answers", False)
    with pytest.raises(Unavailable, match=r"^trixie: no mirror$"):
        fetch(NAME)
    capsys.readouterr()
    fetch("--try", NAME, "kubectl-1.20")
    told = [line for line in capsys.readouterr().out.splitlines() if "could not be fetched" in line]
    assert [line.split()[1] for line in told] == [NAME, "kubectl-1.20"]
    assert all(line.endswith(": no mirror") for line in told)


@pytest.mark.parametrize(
    ("said", "fetches"),
    [
        ((), True),
        (("TESTS=tests/flow/test_streams.py",), True),
        (("RUNTIME=2",), True),
        (("TESTS=tests/unit tests/contract",), False),
    ],
)
def test_make_test_fetches_what_the_flow_tests_want_before_pytest(said: tuple[str, ...], fetches: bool) -> None:
    dropped = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "TESTS", "RUNTIME")
    environment = {key: value for key, value in os.environ.items() if key not in dropped}
    shown = subprocess.run(
        ["make", "-n", "test", *said], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    ).stdout.splitlines()
    pytests = [number for number, line in enumerate(shown) if "/pytest -n" in line]
    fetching = [number for number, line in enumerate(shown) if "-m tests.cluster fetch --try kubectl-1.20" in line]
    assert len(pytests) == 1
    assert bool(fetching) == fetches
    assert all(number < pytests[0] for number in fetching)
