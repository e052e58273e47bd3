"""Real processes: lock, signals, the parent's death, configuration errors, dead and stuck threads."""

import configparser
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.instances import own
from tests.waiting import PATIENCE, until
from vkcri.lifecycle import DRAIN_SECONDS, Process, held, make_folders
from vkcri.selfwatch import SelfWatch

INSTANCE = own("life")
PROLOGUE = """
import ctypes, os, subprocess, sys, threading, time
from vkcri.config import Settings
from vkcri.instance import Instance
from vkcri.errors import ConfigError
from vkcri.lifecycle import Process, run
from vkcri.selfwatch import SelfWatch
def say(text): print(text, flush=True)
def serve(process):
    say("serving")
    process.stopping.wait()
def start(main, **options):
    run("program", Settings(instance=Instance("INSTANCE")), main, **options)
""".replace("INSTANCE", INSTANCE.name)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="an instance's folders are root's")
pytestmark = [needs_root, pytest.mark.xdist_group("lifecycle")]


class Program:
    """A Python process whose output can be waited for."""

    def __init__(self, folder: Path, script: str, **environ: str) -> None:
        self.output = folder / f"output-{time.monotonic_ns()}"
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROLOGUE + script],
                stdout=stream,
                stderr=stream,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[3]), **environ},
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def until(self, text: str, seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert self.process.poll() is None or text in self.text, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    programs: list[Program] = []

    def begin(script: str, **environ: str) -> Program:
        programs.append(Program(tmp_path, script, **environ))
        return programs[-1]

    yield begin
    for program in programs:
        program.process.kill()
        program.process.wait()
    for folder in (INSTANCE.run_dir, INSTANCE.state_dir, INSTANCE.log_dir):
        shutil.rmtree(folder, ignore_errors=True)


Start = Callable[..., Program]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_after_the_callbacks_in_reverse_order(start: Start, number: signal.Signals) -> None:
    program = start("""
def main(process):
    process.on_stop(lambda: say("first registered"))
    process.on_stop(lambda: 1 / 0)
    process.on_stop(lambda: say("last registered"))
    serve(process)
start(main)
""")
    program.until("serving")
    program.process.send_signal(number)
    assert program.wait() == 0
    assert program.text.index("last registered") < program.text.index("first registered")
    assert "ZeroDivisionError" in program.text


def test_folders_are_made_with_their_modes(start: Start) -> None:
    start("start(serve)").until("serving")
    assert INSTANCE.queues_dir.stat().st_mode & 0o777 == 0o700
    assert INSTANCE.locks_dir.stat().st_mode & 0o777 == 0o700
    assert INSTANCE.pod_logs_dir.is_dir()
    INSTANCE.queues_dir.chmod(0o755)
    make_folders(INSTANCE)
    assert INSTANCE.queues_dir.stat().st_mode & 0o777 == 0o700


def test_a_second_copy_waits_says_so_and_honours_sigterm(start: Start) -> None:
    first = start("start(serve)")
    first.until("serving")
    second = start("start(serve)")
    second.until(f"another copy of program runs (pid {first.process.pid}")
    assert "serving" not in second.text
    second.process.terminate()
    assert second.wait() == 0
    third = start("start(serve)")
    third.until("another copy")
    first.process.kill()
    third.until("serving")


def test_no_child_inherits_the_lock(start: Start) -> None:
    first = start("""
def main(process):
    child = subprocess.Popen(["sleep", "300"], close_fds=False)
    say(f"child {child.pid}.")
    serve(process)
start(main)
""")
    first.until("serving")
    child = int(first.text.partition("child ")[2].partition(".")[0])
    try:
        first.process.kill()
        first.wait()
        start("start(serve)").until("serving")
        assert Path(f"/proc/{child}").exists()
    finally:
        os.kill(child, signal.SIGKILL)


def _ended(process: int) -> bool:
    """Whether it is gone, or waits for its parent only."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_ends_when_its_parent_dies(start: Start) -> None:
    parent = start(
        """
child = subprocess.Popen([sys.executable, "-c", os.environ["CHILD"]])
say(f"child {child.pid}.")
child.wait()
""",
        CHILD=PROLOGUE + "start(serve)",
    )
    parent.until("serving")
    parent.until("child ")
    child = int(parent.text.partition("child ")[2].partition(".")[0])
    parent.process.kill()
    until(lambda: _ended(child))
    assert "stopped" in parent.text


def test_a_configuration_error_is_one_line_and_78_after_startsecs(start: Start) -> None:
    began = time.monotonic()
    program = start("""
def main(process):
    raise ConfigError("KUBECONFIG=/nowhere: no such file")
start(main)
""")
    assert program.wait() == 78
    assert time.monotonic() - began > 1.0
    assert "program: KUBECONFIG=/nowhere: no such file" in program.text
    assert "Traceback" not in program.text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("process.start_thread('relist', lambda: 1 / 0)", ("thread relist died", "ZeroDivisionError")),
        ("process.start_thread('relist', lambda: sys.exit(0))", ("thread relist died", "SystemExit")),
        ("process.start_thread('relist', lambda: None)", ("thread relist returned while the process runs",)),
    ],
)
def test_a_threads_end_ends_the_process(start: Start, body: str, words: tuple[str, ...]) -> None:
    program = start(f"""
def main(process):
    {body}
    serve(process)
start(main)
""")
    assert program.wait() == 1
    for word in words:
        assert word in program.text


def test_a_thread_may_end_where_that_was_said_or_while_stopping(start: Start) -> None:
    program = start("""
def main(process):
    process.start_thread("short", lambda: None, may_end=True).join()
    process.start_thread("long", process.stopping.wait)
    serve(process)
start(main)
""")
    program.until("serving")
    program.process.terminate()
    assert program.wait() == 0


def test_an_exception_of_main_is_logged_and_1(start: Start) -> None:
    program = start("start(lambda process: 1 / 0)")
    assert program.wait() == 1
    assert "ZeroDivisionError" in program.text


# The watch's own clock goes faster than faulthandler's, whose 30 s no slow machine is to exceed.
STUCK = """
lock, served = threading.Lock(), threading.Event()
def serve(process):
    say("serving")
    served.set()
    process.stopping.wait()
def worker(process):
    served.wait()
    with process.expect("the status lock", 0.2):
        lock.acquire()
def main(process):
    lock.acquire()
    process.start_thread("status-writer", lambda: worker(process))
    serve(process)
start(main, watch=SelfWatch(30.0, period=0.1, clock=lambda: 60 * time.monotonic()))
"""


def test_a_lock_held_on_purpose_is_found_and_all_stacks_are_logged(start: Start) -> None:
    program = start(STUCK)
    assert program.wait() == 1
    assert "thread status-writer is" in program.text
    assert "0.2 s that it gave the status lock" in program.text
    assert "in worker" in program.text
    assert "in serve" in program.text


def test_under_a_debugger_nothing_is_cut(start: Start) -> None:
    program = start(STUCK, VKCRI_DEBUG="1")
    program.until("serving")
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(2)
    assert "no self-watch" in program.text


def test_a_process_that_runs_no_python_at_all_ends_too(start: Start) -> None:
    program = start("""
def main(process):
    say("serving")
    ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock
start(main, watch=SelfWatch(5.0, period=0.1))
""")
    assert program.wait() == 1
    assert "Timeout" in program.text
    assert "in main" in program.text


def test_a_long_wait_that_was_declared_is_not_cut(start: Start) -> None:
    program = start("""
def main(process):
    with process.expect("a cycle", 0.1):
        with process.expect("a pull", 300):
            time.sleep(5)
    say("pulled")
    serve(process)
start(main, watch=SelfWatch(30.0, period=0.1, clock=lambda: 10 * time.monotonic()))
""")
    program.until("pulled")
    program.process.terminate()
    assert program.wait() == 0


MAIN = """
from vkcri.lifecycle import program_main
def main(process, settings):
    say(f"running {settings.log_level}")
    process.stopping.wait()
def check(settings):
    return "the socket answers"
sys.argv = ["x", *os.environ.get("ARGUMENT", "").split()]
program_main("program", Settings, main, check=check, cleanup=lambda settings: say("cleaned"))()
"""


def test_a_programs_verbs(start: Start) -> None:
    check = start(MAIN, ARGUMENT="--check", VKCRI_INSTANCE=INSTANCE.name)
    assert check.wait() == 0
    assert check.text == f"program: configuration of instance {INSTANCE.name} is good; the socket answers\n"
    bad = start(MAIN, ARGUMENT="--check", VKCRI_INSTANCE=INSTANCE.name, VKCRI_LOG_LEVEL="LOUD")
    assert bad.wait() == 78
    assert bad.text.count("\n") == 1
    assert "VKCRI" in bad.text or "log_level" in bad.text
    cleanup = start(MAIN, ARGUMENT="--cleanup", VKCRI_INSTANCE=INSTANCE.name)
    assert cleanup.wait() == 0
    assert cleanup.text == "cleaned\n"
    runs = start(MAIN, VKCRI_INSTANCE=INSTANCE.name, VKCRI_LOG_LEVEL="DEBUG")
    runs.until("running DEBUG")
    began = time.monotonic()
    broken = start(MAIN, VKCRI_INSTANCE=INSTANCE.name, VKCRI_LOG_LEVEL="LOUD")
    assert broken.wait() == 78
    assert time.monotonic() - began > 1.0


def test_a_process_may_be_built_by_a_test() -> None:
    ends: list[int] = []
    process = Process("test", INSTANCE, watch=SelfWatch(), end=ends.append)
    order: list[int] = []
    process.on_stop(lambda: order.append(1))
    process.on_stop(lambda: order.append(2))
    process.start_thread("dies", lambda: [][0]).join()
    assert ends == [1]
    assert not process.wait(0)
    process.drain()
    assert process.wait(PATIENCE)
    assert order == [2, 1]


def test_supervisord_gives_each_program_longer_than_a_callback_of_its_end_may_take() -> None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    assert parser.read(Path(__file__).parents[3] / "supervisor.conf")
    programs = [name for name in parser.sections() if name.startswith("program:")]
    assert len(programs) >= 6
    assert {name: parser.getfloat(name, "stopwaitsecs") > DRAIN_SECONDS for name in programs} == dict.fromkeys(
        programs, True
    )


def test_waiting_for_a_lock_is_progress_as_long_as_another_has_it() -> None:
    lock, told = threading.Lock(), list[bool]()
    lock.acquire()

    def progress() -> None:
        told.append(lock.locked())
        if len(told) == 2:
            lock.release()

    with held(lock, progress):
        assert (told, lock.locked()) == ([True, True], True)
    assert not lock.locked()
