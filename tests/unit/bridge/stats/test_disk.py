"""What is taken of a file system, and the thread that counts volumes."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bridge.stats import disk
from bridge.stats.volumes import LIMITED_PERIOD, PERIOD, WALK_SECONDS, VolumeMeter


def test_folder_is_counted_as_du_counts_it(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "file").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "sub" / "file", tmp_path / "again")
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 1 << 30)
    (tmp_path / "away").symlink_to("/usr")
    found = disk.taken_by(tmp_path)
    size = subprocess.run(["du", "-s", "-B1", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    count = subprocess.run(["du", "-s", "--inodes", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert (found.bytes, found.inodes) == (int(size.split()[0]), int(count.split()[0]))


def test_only_files_right_in_a_folder_are_its_logs(tmp_path: Path) -> None:
    (tmp_path / "0.log").write_bytes(b"x" * 5000)
    (tmp_path / "0.log.20260101-000000.gz").write_bytes(b"y")
    (tmp_path / "container").mkdir()
    (tmp_path / "container" / "1.log").write_bytes(b"z" * 5000)
    found = disk.taken_by_files(tmp_path)
    blocks = sum(path.stat().st_blocks for path in tmp_path.iterdir() if path.is_file())
    assert (found.bytes, found.inodes) == (512 * blocks, 2)
    with pytest.raises(OSError):
        disk.taken_by_files(tmp_path / "absent")


def test_file_system_is_what_statvfs_says(tmp_path: Path) -> None:
    found, wanted = disk.filesystem(tmp_path), os.statvfs(tmp_path)
    assert (found.capacity, found.inodes) == (wanted.f_blocks * wanted.f_frsize, wanted.f_files)
    assert 0 < found.available <= found.capacity - found.used + found.capacity // 10


def test_folder_that_is_swapped_for_a_link_while_it_is_counted_is_left_out(tmp_path: Path) -> None:
    other, volume = tmp_path / "other", tmp_path / "volume"
    for folder in (other, volume / "folder"):
        folder.mkdir(parents=True)
    for number in range(5):
        (other / str(number)).write_bytes(b"x" * 9000)

    def swap() -> None:
        if (volume / "folder").is_dir() and not (volume / "folder").is_symlink():
            (volume / "folder").rmdir()
            (volume / "folder").symlink_to(other)

    assert disk.taken_by(volume, swap).inodes == 2


def test_folder_of_a_link_on_its_way_is_left_out_too(tmp_path: Path) -> None:
    other, volume = tmp_path / "other", tmp_path / "volume"
    for folder in (other / "deep", volume / "folder" / "deep"):
        folder.mkdir(parents=True)
    (other / "deep" / "file").write_bytes(b"x" * 9000)
    seen: list[None] = []

    def swap() -> None:
        seen.append(None)
        if len(seen) == 2:  # the folder was read, and what lies below it was not
            (volume / "folder").rename(tmp_path / "away")
            (volume / "folder").symlink_to(other)

    assert disk.taken_by(volume, swap).inodes == 3


class Meter:
    """A VolumeMeter of pods whose volumes are folders of a test, with a clock that stands, or moves by `step` whenever
    it is read."""

    def __init__(self, root: Path) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.now = 1000.0
        self.step = 0.0
        self.root = root
        self.limited: set[str] = set()
        self.meter = VolumeMeter(
            lambda: self.pods.values(),
            self.measurable,
            self.clock,
            limited=lambda pod: pod["metadata"]["uid"] in self.limited,
        )

    def clock(self) -> float:
        self.now += self.step
        return self.now

    def add(self, uid: str, *volumes: str) -> None:
        spec = {"volumes": [{"name": name, "emptyDir": {}} for name in volumes]}
        self.pods[uid] = {"metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": spec}

    def measurable(self, pod: Any) -> list[tuple[str, Path, bool]]:
        folders = [(item["name"], self.root / pod["metadata"]["uid"] / item["name"]) for item in pod["spec"]["volumes"]]
        return [(name, path, True) for name, path in folders if path.is_dir()]

    def round(self) -> list[str]:
        """The pods that were counted."""
        due = self.meter.due()
        for pod in due:
            self.meter.measure(pod)
        return [pod["metadata"]["uid"] for pod in due]


def test_volumes_are_counted_every_minute_or_two_and_forgotten_with_their_pod(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    meter.add("a", "one", "two")
    for name in ("one", "two"):
        (tmp_path / "a" / name).mkdir(parents=True)
    assert meter.meter.latest("a") == ()
    assert meter.round() == ["a"]
    assert [item.name for item in meter.meter.latest("a")] == ["one", "two"]
    (tmp_path / "a" / "one" / "file").write_bytes(b"x" * 9000)
    meter.now += PERIOD - 1
    assert meter.round() == []
    meter.now += PERIOD + 2
    before = meter.meter.latest("a")[0].taken
    assert meter.round() == ["a"]
    after = meter.meter.latest("a")[0].taken
    assert (after.inodes, after.bytes > before.bytes) == (before.inodes + 1, True)
    meter.pods.clear()
    assert meter.round() == []
    assert meter.meter.latest("a") == ()


def test_volumes_of_a_pod_with_a_limit_are_counted_every_ten_seconds(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    for uid in ("limited", "free"):
        meter.add(uid, "data")
        (tmp_path / uid / "data").mkdir(parents=True)
    meter.limited.add("limited")
    assert meter.round() == ["limited", "free"]
    meter.now += LIMITED_PERIOD - 1
    assert meter.round() == []
    meter.now += 1
    assert meter.round() == ["limited"]


def test_volumes_that_are_being_set_up_are_looked_at_again_at_once(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    meter.add("late", "data")
    meter.add("without")
    assert sorted(meter.round()) == ["late", "without"]
    (tmp_path / "late" / "data").mkdir(parents=True)
    assert meter.round() == ["late"]
    assert [item.name for item in meter.meter.latest("late")] == ["data"]


def test_volume_with_more_files_than_a_pods_time_is_enough_for_has_no_numbers_and_rests(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    meter.add("full", "small", "data")
    for name, files in (("small", 1), ("data", 20)):
        (tmp_path / "full" / name).mkdir(parents=True)
        for number in range(files):
            (tmp_path / "full" / name / str(number)).touch()
    meter.step = WALK_SECONDS / 10
    began = meter.now
    assert meter.round() == ["full"]
    took, meter.step = meter.now - began, 0.0
    assert WALK_SECONDS < took < 2 * WALK_SECONDS
    assert [item.name for item in meter.meter.latest("full")] == ["small"]
    meter.now += 4 * WALK_SECONDS
    assert meter.round() == []
    meter.now += 2 * WALK_SECONDS
    assert meter.round() == ["full"]
    assert [item.name for item in meter.meter.latest("full")] == ["small", "data"]


def test_pod_whose_volumes_have_no_numbers_is_not_looked_at_all_the_time(tmp_path: Path) -> None:
    meter = Meter(tmp_path)
    meter.add("host", "path")
    meter.pods["host"]["status"] = {"phase": "Pending"}
    assert meter.round() == meter.round() == ["host"]
    meter.pods["host"]["status"] = {"phase": "Running"}
    assert meter.round() == ["host"]
    assert meter.round() == []
