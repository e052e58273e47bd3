"""A pod's folder goes, whatever its containers have made of it."""

import os
from pathlib import Path

import pytest

from bridge.volumes.removal import remove_tree


def test_all_of_it_goes_and_nothing_else(tmp_path: Path) -> None:
    folder, outside = tmp_path / "volume", tmp_path / "outside"
    for made in (folder / "a" / "b" / "c", folder / "a" / "b2", folder / ".to-be-removed-0" / "x", outside):
        made.mkdir(parents=True)
    for file in (folder / "file", folder / "a" / "b" / "file", folder / ".to-be-removed-1", outside / "kept"):
        file.write_text("x")
    (folder / "a" / "b" / "away").symlink_to(outside)
    (folder / "away").symlink_to(outside)
    os.mkfifo(folder / "a" / "pipe")
    gone: list[None] = []
    remove_tree(folder, lambda: gone.append(None))
    assert not folder.exists()
    assert [item.name for item in outside.iterdir()] == ["kept"]
    assert len(gone) >= 11


def test_a_folder_deeper_than_any_path_or_recursion_goes(tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    inner = os.open(folder, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("a-folder-in-a-folder", dir_fd=inner)
        outer, inner = inner, os.open("a-folder-in-a-folder", os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    remove_tree(folder, lambda: None)
    assert not folder.exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with pytest.raises(OSError):
        remove_tree(tmp_path / "link", lambda: None)
    assert (tmp_path / "other" / "kept").exists()
    with pytest.raises(FileNotFoundError):
        remove_tree(tmp_path / "absent", lambda: None)
