"""What the kernel's log tells of processes that were killed for want of memory. Pure.

Source: Kubernetes' third_party/forked/cadvisor/oomparser, as pkg/kubelet/oom reads it. The kernel writes several lines:

    NAME invoked oom-killer: ...
    oom-kill:constraint=CONSTRAINT_MEMCG,...,oom_memcg=/CGROUP,task_memcg=...,task=NAME,pid=7,uid=0
    Task in /a killed as a result of limit of /CGROUP           (instead of that, before 5.0)
    Out of memory: Killed process 7 (NAME) ...

CGROUP is the one whose limit was reached; its line ends the story from 5.0 on. Where no line names one it was the
machine that was out of memory: a system OOM.
"""

import re
from dataclasses import dataclass
from typing import Final

SYSTEM_OOM: Final = "SystemOOM"
_FIRST: Final = "invoked oom-killer:"
_LIMITED: Final = re.compile(r"oom-kill:constraint=.*,oom_memcg=(.*),task_memcg=.*,task=(.*),pid=([0-9]+),uid=")
_LIMITED_BEFORE: Final = re.compile(r"Task in .* killed as a result of limit of (.*)")
_LAST: Final = re.compile(r"Killed process ([0-9]+) \((.+)\)")


@dataclass(frozen=True)
class Record:
    """One record of /dev/kmsg. boot_seconds: when it was written, after the boot."""

    boot_seconds: float
    text: str


@dataclass(frozen=True)
class Killed:
    """A process was killed. cgroup: whose limit was reached; "/" for the machine's memory."""

    cgroup: str
    process: str
    pid: int


class Story:
    """Puts the lines of one kill together. Fed with all lines in order, by one thread."""

    def __init__(self) -> None:
        self._cgroup: str | None = None  # None: nobody has invoked the killer

    def feed(self, line: str) -> Killed | None:
        """The kill whose last line this is."""
        if _FIRST in line:
            self._cgroup = "/"
        if self._cgroup is None:
            return None
        if found := _LIMITED.search(line):
            return self._ends(found[1], found[2], found[3])
        if found := _LIMITED_BEFORE.search(line):
            self._cgroup = "/" + found[1].strip("/")
        if found := _LAST.search(line):
            return self._ends(self._cgroup, found[2], found[1])
        return None

    def _ends(self, cgroup: str, process: str, pid: str) -> Killed:
        self._cgroup = None
        return Killed(cgroup, process, int(pid))


def record(raw: str) -> Record | None:
    """What one reading of /dev/kmsg gives: PRIORITY,SEQUENCE,MICROSECONDS,...;TEXT and lines of details; None for what
    is no record."""
    head, separator, rest = raw.partition(";")
    fields = head.split(",")
    if not separator or len(fields) < 3 or not fields[2].isdigit():
        return None
    return Record(int(fields[2]) / 1e6, rest.partition("\n")[0])


def system_oom(killed: Killed) -> str:
    """The message of the Node's event; empty for what a limit has killed, which is no trouble of the node."""
    if killed.cgroup != "/":
        return ""
    told = "System OOM encountered"
    return f"{told}, victim process: {killed.process}, pid: {killed.pid}" if killed.process and killed.pid else told
