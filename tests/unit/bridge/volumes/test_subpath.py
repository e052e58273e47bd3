"""The lines of a file in a volume that its containers may change at any moment."""

import os
from pathlib import Path

import pytest

from bridge.volumes import subpath
from vkcri.errors import Invalid, NotFound


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    found = tmp_path / "volume"
    (found / "d").mkdir(parents=True)
    (found / "d/a.env").write_bytes(b"A='1'\nB='2'")
    (tmp_path / "outside").write_bytes(b"A='secret'")
    return found


@pytest.mark.parametrize("path", ["d/a.env", "/d/a.env", "d/./a.env", "link", "absolute", "up"])
def test_a_file_is_read_by_whatever_way_leads_to_it_inside(volume: Path, path: str) -> None:
    (volume / "link").symlink_to("d/a.env")
    (volume / "absolute").symlink_to("/d/a.env")
    (volume / "up").symlink_to("../../d/a.env")
    assert list(subpath.lines(volume, path)) == [b"A='1'\n", b"B='2'"]


@pytest.mark.parametrize("path", ["../outside", "escape", "missing", "d/missing", "d/a.env/x"])
def test_what_lies_outside_is_not_there(volume: Path, path: str) -> None:
    (volume / "escape").symlink_to(volume.parent / "outside")
    with pytest.raises(NotFound):
        list(subpath.lines(volume, path))


def test_a_volume_that_is_gone_has_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list(subpath.lines(tmp_path / "gone", "a"))


def test_a_pipe_is_not_waited_for_and_a_folder_is_no_file(volume: Path) -> None:
    os.mkfifo(volume / "pipe")
    for path in ("pipe", "d"):
        with pytest.raises(Invalid, match="no regular file"):
            list(subpath.lines(volume, path))


def test_a_line_without_an_end_is_not_read_whole(volume: Path) -> None:
    (volume / "long").write_bytes(b"x" * 70000)
    with pytest.raises(Invalid, match="too long"):
        list(subpath.lines(volume, "long"))
