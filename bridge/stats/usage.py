"""What a cgroup uses, from the texts of its files on cgroup v1 and v2. Pure: no file is read here.

Numbers are cAdvisor's, which a kubelet takes them from: working set is usage without inactive file pages, RSS is
anonymous memory, a limit of 2^62 or more is none. CPU times are nanoseconds, amounts bytes, times nanoseconds since the
epoch.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_UNLIMITED = 1 << 62
_BIGGEST = 1 << 64

V1_FILES = {
    "cpuacct": ("cpuacct.usage",),
    "memory": (
        "memory.usage_in_bytes",
        "memory.stat",
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
    ),
}
"""Controller -> the files that `of_v1` wants."""
V2_FILES = (
    "cpu.stat",
    "memory.current",
    "memory.stat",
    "memory.max",
    "memory.swap.current",
    "memory.swap.max",
    "cpu.pressure",
    "memory.pressure",
    "io.pressure",
)
"""What `of_v2` wants."""


@dataclass(frozen=True, slots=True)
class Stall:
    """One line of a pressure file: `total` in microseconds, averages in percent."""

    total: int = 0
    avg10: float = 0.0
    avg60: float = 0.0
    avg300: float = 0.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """How long tasks waited for a resource: some of them, or all (full)."""

    some: Stall = Stall()
    full: Stall = Stall()


@dataclass(frozen=True, slots=True)
class Memory:
    """`limit` and `swap_limit`: None where there is none."""

    usage: int
    working_set: int
    rss: int
    cache: int = 0
    mapped_file: int = 0
    swap: int = 0
    active_file: int = 0
    inactive_file: int = 0
    page_faults: int = 0
    major_page_faults: int = 0
    limit: int | None = None
    swap_limit: int | None = None
    pressure: Pressure | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """One sample. `cpu`: nanoseconds used since the cgroup was made."""

    time: int
    cpu: int
    memory: Memory
    cpu_pressure: Pressure | None = None
    io_pressure: Pressure | None = None


def of_v1(texts: Mapping[str, str], time: int, *, limit: int | None = None, swap_limit: int | None = None) -> Usage:
    """A sample of cgroup v1's files by name; one that is missing counts as absent. limit, swap_limit: the machine's,
    for the root cgroup. Raises ValueError for a text that is not the kernel's."""
    stat = keyed(texts.get("memory.stat", ""))
    usage, inactive = _number(texts, "memory.usage_in_bytes"), stat.get("total_inactive_file", 0)
    memory = Memory(
        usage=usage,
        working_set=max(0, usage - inactive),
        rss=stat.get("total_rss", 0),
        cache=stat.get("total_cache", 0),
        mapped_file=stat.get("total_mapped_file", 0),
        swap=stat.get("total_swap", 0),
        active_file=stat.get("total_active_file", 0),
        inactive_file=inactive,
        page_faults=stat.get("pgfault", 0),
        major_page_faults=stat.get("pgmajfault", 0),
        limit=limit if limit is not None else bounded(texts.get("memory.limit_in_bytes", "max")),
        swap_limit=swap_limit if limit is not None else bounded(texts.get("memory.memsw.limit_in_bytes", "0")),
    )
    return Usage(time, _number(texts, "cpuacct.usage"), memory)


def of_v2(texts: Mapping[str, str], time: int, *, limit: int | None = None, swap_limit: int | None = None) -> Usage:
    """As `of_v1`, of cgroup v2's files. The root cgroup has no memory.current: there anonymous and file memory are its
    usage, as cAdvisor has it."""
    cpu, stat = keyed(texts.get("cpu.stat", "")), keyed(texts.get("memory.stat", ""))
    inactive, pages = stat.get("inactive_file", 0), stat.get("anon", 0) + stat.get("file", 0)
    usage = _number(texts, "memory.current") if "memory.current" in texts else pages
    memory = Memory(
        usage=usage,
        working_set=max(0, usage - inactive),
        rss=stat.get("anon", 0),
        cache=stat.get("file", 0),
        mapped_file=stat.get("file_mapped", 0),
        swap=_number(texts, "memory.swap.current"),
        active_file=stat.get("active_file", 0),
        inactive_file=inactive,
        page_faults=stat.get("pgfault", 0),
        major_page_faults=stat.get("pgmajfault", 0),
        limit=limit if limit is not None else bounded(texts.get("memory.max", "max")),
        swap_limit=swap_limit if limit is not None else bounded(texts.get("memory.swap.max", "0")),
        pressure=pressure(texts.get("memory.pressure", "")),
    )
    return Usage(
        time,
        cpu.get("usage_usec", 0) * 1000,
        memory,
        pressure(texts.get("cpu.pressure", "")),
        pressure(texts.get("io.pressure", "")),
    )


def rate(before: Usage | None, after: Usage) -> int:
    """usageNanoCores: nanoseconds of CPU a second between two samples; 0 without a first one, or where the counter went
    back."""
    if before is None or after.time <= before.time or after.cpu < before.cpu:
        return 0
    return (after.cpu - before.cpu) * 1_000_000_000 // (after.time - before.time)


def keyed(text: str) -> dict[str, int]:
    """NAME NUMBER lines. Raises ValueError."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines() if line)}


def bounded(text: str) -> int | None:
    """A limit's bytes; None for `max` and for what v1 writes instead."""
    value = _BIGGEST if text.strip() == "max" else int(text)
    return None if value > _UNLIMITED else value


def pressure(text: str) -> Pressure | None:
    """A pressure file; None where the kernel has none. Raises ValueError."""
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
    if not lines:
        return None
    stalls = {}
    for name, pairs in lines.items():
        values = dict(pair.split("=") for pair in pairs)
        averages = (float(values.get(key, 0)) for key in ("avg10", "avg60", "avg300"))
        stalls[name] = Stall(int(values.get("total", 0)), *averages)
    return Pressure(stalls.get("some", Stall()), stalls.get("full", Stall()))


def _number(texts: Mapping[str, str], name: str) -> int:
    return int(texts.get(name) or 0)
