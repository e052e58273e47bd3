"""Detached processes that belong to one folder, and the end of exactly these.

Each carries a mark in its environment, which its children inherit: folder and program. So what runs is asked of /proc
and nothing is recorded that could be wrong after a crash or a reused pid. A process that is to end is held by a pidfd,
and its mark is read again through it before the signal goes out.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from vkcri.errors import Unavailable

START_SECONDS = 120.0
_MARK = "VKCRI_CLUSTER_PROCESS"
_KILL_SECONDS = 5.0
_PORTS_SECONDS = 10.0  # after a kill, until what the kernel takes apart of a process no longer keeps its ports
_EXEC_SECONDS = 1.0  # a process has no environment for a moment while it becomes the program
_LOG_LINES = 5


def start(folder: Path, program: str, command: Sequence[str], log: Path, **environment: str) -> None:
    """Run a command as `program` of `folder`: in a session of its own, with nothing of our environment but PATH. It
    outlives us and is no child of ours. Its output is added to `log`."""
    with open(log, "ab") as output:
        subprocess.run(
            ["setsid", "--fork", *command],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath), **environment, _MARK: _mark(folder, program)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=True,
        )
    deadline = time.monotonic() + _EXEC_SECONDS
    while time.monotonic() < deadline and not _executed(folder, program):
        time.sleep(0.01)


def serve(
    folder: Path, program: str, command: Sequence[str], log: Path, probe: Callable[[], bool], **environment: str
) -> None:
    """Run it unless it runs, and return once the probe holds. Where one was found that ends meanwhile, since its kill
    had not come to its end, another is started; and again where that one ends at once, since its predecessor's ports
    are given back only after /proc shows it no more. One that only seemed to have ended, since it had no environment
    while it became the program, is waited for. Raises Unavailable as `until`."""
    last, started = time.monotonic() + START_SECONDS, 0.0
    while True:
        if program not in running(folder):
            started = started or time.monotonic()
            start(folder, program, command, log, **environment)
        try:
            return until(folder, program, log, probe)
        except Unavailable:
            now = time.monotonic()
            if now > (last if program in running(folder) else (started or now) + _PORTS_SECONDS):
                raise
            time.sleep(0.2)


def until(folder: Path, program: str, log: Path, probe: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Wait until the probe holds, as long as the program lives. Raises Unavailable with the end of its log."""
    deadline = time.monotonic() + seconds
    while not probe():
        alive = program in running(folder)
        if not alive or time.monotonic() > deadline:
            what = f"is not ready within {seconds:.0f} s" if alive else "has ended"
            lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
            raise Unavailable("\n".join([f"{program} {what} ({log}):", *lines]))
        time.sleep(0.1)


def running(folder: Path) -> Mapping[str, list[int]]:
    """The pids of a folder's processes, by program."""
    found: dict[str, list[int]] = {}
    for pid in _pids():
        program = _program(pid, folder)
        if program is not None:
            found.setdefault(program, []).append(pid)
    return found


def stop(folder: Path, program: str, seconds: float = 15.0) -> None:
    """End every process of `program`, by SIGTERM and after `seconds` by SIGKILL; returns once they are gone. Raises
    Unavailable where one outlives that too."""
    _signalled_ended(folder, program, signal.SIGTERM, seconds)
    deadline = time.monotonic() + _KILL_SECONDS
    while program in running(folder):  # a child may be born while its parent is signalled
        if time.monotonic() > deadline:
            left = running(folder).get(program, [])
            raise Unavailable(f"{program} of {folder} does not end: pid {', '.join(map(str, left))}")
        _signalled_ended(folder, program, signal.SIGKILL, _KILL_SECONDS)


def _signalled_ended(folder: Path, program: str, number: signal.Signals, seconds: float) -> None:
    """Signal the program's processes and wait, at most so long, until those have ended."""
    held = _signalled(folder, program, number)
    deadline = time.monotonic() + seconds
    for descriptor in held:
        _ended(descriptor, deadline)
        os.close(descriptor)


def _signalled(folder: Path, program: str, number: signal.Signals) -> list[int]:
    """pidfds of the processes that were sent the signal."""
    held = []
    for pid in running(folder).get(program, ()):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if _program(pid, folder) == program:
            signal.pidfd_send_signal(descriptor, number)
            held.append(descriptor)
        else:
            os.close(descriptor)
    return held


def _ended(descriptor: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _program(pid: int, folder: Path) -> str | None:
    """The program of this folder that a process is; None for every other process, and for one that has ended."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    start_of_mark = f"{_MARK}={_mark(folder, '')}".encode()
    return next((item[len(start_of_mark) :].decode() for item in variables if item.startswith(start_of_mark)), None)


def _executed(folder: Path, program: str) -> bool:
    """Whether a process of the program has become it."""
    for pid in running(folder).get(program, ()):
        try:
            if os.readlink(f"/proc/{pid}/exe").rpartition("/")[2] != "setsid":
                return True
        except OSError:
            continue  # it ended while we looked
    return False


def _mark(folder: Path, program: str) -> str:
    return f"{folder} {program}"
