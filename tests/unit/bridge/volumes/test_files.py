"""A container's own files: hosts, termination message, subPaths that stay inside their volume."""

import dataclasses
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bridge.spec import ContainerFiles, PodContext
from bridge.volumes import Volumes, mounting
from tests.unit.bridge.spec.make import context
from tests.unit.bridge.volumes.make import World
from vkcri.errors import Invalid

pytestmark = [pytest.mark.container, pytest.mark.skipif(os.geteuid() != 0, reason="mounts")]


def made(
    world: World, volumes: Volumes, mount: dict[str, Any] | None = None, attempt: int = 0, **fields: Any
) -> ContainerFiles:
    """The files of a container that mounts the emptyDir `v` (and the configMap `cm`) with that mount's fields."""
    mounts = [{"name": "v", "mountPath": "/v", **mount}] if mount else []
    container = {"name": "app", "volumeMounts": mounts}
    world.config_map("cm", {"key": "value"})
    pod = world.pod({"name": "v", "emptyDir": {}}, {"name": "cm", "configMap": {"name": "cm"}}, containers=[container])
    ctx = dataclasses.replace(_context(volumes, pod), **fields)
    return volumes.container_files(pod, container, ctx, attempt)


def _context(volumes: Volumes, pod: dict[str, Any]) -> PodContext:
    return dataclasses.replace(context(), volumes=volumes.prepare(pod))


def volume(world: World) -> Path:
    return world.settings.instance.volumes_dir / "uid-1/kubernetes.io~empty-dir/v"


def test_the_hosts_file_is_rewritten_in_place(world: World, volumes: Volumes) -> None:
    path = Path(made(world, volumes).hosts)
    assert "10.244.0.7\tweb\n" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    inode = path.stat().st_ino
    made(world, volumes, pod_ips=("10.0.0.1",))
    assert (path.stat().st_ino, "10.0.0.1\tweb\n" in path.read_text()) == (inode, True)
    assert "10.244.0.7" not in path.read_text()


def test_each_attempt_has_a_message_file_of_its_own_that_anybody_may_write(world: World, volumes: Volumes) -> None:
    first = Path(made(world, volumes).termination)
    first.write_text("old")
    second = Path(made(world, volumes, attempt=1).termination)
    assert (first.read_text(), second.read_text()) == ("old", "")
    assert stat.S_IMODE(second.stat().st_mode) == 0o666
    assert second == volumes.termination_file("uid-1", "app", 1)
    made(world, volumes, attempt=5)
    assert not first.exists()


def test_a_message_file_is_empty_when_the_same_attempt_is_made_again(world: World, volumes: Volumes) -> None:
    Path(made(world, volumes).termination).write_text("left over")
    assert Path(made(world, volumes).termination).read_text() == ""


def test_a_missing_sub_path_is_made_with_the_volumes_mode(world: World, volumes: Volumes) -> None:
    (bound,) = made(world, volumes, {"subPath": "a/b"}).subpaths.values()
    assert stat.S_IMODE((volume(world) / "a/b").stat().st_mode) == 0o777
    (volume(world) / "a/b/file").write_text("x")
    assert (Path(bound) / "file").read_text() == "x"
    assert mounting.mounts_below(Path(bound)) == [bound]


def test_a_sub_path_may_be_a_file_reached_by_links_inside(world: World, volumes: Volumes) -> None:
    files = made(world, volumes, {"name": "cm", "subPath": "key"})
    assert Path(files.subpaths[0]).read_text() == "value"


def test_a_restart_binds_the_sub_path_anew(world: World, volumes: Volumes) -> None:
    (bound,) = made(world, volumes, {"subPath": "d"}).subpaths.values()
    (volume(world) / "d").rename(volume(world) / "old")
    (volume(world) / "d").mkdir()
    (volume(world) / "d/new").touch()
    made(world, volumes, {"subPath": "d"}, attempt=1)
    assert os.listdir(bound) == ["new"]
    assert len(mounting.mounts_below(Path(bound))) == 1


@pytest.mark.parametrize("target", ["/etc", "../../../../../../../etc", "/"])
def test_a_link_out_of_the_volume_is_refused_and_its_target_not_named(
    world: World, volumes: Volumes, target: str
) -> None:
    made(world, volumes)
    (volume(world) / "evil").symlink_to(target)
    for path in ("evil", "evil/passwd", "evil/new/folder"):
        with pytest.raises(Invalid) as caught:
            made(world, volumes, {"subPath": path})
        assert str(caught.value) == 'failed to prepare subPath for volumeMount "v" of container "app"'
    assert not Path("/etc/new").exists()


def test_a_link_in_the_middle_cannot_make_folders_outside(world: World, volumes: Volumes, tmp_path: Path) -> None:
    made(world, volumes)
    (volume(world) / "out").symlink_to(tmp_path)
    with pytest.raises(Invalid):
        made(world, volumes, {"subPath": "out/made/here"})
    assert list(tmp_path.iterdir()) == []


def test_a_link_inside_the_volume_is_followed(world: World, volumes: Volumes) -> None:
    made(world, volumes)
    (volume(world) / "real").mkdir()
    (volume(world) / "real/f").write_text("here")
    (volume(world) / "link").symlink_to("real")
    files = made(world, volumes, {"subPath": "link"})
    assert (Path(files.subpaths[0]) / "f").read_text() == "here"


def test_a_sub_path_may_change_from_file_to_folder(world: World, volumes: Volumes) -> None:
    made(world, volumes)
    (volume(world) / "x").write_text("file")
    assert Path(made(world, volumes, {"subPath": "x"}).subpaths[0]).is_file()
    (volume(world) / "x").unlink()
    (volume(world) / "x").mkdir()
    assert Path(made(world, volumes, {"subPath": "x"}).subpaths[0]).is_dir()


def test_a_sub_path_of_an_unknown_volume_is_refused(world: World, volumes: Volumes) -> None:
    with pytest.raises(Invalid, match='cannot find volume "none"'):
        made(world, volumes, {"name": "none", "subPath": "x"})


def test_tear_down_takes_bound_sub_paths_away_and_keeps_their_content(
    world: World, volumes: Volumes, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/keep").write_text("x")
    container = {"name": "app", "volumeMounts": [{"name": "h", "mountPath": "/h", "subPath": "sub"}]}
    pod = world.pod({"name": "h", "hostPath": {"path": str(tmp_path)}}, containers=[container])
    volumes.container_files(pod, container, _context(volumes, pod), 0)
    volumes.teardown("uid-1")
    assert (tmp_path / "sub/keep").read_text() == "x"
    assert mounting.mounts_below(world.settings.instance.volumes_dir) == []


def test_a_key_that_appears_after_its_sub_path_was_bound_as_a_folder_is_still_projected(
    world: World, volumes: Volumes
) -> None:
    made(world, volumes, {"name": "cm", "subPath": "late"})
    volume_path = world.settings.instance.volumes_dir / "uid-1/kubernetes.io~configmap/cm"
    assert (volume_path / "late").is_dir()
    world.config_map("cm", {"key": "value", "late": "now"})
    pod = world.pod({"name": "cm", "configMap": {"name": "cm"}})
    volumes.refresh(pod)
    assert (volume_path / "late").read_text() == "now"
