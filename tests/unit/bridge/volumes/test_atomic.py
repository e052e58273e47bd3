"""The atomic writer: whole sets only, safe paths, repair after a crash."""

import os
import stat
from pathlib import Path

import pytest

from bridge.volumes import atomic
from bridge.volumes.atomic import File
from vkcri.errors import Invalid


def shown(folder: Path) -> dict[str, bytes]:
    """What a container sees: every file below a name that is not ours."""
    found = {}
    for entry in folder.iterdir():
        if not entry.name.startswith(".."):
            paths = [entry] if entry.is_file() else [path for path in entry.rglob("*") if path.is_file()]
            found.update({str(path.relative_to(folder)): path.read_bytes() for path in paths})
    return found


def files(**data: str) -> dict[str, File]:
    return {name.replace("__", "/"): File(text.encode()) for name, text in data.items()}


def test_files_are_shown_through_one_link(tmp_path: Path) -> None:
    assert atomic.write(tmp_path, files(a="1", d__e__f="2"))
    assert shown(tmp_path) == {"a": b"1", "d/e/f": b"2"}
    assert os.readlink(tmp_path / "a") == "..data/a"
    assert os.readlink(tmp_path / "d") == "..data/d"
    assert os.readlink(tmp_path / "..data").startswith("..2")


def test_nothing_is_touched_when_nothing_changed(tmp_path: Path) -> None:
    atomic.write(tmp_path, files(a="1"))
    before = os.readlink(tmp_path / "..data")
    assert not atomic.write(tmp_path, files(a="1"))
    assert os.readlink(tmp_path / "..data") == before


def test_a_change_swaps_the_whole_folder_and_leaves_one_set(tmp_path: Path) -> None:
    atomic.write(tmp_path, files(a="1", b="1", d__x="1"))
    old = (tmp_path / "a").open("rb")
    assert atomic.write(tmp_path, files(a="2", c="2"))
    assert shown(tmp_path) == {"a": b"2", "c": b"2"}
    assert not (tmp_path / "b").is_symlink()
    assert len([name for name in os.listdir(tmp_path) if name.startswith("..2")]) == 1
    with old:
        assert old.read() == b"1"  # a reader that had the old set open keeps it


def test_the_swap_is_one_rename_so_that_no_mixture_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies right before the rename: the old set is whole. The next write shows the new one."""
    atomic.write(tmp_path, files(a="1", b="1"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_replace_link", die)
        with pytest.raises(KeyboardInterrupt):
            atomic.write(tmp_path, files(a="2", b="2"))
    assert shown(tmp_path) == {"a": b"1", "b": b"1"}
    atomic.write(tmp_path, files(a="2", b="2"))
    assert shown(tmp_path) == {"a": b"2", "b": b"2"}
    assert len([name for name in os.listdir(tmp_path) if name.startswith("..2")]) == 1


def test_a_crash_between_swap_and_links_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write(tmp_path, files(a="1", b="1"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_link_names", die)
        with pytest.raises(KeyboardInterrupt):
            atomic.write(tmp_path, files(a="2", c="2"))
    assert not atomic.write(tmp_path, files(a="2", c="2"))
    assert shown(tmp_path) == {"a": b"2", "c": b"2"}


def test_an_empty_payload_is_an_empty_folder(tmp_path: Path) -> None:
    atomic.write(tmp_path, files(a="1"))
    assert atomic.write(tmp_path, {})
    assert shown(tmp_path) == {}
    assert (tmp_path / "..data").is_dir()


def test_modes_are_exact_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        atomic.write(tmp_path, {"a": File(b"", 0o644), "b": File(b"", 0o400), "d/c": File(b"", 0o777)})
    finally:
        os.umask(old)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "b", "d/c", "d", "..data")}
    assert modes == {"a": 0o644, "b": 0o400, "d/c": 0o777, "d": 0o755, "..data": 0o755}


def test_a_changed_mode_alone_is_a_change(tmp_path: Path) -> None:
    atomic.write(tmp_path, {"a": File(b"x", 0o644)})
    assert atomic.write(tmp_path, {"a": File(b"x", 0o600)})
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="changes owners")
def test_a_group_owns_and_may_read_everything(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    atomic.write(tmp_path, {"d/a": File(b"", 0o400), "b": File(b"", 0o600, user=1000)}, group=4321)
    root, folder = tmp_path.stat(), (tmp_path / "d").stat()
    assert (root.st_gid, stat.S_IMODE(root.st_mode)) == (4321, 0o2777)
    assert (folder.st_gid, stat.S_IMODE(folder.st_mode)) == (4321, 0o2755)
    first, second = (tmp_path / "d/a").stat(), (tmp_path / "b").stat()
    assert (first.st_uid, first.st_gid, stat.S_IMODE(first.st_mode)) == (0, 4321, 0o440)
    assert (second.st_uid, second.st_gid, stat.S_IMODE(second.st_mode)) == (1000, 4321, 0o640)
    assert not atomic.write(tmp_path, {"d/a": File(b"", 0o400), "b": File(b"", 0o600, user=1000)}, group=4321)


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "..", "../x", "a/../b", "..data", "..x", ".", "a/..", "x" * 5000, "a\0b"]
)
def test_paths_that_lead_elsewhere_are_refused_before_anything_is_written(tmp_path: Path, path: str) -> None:
    with pytest.raises(Invalid, match="invalid path"):
        atomic.write(tmp_path, {"good": File(b""), path: File(b"")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a", ".hidden", "a..b", "a/b.."])
def test_paths_that_only_look_odd_are_fine(tmp_path: Path, path: str) -> None:
    atomic.write(tmp_path, {path: File(b"1")})
    assert shown(tmp_path) == {path: b"1"}
