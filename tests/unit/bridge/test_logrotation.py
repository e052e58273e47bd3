"""Rotation of container logs, on real files."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from bridge.logrotation import PIECE, LogRotation, Tidying, tidying
from bridge.pb.runtime.v1 import api_pb2
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Unavailable
from vkcri.instance import Instance


class Writer:
    """A runtime with one container whose log it opens anew when told to, and a clock of a second a rotation."""

    made: ClassVar[list["Writer"]] = []

    def __init__(self, folder: Path, most_files: int = 5) -> None:
        self.made.append(self)
        self.path = folder / "0.log"
        self.file = self.path.open("ab")
        self.reopened = 0
        self.failing = False
        self.now = 1_800_000_000.0
        self.rotation = LogRotation(
            self,  # type: ignore[arg-type]
            lambda: [("c1", str(self.path)), ("c2", "")],
            most_bytes=100,
            most_files=most_files,
            now=lambda: self.now,
        )

    def reopen_container_log(self, request: api_pb2.ReopenContainerLogRequest) -> None:
        assert request.container_id == "c1"
        if self.failing:
            raise Unavailable("the runtime is away")
        self.file.close()
        self.file = self.path.open("ab")
        self.reopened += 1

    def write(self, text: bytes) -> None:
        self.file.write(text)
        self.file.flush()

    def look(self) -> None:
        self.now += 1
        self.rotation.look()

    def names(self) -> list[str]:
        return sorted(item.name.partition("0.log")[2].partition(".")[2][15:] for item in self.path.parent.iterdir())


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Writer.made:
        Writer.made.pop().file.close()


def test_small_log_is_left_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"x" * 99)
    writer.look()
    assert (writer.reopened, writer.names()) == (0, [""])
    writer.write(b"x")
    writer.look()
    assert (writer.reopened, writer.path.stat().st_size, len(writer.names())) == (1, 0, 2)


def test_newest_rotation_stays_readable_older_ones_are_packed_and_the_oldest_go(tmp_path: Path) -> None:
    writer = Writer(tmp_path, most_files=4)
    for number in range(6):
        writer.write(b"%d" % number * 100)
        writer.look()
    assert writer.names() == ["", "", ".gz", ".gz"]
    packed = sorted(tmp_path.glob("*.gz"))
    assert [gzip.decompress(item.read_bytes())[:1] for item in packed] == [b"3", b"4"]
    (plain,) = [item for item in tmp_path.iterdir() if item.name[-1].isdigit()]
    assert plain.read_bytes() == b"5" * 100


def test_log_comes_back_where_the_runtime_does_not_open_it_anew(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"x" * 100)
    writer.failing = True
    writer.look()
    assert writer.path.read_bytes() == b"x" * 100
    assert writer.names() == [""]
    writer.failing = False
    writer.look()
    assert len(writer.names()) == 2


def test_each_log_and_each_piece_that_is_packed_is_progress(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.write(b"x" * (3 * PIECE + 1))
    writer.look()
    writer.write(b"y" * 100)
    writer.now += 1
    told: list[None] = []
    writer.rotation.look(lambda: told.append(None))
    assert len(told) == 2 + 4


def test_file_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    writer.path.unlink()
    writer.look()
    assert (writer.reopened, writer.path.exists()) == (1, True)


@pytest.mark.parametrize(
    ("names", "most", "wanted"),
    [
        ([], 5, Tidying((), ())),
        (["l.1"], 5, Tidying((), ("l.1",))),
        (["l.1", "l.2.tmp"], 5, Tidying(("l.2.tmp",), ("l.1",))),
        (["l.1", "l.1.gz", "l.2"], 5, Tidying(("l.1",), ("l.2",))),
        (["l.1.gz", "l.2.gz", "l.3.gz", "l.4"], 5, Tidying(("l.1.gz",), ("l.4",))),
        (["l.1.gz", "l.2"], 2, Tidying(("l.1.gz", "l.2"), ())),
    ],
)
def test_what_becomes_of_rotated_files(names: list[str], most: int, wanted: Tidying) -> None:
    assert tidying(names, most) == wanted


def test_settings_are_the_kubelets_and_checked() -> None:
    assert RuntimeSettings(instance=Instance()).container_log_bytes == 10 * 1024 * 1024
    assert RuntimeSettings(container_log_max_size="-1").container_log_bytes < 0
    for wrong in ({"container_log_max_size": "much"}, {"container_log_max_files": 1}):
        with pytest.raises(ConfigError):
            RuntimeSettings(**wrong)  # type: ignore[arg-type]
