"""The use of a set of processes, for what has no cgroup of its own: our programs, and a runtime that shares one.

A program that ends and comes again keeps the total growing: what ended processes had used stays in it.
"""

import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.stats.reading import read
from bridge.stats.usage import TICK, Memory, Usage

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CREDENTIALS = struct.Struct("3i")
_Identity = tuple[int, str]  # pid and start time: pids come again


class ProcessGroup:
    """Processes whose use is summed. pids(): which they are now. Called by one thread."""

    def __init__(self, pids: Callable[[], Iterable[int]], now: Callable[[], int] = time.time_ns) -> None:
        self._pids = pids
        self._now = now
        self._alive: dict[_Identity, int] = {}
        self._ended = 0
        self.since = now()
        """When the sum began, in nanoseconds since the epoch."""

    def usage(self) -> Usage | None:
        """A sample; None where none of them runs."""
        alive: dict[_Identity, int] = {}
        resident = shared = faults = major = 0
        for pid in self._pids():
            words = _stat(pid)
            pages = (read(f"/proc/{pid}/statm") or "").split()
            if words is None or len(pages) < 3:
                continue
            alive[pid, words[19]] = (int(words[11]) + int(words[12])) * TICK
            faults, major = faults + int(words[7]), major + int(words[9])
            resident, shared = resident + int(pages[1]) * _PAGE, shared + int(pages[2]) * _PAGE
        self._ended += sum(used for identity, used in self._alive.items() if identity not in alive)
        self._alive = alive
        if not alive:
            return None
        memory = Memory(resident, resident, resident - shared, page_faults=faults, major_page_faults=major)
        return Usage(self._now(), self._ended + sum(alive.values()), memory)


def locked_by(folder: Path, programs: Iterable[str]) -> list[int]:
    """The pids of our programs that run, from their locks (vkcri.lifecycle writes them there)."""
    found = []
    for program in programs:
        text = (read(str(folder / f"{program}.lock")) or "").strip()
        if text.isdigit() and _stat(int(text)) is not None:
            found.append(int(text))
    return found


def listening_at(path: Path) -> int | None:
    """The pid of the process that listens at a Unix socket; None where nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            pid, _, _ = _CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        except OSError:
            return None
    return int(pid) or None


def own_cgroup(pid: int) -> str:
    """The cgroup that a process has for itself as a service manager makes it; empty where it runs in the root or where
    v1's hierarchies disagree: then its numbers would be those of others too."""
    found = {}
    for line in (read(f"/proc/{pid}/cgroup") or "").splitlines():
        _, controllers, name = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), name))
    names = {found[key] for key in ("cpuacct", "memory") if key in found} or {found.get("", ROOT_NAME)}
    return names.pop() if len(names) == 1 and ROOT_NAME not in names else ""


ROOT_NAME = "/"


def _stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from its third field on."""
    text = read(f"/proc/{pid}/stat")
    return None if text is None else text.rpartition(")")[2].split()
