"""What the kernel's log says of processes that were killed for want of memory, and which is the node's event."""

import os
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from bridge import kernellog
from bridge.kernellog import KernelLog
from bridge.oom import Killed, Record, Story, record, system_oom
from tests.waiting import wait_for

INVOKED = "python3 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=1000"
DETAILS = ["CPU: 1 PID: 4242 Comm: python3 Not tainted", "memory: usage 16384kB, limit 16384kB, failcnt 45"]
LIMITED = (
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c1,mems_allowed=0,oom_memcg=/kubepods/pod1,"
    "task_memcg=/kubepods/pod1/c1,task=python3,pid=4242,uid=0"
)
GLOBAL = (
    "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
    "task_memcg=/user.slice,task=stress (big),pid=77,uid=0"
)
KILLED = "Out of memory: Killed process 77 (stress (big)) total-vm:8000000kB, anon-rss:7900000kB"
BEFORE = "Task in /kubepods/pod1/c1 killed as a result of limit of /kubepods/pod1"
KILLED_BEFORE = "Memory cgroup out of memory: Killed process 4242 (python3) score 1972 or sacrifice child"


NOW, UP = 1_800_000_000.0, 10_000.0
"""The tests' time: since the epoch, and since the boot."""


def told(lines: Iterable[str]) -> list[Killed]:
    story = Story()
    return [killed for line in lines if (killed := story.feed(line)) is not None]


def test_a_limit_that_is_reached_is_no_trouble_of_the_node() -> None:
    (killed,) = told([INVOKED, *DETAILS, LIMITED, KILLED_BEFORE])
    assert killed == Killed("/kubepods/pod1", "python3", 4242)
    assert system_oom(killed) == ""


def test_a_machine_without_memory_is() -> None:
    (killed,) = told(["eth0: link up", INVOKED, *DETAILS, GLOBAL, KILLED])
    assert killed == Killed("/", "stress (big)", 77)
    assert system_oom(killed) == "System OOM encountered, victim process: stress (big), pid: 77"


def test_kernels_before_5_0_say_whose_limit_it_was_on_a_line_of_its_own() -> None:
    assert told([INVOKED, BEFORE, KILLED_BEFORE]) == [Killed("/kubepods/pod1", "python3", 4242)]
    root = "Task in /user.slice killed as a result of limit of /"
    assert told([INVOKED, root, KILLED_BEFORE]) == [Killed("/", "python3", 4242)]


def test_each_kill_is_a_story_of_its_own() -> None:
    limited, of_machine = [INVOKED, LIMITED, KILLED_BEFORE], [INVOKED, GLOBAL, KILLED]
    assert [killed.pid for killed in told([*limited, *of_machine, *limited])] == [4242, 77, 4242]
    assert told([KILLED, KILLED_BEFORE]) == [], "nobody has invoked the killer: root may write into that log, too"


def test_a_record_has_the_time_since_the_boot_and_its_first_line() -> None:
    assert record("6,1234,5678901234,-;the text; more\n SUBSYSTEM=net\n") == Record(5678.901234, "the text; more")
    assert record("4,1,0,c,caller=T1;x\n") == Record(0.0, "x")
    for odd in ("", "no separator", "6,1;two fields", "6,1,soon,-;no time"):
        assert record(odd) is None


class Log:
    """A kernel's log: each line is one reading, as of /dev/kmsg."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []
        self.kernel, self.ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.stop, self.writer = os.pipe()
        reader = KernelLog(
            lambda message, when: self.told.append((message, when)), clock=lambda: NOW, since_boot=lambda: UP
        )
        self.thread = threading.Thread(target=reader.follow, args=(self.ours.fileno(), self.stop))
        self.thread.start()

    def write(self, *lines: str, ago: float = 0.0) -> None:
        micros = int((UP - ago) * 1e6)
        for line in lines:
            self.kernel.send(f"6,1,{micros},-;{line}\n".encode())

    def end(self) -> None:
        os.close(self.writer)
        self.thread.join()
        os.close(self.stop)
        self.kernel.close()
        self.ours.close()


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    log.end()


def test_what_the_machine_lacks_is_told_with_its_time_and_what_is_an_hour_old_is_not(log: Log) -> None:
    log.write(INVOKED, GLOBAL, KILLED, ago=4000)
    log.write(INVOKED, LIMITED)
    log.kernel.send(b"no record")
    log.write(INVOKED, GLOBAL, KILLED.replace("77", "78"), ago=600)
    wait_for("the event", lambda: log.told)
    assert log.told == [("System OOM encountered, victim process: stress (big), pid: 78", NOW - 600)]


def test_a_log_that_ends_ends_the_reading() -> None:
    log = Log()
    log.kernel.shutdown(socket.SHUT_RDWR)
    log.thread.join()
    log.end()


def test_this_guests_own_log_is_read_as_far_as_it_goes() -> None:
    try:
        log_file = os.open(kernellog.KMSG, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return  # then the next test says what happens here
    try:
        assert KernelLog(lambda *_: None)._read(log_file), "more may come"
    finally:
        os.close(log_file)


def test_a_guest_without_such_a_log_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KernelLog(lambda *_: None, tmp_path / "kmsg").start(None)  # type: ignore[arg-type]
    assert caplog.text.count("are not told of") == 1
