"""hostPath by its types."""

import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.volumes import NotReady

pytestmark = pytest.mark.container
Prepare = Callable[..., Any]


def source(path: Path | str, kind: str = "") -> dict[str, Any]:
    return {"hostPath": {"path": str(path), "type": kind}}


def test_no_type_checks_nothing(prepared: Prepare, tmp_path: Path) -> None:
    found = prepared(source(tmp_path / "none"))
    assert (found.path, found.read_only) == (str(tmp_path / "none"), False)
    assert not (tmp_path / "none").exists()


def test_a_folder_is_made_with_its_parents(prepared: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "a/b"
    prepared(source(path, "DirectoryOrCreate"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    prepared(source(path, "DirectoryOrCreate"))


def test_a_file_is_made_but_not_its_folder(prepared: Prepare, tmp_path: Path) -> None:
    prepared(source(tmp_path / "f", "FileOrCreate"))
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o644
    with pytest.raises(NotReady):
        prepared(source(tmp_path / "no/f", "FileOrCreate"))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("Directory", "directory"),
        ("File", "file"),
        ("Socket", "socket file"),
        ("CharDevice", "character device"),
        ("BlockDevice", "block device"),
    ],
)
def test_what_is_missing_fails_its_type(prepared: Prepare, tmp_path: Path, kind: str, word: str) -> None:
    with pytest.raises(NotReady, match=f"hostPath type check failed: {tmp_path}/x is not a {word}"):
        prepared(source(tmp_path / "x", kind))


def test_what_is_there_passes_its_type_and_fails_others(prepared: Prepare, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        prepared(source(tmp_path / "socket", "Socket"))
    prepared(source(tmp_path / "file", "File"))
    prepared(source("/dev/null", "CharDevice"))
    prepared(source(tmp_path, "Directory"))
    for path, kind in ((tmp_path / "file", "DirectoryOrCreate"), (tmp_path, "File"), (tmp_path, "BlockDevice")):
        with pytest.raises(NotReady, match="type check failed"):
            prepared(source(path, kind))


@pytest.mark.parametrize(("path", "kind"), [("relative", ""), ("/a/../b", ""), ("", ""), ("/tmp", "Odd")])
def test_bad_paths_and_types_are_refused(prepared: Prepare, path: str, kind: str) -> None:
    with pytest.raises(NotReady):
        prepared(source(path, kind))
