"""The cache: fetched once, renewed when the release has something newer, and serving where the release is away."""

import os
import time
from pathlib import Path

import pytest

from tests.runtimes import cached
from tests.runtimes.cached import ensure
from vkcri.errors import ConfigError, Unavailable


class Release:
    """In the place of apt: a release that has one version of containerd, whose program tells it."""

    version = "1.7.24~ds1-6"
    away = False
    asked = 0
    unpacked = 0

    def __init__(self, suite: str, folder: Path) -> None:
        assert suite == "trixie"
        folder.mkdir(exist_ok=True)

    def update(self) -> None:
        Release.asked += 1
        if Release.away:
            raise Unavailable("apt-get update: could not resolve the mirror")

    def candidate(self, package: str) -> str:
        assert package == "containerd"
        return Release.version

    def unpack(self, package: str, version: str, target: Path) -> None:
        Release.unpacked += 1
        folder = target / "usr/bin"
        folder.mkdir(parents=True)
        program = folder / package
        program.write_text(f"#!/bin/sh\necho containerd github.com/containerd/containerd {version.partition('~')[0]}\n")
        program.chmod(0o755)


@pytest.fixture(autouse=True)
def release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "Apt", Release)
    real = cached.program_version  # the guest's own is of none of the lines
    monkeypatch.setattr(cached, "program_version", lambda path: None if path == "containerd" else real(path))
    for name, value in {"version": "1.7.24~ds1-6", "away": False, "asked": 0, "unpacked": 0}.items():
        monkeypatch.setattr(Release, name, value)


@pytest.fixture
def said() -> list[str]:
    return []


def old(cache: Path) -> None:
    """The last look was two days ago."""
    moment = time.time() - 2 * 86400
    os.utime(cache / "apt-1.7" / "updated", (moment, moment))


def test_it_is_fetched_once_and_then_nobody_is_asked_for_a_day(tmp_path: Path, said: list[str]) -> None:
    first = ensure("1.7", tmp_path, said.append)
    assert first.folder == tmp_path / "1.7.24~ds1-6" / "usr" / "bin"
    assert ensure("1.7", tmp_path, said.append) == first
    assert (Release.asked, Release.unpacked) == (1, 1)
    assert [path.name for path in tmp_path.glob(".unfinished-*")] == []


def test_after_a_day_the_newest_serves_and_the_older_one_stays(tmp_path: Path, said: list[str]) -> None:
    before = ensure("1.7", tmp_path, said.append)
    old(tmp_path)
    Release.version = "1.7.30~ds1-1"
    after = ensure("1.7", tmp_path, said.append)
    assert after.folder == tmp_path / "1.7.30~ds1-1" / "usr" / "bin"
    assert before.folder is not None
    assert before.folder.exists()


def test_where_the_release_is_away_what_the_cache_has_serves_and_that_is_said(tmp_path: Path, said: list[str]) -> None:
    before = ensure("1.7", tmp_path, said.append)
    old(tmp_path)
    Release.away = True
    assert ensure("1.7", tmp_path, said.append) == before
    assert said[-1] == "apt-get update: could not resolve the mirror; 1.7.24~ds1-6 of the cache serves"


def test_with_an_empty_cache_a_release_that_is_away_is_an_error(tmp_path: Path, said: list[str]) -> None:
    Release.away = True
    with pytest.raises(Unavailable, match="could not resolve"):
        ensure("1.7", tmp_path, said.append)


def test_a_release_that_has_moved_to_another_line_is_an_error_and_leaves_nothing(
    tmp_path: Path, said: list[str]
) -> None:
    Release.version = "2.3.0~ds1-1"
    with pytest.raises(Unavailable, match=r"containerd of 2\.3\.0~ds1-1 is 2\.3, not 1\.7"):
        ensure("1.7", tmp_path, said.append)
    assert not (tmp_path / "2.3.0~ds1-1").exists()


def test_what_an_earlier_fetch_left_unchecked_is_checked_before_it_serves(tmp_path: Path, said: list[str]) -> None:
    Release.unpack(Release("trixie", tmp_path / "apt"), "containerd", "2.3.0", tmp_path / Release.version)
    with pytest.raises(Unavailable, match=r"is 2\.3, not 1\.7"):
        ensure("1.7", tmp_path, said.append)
    assert not (tmp_path / "1.7").exists()
    found = ensure("1.7", tmp_path, said.append).folder
    assert found is not None
    assert cached.program_version(found / "containerd") == (1, 7)


def test_one_that_only_does_not_answer_in_time_is_told_and_stays(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "_VERSION_SECONDS", 0.1)
    folder = tmp_path / Release.version / "usr/bin"
    folder.mkdir(parents=True)
    program = folder / "containerd"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(Unavailable, match=r"containerd --version: no answer within"):
        ensure("1.7", tmp_path, said.append)
    assert program.exists()


def test_a_library_that_the_packages_lack_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"have no libseccomp\.so\.2"):
        cached._first(tmp_path, "libseccomp.so.2")


def test_a_line_that_there_is_not_is_named(tmp_path: Path, said: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"RUNTIME=1\.8: there are 1\.6, 1\.7, 2"):
        ensure("1.8", tmp_path, said.append)


@pytest.mark.parametrize(
    ("line", "version", "is_so"),
    [("2", (2, 1), True), ("2", (1, 7), False), ("1.7", (1, 7), True), ("1.7", (1, 70), False)],
)
def test_a_version_is_of_a_line_by_its_leading_numbers(line: str, version: tuple[int, int], is_so: bool) -> None:
    assert cached.is_of(line, version) == is_so
