"""Following real files that grow, rotate, vanish and end."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.unit.vkcri.kubelet.test_logs import record
from tests.waiting import PATIENCE, until
from vkcri.kubelet import follow as follow_module
from vkcri.kubelet.follow import FolderWatches, Hint, follow
from vkcri.kubelet.logs import Options


class Container:
    """What the runtime does to a log file, and whether the container runs."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "0.log"
        self.path.touch()
        self._file = self.old = self.path.open("ab", buffering=0)
        self.running = True
        self.rotations = 0

    def say(self, text: bytes, *, partial: bool = False) -> None:
        self._file.write(record(0, text, partial=partial))

    def rename(self) -> None:
        """Rotation's first half: what is written now still goes to the old file."""
        self.rotations += 1
        self.path.rename(self.path.with_name(f"0.log.20261123-1000{self.rotations:02d}"))

    def reopen(self) -> None:
        self._file.close()
        self._file = self.path.open("ab", buffering=0)

    def reopen_at_leisure(self) -> BinaryIO:
        """As containerd does: the new file is there, what it had read from the container goes to the old one yet."""
        self.old, self._file = self._file, self.path.open("ab", buffering=0)
        return self.old

    def end(self) -> None:
        self.running = False
        self._file.close()


class Follower:
    """A follower on its own thread."""

    def __init__(self, watches: FolderWatches, container: Container, options: Options) -> None:
        self.text = b""
        self.ended = threading.Event()
        self.stopped = False
        self.taken = 0  # blocks, of which the last is in `text` once it is this reader's turn
        self._turn = threading.Lock()
        self._held = False
        self._arguments = (watches, container, options)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        watches, container, options = self._arguments
        with watches.hints(container.path.parent) as hint:
            blocks = follow(container.path, options, hint, running=lambda: container.running, stop=lambda: self.stopped)
            with contextlib.closing(blocks):
                for block in blocks:
                    self.taken += 1
                    with self._turn:
                        self.text += block
        self.ended.set()

    def has(self, text: bytes) -> None:
        until(lambda: self.text == text)

    def hold(self) -> None:
        """Stop at the next block, with that in hand."""
        self._turn.acquire()
        self._held = True

    def go_on(self) -> None:
        if self._held:
            self._held = False
            self._turn.release()

    def stop(self) -> None:
        self.stopped = True
        self.go_on()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    made = Container(tmp_path)
    yield made
    made.end()
    made.old.close()


@pytest.fixture
def watches() -> Iterator[FolderWatches]:
    made = FolderWatches()
    yield made
    made.close()


@pytest.fixture
def start(watches: FolderWatches, container: Container) -> Iterator[Callable[..., Follower]]:
    followers: list[Follower] = []

    def make(**options: object) -> Follower:
        followers.append(Follower(watches, container, Options(follow=True, **options)))  # type: ignore[arg-type]
        return followers[-1]

    yield make
    for follower in followers:
        follower.stop()


def test_lines_arrive_as_they_are_written(container: Container, start: Callable[..., Follower]) -> None:
    container.say(b"before")
    follower = start()
    follower.has(b"before\n")
    container.say(b"part ", partial=True)
    follower.has(b"before\npart ")
    container.say(b"whole")
    follower.has(b"before\npart whole\n")


def test_hint_brings_a_line_long_before_the_next_look(
    container: Container, start: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    container.say(b"00")
    monkeypatch.setattr(follow_module, "LOOK_SECONDS", 1000.0)  # no look without a hint
    follower = start()
    follower.has(b"00\n")
    for number in range(1, 20):
        container.say(b"%02d" % number)
        until(lambda: len(follower.text) == 3 * (number + 1))  # noqa: B023
    follower.stopped = True
    container.say(b"wakes it for its end")


def test_ends_once_the_container_ended_and_all_is_read(container: Container, start: Callable[..., Follower]) -> None:
    follower = start()
    for number in range(1000):
        container.say(b"%d" % number)
    container.say(b"no newline", partial=True)
    container.end()
    assert follower.ended.wait(PATIENCE)
    assert follower.text == b"".join(b"%d\n" % number for number in range(1000)) + b"no newline"


def test_rotation_loses_and_repeats_nothing(container: Container, start: Callable[..., Follower]) -> None:
    container.say(b"first")
    follower = start()
    follower.has(b"first\n")
    expected = b"first\n"
    for number in range(300):
        if number % 20 == 10:
            container.rename()
        if number % 20 == 15:
            container.reopen()
        container.say(b"%d" % number)
        expected += b"%d\n" % number
    follower.has(expected)


def rotated_under(container: Container, start: Callable[..., Follower]) -> tuple[Follower, BinaryIO]:
    """A follower of `first`, and the file that has it: `new` is in the next one, and this is still open to write."""
    container.say(b"first")
    follower = start()
    follower.has(b"first\n")
    container.rename()
    old = container.reopen_at_leisure()
    container.say(b"new")
    return follower, old


def test_old_file_is_left_only_once_nobody_writes_to_it(container: Container, start: Callable[..., Follower]) -> None:
    follower, old = rotated_under(container, start)
    for number in range(5):
        old.write(record(0, b"old %d" % number))
        follower.has(b"first\n" + b"".join(b"old %d\n" % before for before in range(number + 1)))
    old.close()
    follower.has(b"first\nold 0\nold 1\nold 2\nold 3\nold 4\nnew\n")


def test_ended_containers_file_is_read_until_nobody_writes_to_it(
    container: Container, start: Callable[..., Follower]
) -> None:
    container.say(b"first")
    follower = start()
    follower.has(b"first\n")
    container.running = False
    container.path.with_name("1.log").touch()  # it looks, and does not end
    assert not follower.ended.wait(0.2)
    container.say(b"last words, which the runtime had not written when it said that it ended")
    container.end()
    assert follower.ended.wait(PATIENCE)
    assert follower.text == b"first\nlast words, which the runtime had not written when it said that it ended\n"


def test_ended_containers_new_file_is_read_though_the_old_one_is_still_open(
    container: Container, start: Callable[..., Follower]
) -> None:
    follower, old = rotated_under(container, start)
    container.end()
    assert not follower.ended.wait(0.2)
    old.write(record(0, b"old"))
    old.close()
    assert follower.ended.wait(PATIENCE)
    assert follower.text == b"first\nold\nnew\n"


def test_old_file_that_somebody_holds_open_for_no_reason_is_left_after_a_while(
    container: Container, start: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "WRITER_SECONDS", 0.5)
    follower, _ = rotated_under(container, start)
    follower.has(b"first\nnew\n")


def test_where_the_kernel_does_not_tell_the_old_file_is_left_after_a_while(
    container: Container, start: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module.fcntl, "F_SETLEASE", -1)  # EINVAL, as a filesystem without leases says
    monkeypatch.setattr(follow_module, "UNTOLD_SECONDS", 1000.0)
    follower, old = rotated_under(container, start)
    old.write(record(0, b"old"))
    follower.has(b"first\nold\n")
    monkeypatch.setattr(follow_module, "UNTOLD_SECONDS", 0.0)
    follower.has(b"first\nold\nnew\n")


def test_begins_in_the_middle_of_a_rotation(container: Container, start: Callable[..., Follower]) -> None:
    container.say(b"old")
    container.rename()
    follower = start()
    follower.has(b"old\n")
    container.reopen()
    container.say(b"new")
    follower.has(b"old\nnew\n")


def test_slow_reader_gets_every_rotation_in_between(container: Container, start: Callable[..., Follower]) -> None:
    container.say(b"first")
    follower = start()
    follower.has(b"first\n")
    follower.hold()
    expected = b"first\n"
    for number in range(4):
        container.say(b"%d" % number)
        container.rename()
        container.say(b"late %d" % number)
        container.reopen()
        expected += b"%d\nlate %d\n" % (number, number)
    container.say(b"last")
    follower.go_on()
    follower.has(expected + b"last\n")


def test_slow_reader_costs_no_other_follower_anything(container: Container, start: Callable[..., Follower]) -> None:
    container.say(b"first")
    stuck, other = start(), start()
    stuck.has(b"first\n")
    stuck.hold()
    taken = stuck.taken
    container.say(b"second")
    until(lambda: stuck.taken > taken)
    for number in range(100):
        container.say(b"%d" % number)
    other.has(b"first\nsecond\n" + b"".join(b"%d\n" % number for number in range(100)))
    assert (stuck.text, stuck.taken) == (b"first\n", taken + 1)


def test_tail_begins_at_the_last_lines_and_limit_ends_the_stream(
    container: Container, start: Callable[..., Follower]
) -> None:
    for number in range(10):
        container.say(b"%d" % number)
    follower = start(tail=2, limit=7)
    follower.has(b"8\n9\n")
    container.say(b"ten")
    assert follower.ended.wait(PATIENCE)
    assert follower.text == b"8\n9\nten"


def test_truncated_file_is_read_from_its_start(container: Container, start: Callable[..., Follower]) -> None:
    container.say(b"a long line before the cut")
    follower = start()
    follower.has(b"a long line before the cut\n")
    container.path.write_bytes(b"")
    container.say(b"after")
    follower.has(b"a long line before the cut\nafter\n")


def test_removed_folder_ends_the_follower_of_an_ended_container(
    container: Container, start: Callable[..., Follower]
) -> None:
    container.say(b"all")
    follower = start()
    follower.has(b"all\n")
    container.path.unlink()
    container.path.parent.rmdir()
    container.end()
    assert follower.ended.wait(PATIENCE)


def test_stop_ends_it(container: Container, start: Callable[..., Follower]) -> None:
    del container
    follower = start()
    follower.stopped = True
    assert follower.ended.wait(PATIENCE)


def test_folder_is_watched_once_and_only_while_followed(
    container: Container, start: Callable[..., Follower], watches: FolderWatches
) -> None:
    followers = [start(), start()]
    until(lambda: watches.followers() == 2)
    assert watches.watched() == [container.path.parent]
    followers[0].stop()
    assert watches.watched() == [container.path.parent]
    followers[1].stop()
    assert (watches.followers(), watches.watched()) == (0, [])


def test_without_a_watch_it_looks_by_itself(
    tmp_path: Path, watches: FolderWatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_module, "LOOK_SECONDS", 3600.0)
    with watches.hints(tmp_path / "absent") as hint:
        assert not hint.watched
        hint._first = 3600.0
        started = time.monotonic()
        hint.wait()
        assert time.monotonic() - started < PATIENCE


def test_hint_given_before_the_wait_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "LOOK_SECONDS", 3600.0)
    hint = Hint()
    hint.watched = True
    hint._first = 3600.0
    hint.give()
    started = time.monotonic()
    hint.wait()
    assert time.monotonic() - started < PATIENCE


def test_sixty_followers_of_sixty_containers(watches: FolderWatches, tmp_path: Path) -> None:
    containers = []
    for number in range(60):
        (tmp_path / str(number)).mkdir()
        containers.append(Container(tmp_path / str(number)))
    followers = [Follower(watches, container, Options(follow=True)) for container in containers]
    for number, container in enumerate(containers):
        container.say(b"%d" % number)
        container.end()
    for number, follower in enumerate(followers):
        assert follower.ended.wait(PATIENCE)
        assert follower.text == b"%d\n" % number
    assert watches.watched() == []


def test_reader_whose_file_was_packed_meanwhile_gets_the_later_ones(
    container: Container, start: Callable[..., Follower]
) -> None:
    """Rotated, compressed and removed while the follower still had it open: what came after is not skipped."""
    container.say(b"first")
    follower = start()
    follower.has(b"first\n")
    follower.hold()
    for second, text in enumerate((b"one", b"two", b"three")):
        container.say(text)
        os.utime(container.path, (second, second))  # they differ: the kernel's own may not, in this short time
        container.rename()
        container.reopen()
    container.say(b"last")
    packed = container.path.with_name("0.log.20261123-100001")
    packed.rename(packed.with_name(f"{packed.name}.gz"))
    follower.go_on()
    follower.has(b"first\none\ntwo\nthree\nlast\n")
