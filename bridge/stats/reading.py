"""The kernel's files that tell of a cgroup's use, read on v1 and v2. A cgroup that goes away while it is read is None.

Holds the open paths of the cgroups that are read again and again; called by one thread at a time. Cgroups are named as
CRI names them, `/` is the root: its limits are the machine's memory and swap.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bridge.cgroupfs import Hierarchies
from bridge.stats import detail, network, usage
from bridge.stats.detail import Detail
from bridge.stats.network import Traffic
from bridge.stats.usage import Usage

ROOT = "/"
_MOST = 256 * 1024
_Paths = tuple[tuple[str, str], ...]  # file name, path


class CgroupReader:
    """Reads cgroups of one machine."""

    def __init__(self, hierarchies: Hierarchies, now: Callable[[], int] = time.time_ns) -> None:
        """now: nanoseconds since the epoch."""
        self._hierarchies = hierarchies
        self._now = now
        self._paths: dict[str, _Paths] = {}

    def usage(self, name: str) -> Usage | None:
        """A sample; None where there is no such cgroup."""
        paths = self._paths.get(name)
        if paths is None:
            files = usage.V2_FILES if self._hierarchies.unified else usage.V1_FILES
            paths = self._paths[name] = self._resolve(name, files)
        texts, stamp = _texts(paths), self._now()
        if not texts:
            return None
        limit, swap_limit = machine_memory() if name == ROOT else (None, None)
        try:
            if self._hierarchies.unified:
                if name == ROOT and limit is not None:
                    texts["memory.swap.current"] = str(swap_used())
                return usage.of_v2(texts, stamp, limit=limit, swap_limit=swap_limit)
            if not {"cpuacct.usage", "memory.usage_in_bytes"} <= texts.keys():
                return None  # made or removed just now
            return usage.of_v1(texts, stamp, limit=limit, swap_limit=swap_limit)
        except ValueError:
            return None  # a file that was cut short as the cgroup went

    def detail(self, name: str) -> Detail:
        """The rest; zeros where there is no such cgroup."""
        try:
            if self._hierarchies.unified:
                return detail.of_v2(_texts(self._resolve(name, detail.V2_FILES)))
            return detail.of_v1(_texts(self._resolve(name, detail.V1_FILES)))
        except ValueError:
            return Detail()

    def processes(self, name: str) -> list[int]:
        """The pids in that one cgroup."""
        text = read(f"{self._folder(name)}/cgroup.procs") or ""
        return [int(line) for line in text.split()]

    def traffic(self, name: str) -> Traffic | None:
        """What went through the network namespace of that cgroup's first process; of process 1 for the root."""
        pids = [1] if name == ROOT else self.processes(name)
        text = read(f"/proc/{pids[0]}/net/dev") if pids else None
        try:
            return None if text is None else Traffic(self._now(), network.interfaces(text))
        except ValueError:
            return None

    def created(self, name: str) -> int:
        """When the cgroup was made, as near as the kernel says (nanoseconds since the epoch); at least the boot's time,
        0 where it is gone."""
        folder = self._folder(name)
        file = "cgroup.events" if self._hierarchies.unified else "cgroup.clone_children"
        stamps = [stamp for path in (folder, f"{folder}/{file}") if (stamp := _modified(path))]
        return max(min(stamps), boot_time()) if stamps else 0

    def keep(self, names: Iterable[str]) -> None:
        """Forget what was held of all other cgroups."""
        kept = set(names)
        for name in self._paths.keys() - kept:
            del self._paths[name]

    def _folder(self, name: str) -> str:
        """Where the cgroup's processes and age are looked at."""
        tree = (
            self._hierarchies.unified or self._hierarchies.v1.get("memory") or next(iter(self._hierarchies.v1.values()))
        )
        return f"{tree}/{name.strip('/')}".rstrip("/")

    def _resolve(self, name: str, files: "tuple[str, ...] | dict[str, tuple[str, ...]]") -> _Paths:
        own = name.strip("/")
        if isinstance(files, tuple):
            return tuple((file, f"{self._hierarchies.unified}/{own}/{file}") for file in files)
        trees = self._hierarchies.v1
        return tuple(
            (file, f"{trees[controller]}/{own}/{file}")
            for controller, wanted in files.items()
            if controller in trees
            for file in wanted
        )


def read(path: str) -> str | None:
    """The file's text; None where it is not there or its cgroup or process is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _MOST).decode("ascii", "replace")
    except OSError:  # ENODEV: removed since it was opened; EOPNOTSUPP: pressure that was not asked for at boot
        return None
    finally:
        os.close(descriptor)


def machine_memory() -> tuple[int, int]:
    """Bytes of memory and of swap that the machine has."""
    found = _meminfo()
    return found.get("MemTotal", 0), found.get("SwapTotal", 0)


def swap_used() -> int:
    """Bytes of swap in use."""
    found = _meminfo()
    return found.get("SwapTotal", 0) - found.get("SwapFree", 0)


def boot_time() -> int:
    """When the machine was booted, in nanoseconds since the epoch."""
    for line in (read("/proc/stat") or "").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) * 1_000_000_000
    return 0


def _meminfo() -> dict[str, int]:
    found = {}
    for line in (read("/proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * 1024
    return found


def _texts(paths: _Paths) -> dict[str, str]:
    return {file: text for file, path in paths if (text := read(path)) is not None}


def _modified(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0
