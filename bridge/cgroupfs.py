"""The kernel's cgroup files, on v1 (a tree a controller) and v2 (one tree): what they are held to, read and written.

No state and no policy: bridge.cgroups says which cgroups there are and what for. Raises OSError as the kernel does;
`remove` raises Unavailable where something stays.
"""

import contextlib
import errno
import logging
import math
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bridge.spec.resources import MIN_SHARES, PERIOD, Sizes, page_size
from vkcri.errors import Unavailable

_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
_UNLIMITED = 1 << 62  # v1 has no word for no limit: it shows the most that a counter of pages can hold
_PAGE = os.sysconf("SC_PAGE_SIZE")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """One cgroup's amounts; None leaves the kernel's own."""

    shares: int | None = None
    quota: int | None = None
    memory: int | None = None
    hugepages: Mapping[str, int] | None = None
    pids: int | None = None


@dataclass(frozen=True)
class Hierarchies:
    """Where cgroups are mounted: by controller on v1, or the one tree of v2 (`unified`). `hybrid`: the v2 tree without
    controllers beside v1, in which runc makes every container's cgroup too."""

    v1: Mapping[str, Path]
    unified: Path | None = None
    hybrid: Path | None = None

    @property
    def version(self) -> int:
        return 2 if self.unified else 1

    @property
    def roots(self) -> tuple[Path, ...]:
        return (self.unified,) if self.unified else tuple(dict.fromkeys(self.v1.values()))

    @property
    def all_roots(self) -> tuple[Path, ...]:
        """`roots`, and where else a pod's cgroup may have to be removed."""
        return (*self.roots, self.hybrid) if self.hybrid else self.roots


def weight(cpu_shares: int) -> int:
    """cpu.weight for v1's shares, by the curve that runc and the kubelet use now: 2 -> 1, 1024 -> 100, 262144 ->
    10000."""
    if cpu_shares <= 2:
        return 1
    if cpu_shares >= 262144:
        return 10000
    power = math.log2(cpu_shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def shares_of_weight(amount: int) -> int:
    """The shares that `weight` makes that weight of; by the curve's inverse, so that it may be off by a little."""
    root = math.sqrt(125**2 + 4 * 612 * (math.log10(amount) + 7 / 34))
    return min(max(round(2 ** ((root - 125) / 2)), MIN_SHARES), 262144)


def mounted_hierarchies(mountinfo: str | None = None) -> Hierarchies:
    """Read from /proc/self/mountinfo. v2 counts only where it carries controllers: a hybrid guest is v1."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8") if mountinfo is None else mountinfo
    v1: dict[str, Path] = {}
    unified = None
    for line in text.splitlines():
        words = line.split(" ")
        kind, _, options = words[words.index("-") + 1 :][:3]
        if kind == "cgroup":
            for option in options.split(","):
                if option not in ("rw", "ro", "xattr", "clone_children") and not option.startswith("release_agent"):
                    v1.setdefault(option, Path(words[4]))
        elif kind == "cgroup2":
            unified = Path(words[4])
    if v1 or unified is None:
        return Hierarchies(v1, hybrid=unified)
    return Hierarchies({}, unified)


def host_hugepages(folder: Path = Path("/sys/kernel/mm/hugepages")) -> tuple[str, ...]:
    """The huge page sizes of the guest, as CRI names them."""
    sizes = [re.fullmatch(r"hugepages-(\d+)kB", name) for name in subfolders(folder)]
    return tuple(page_size(size * 1024) for size in sorted(int(found.group(1)) for found in sizes if found))


def reserved_hugepages(size: str, folder: Path = Path("/sys/kernel/mm/hugepages")) -> int:
    """Bytes of all huge pages of that size ("2MB") that the guest has set apart."""
    each = int(size[:-2]) * {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}[size[-2:]]
    try:
        return int((folder / f"hugepages-{each // 1024}kB/nr_hugepages").read_text()) * each
    except (OSError, ValueError):
        return 0


def hold(hierarchies: Hierarchies, name: str, limits: Limits) -> None:
    """Hold a cgroup that is there to every limit that this kernel knows, memory before CPU."""
    if hierarchies.unified:
        files = _v2_files(hierarchies.unified / name, limits)
    else:
        files = _v1_files({controller: root / name for controller, root in hierarchies.v1.items()}, limits)
    for file, text in files:
        _write(file, text)


def sizes(hierarchies: Hierarchies, name: str, expected: Sizes) -> Sizes:
    """What a cgroup is held to. expected: told where the kernel makes what it has of it: shares that come to v2's
    weight, memory that it has rounded down to pages. Raises FileNotFoundError where there is none."""
    if hierarchies.unified:
        found = _v2_sizes(hierarchies.unified / name, expected.shares)
    else:
        found = _v1_sizes({controller: root / name for controller, root in hierarchies.v1.items()})
    same = expected.memory is not None and expected.memory // _PAGE * _PAGE == found.memory
    return replace(found, memory=expected.memory) if same else found


def _v1_files(folders: Mapping[str, Path], limits: Limits) -> Iterator[tuple[Path, str]]:
    if "memory" in folders and limits.memory is not None:
        yield folders["memory"] / "memory.limit_in_bytes", str(limits.memory)
    if "cpu" in folders:
        if limits.shares is not None:
            yield folders["cpu"] / "cpu.shares", str(limits.shares)
        if limits.quota is not None:
            yield folders["cpu"] / "cpu.cfs_period_us", str(PERIOD)
            yield folders["cpu"] / "cpu.cfs_quota_us", str(limits.quota)
    if "hugetlb" in folders:
        for size, amount in (limits.hugepages or {}).items():
            yield folders["hugetlb"] / f"hugetlb.{size}.limit_in_bytes", str(amount)
    if "pids" in folders and limits.pids is not None:
        yield folders["pids"] / "pids.max", str(limits.pids)


def _v2_files(folder: Path, limits: Limits) -> Iterator[tuple[Path, str]]:
    if limits.memory is not None:
        yield folder / "memory.max", str(limits.memory)
    if limits.shares is not None:
        yield folder / "cpu.weight", str(weight(limits.shares))
    if limits.quota is not None:
        yield folder / "cpu.max", f"{limits.quota} {PERIOD}"
    for size, amount in (limits.hugepages or {}).items():
        yield folder / f"hugetlb.{size}.max", str(amount)
    if limits.pids is not None:
        yield folder / "pids.max", str(limits.pids)


def _v1_sizes(folders: Mapping[str, Path]) -> Sizes:
    cpu, memory = folders.get("cpu"), folders.get("memory")
    shares_, quota, limit = MIN_SHARES, -1, _UNLIMITED
    if cpu is not None:
        shares_ = int((cpu / "cpu.shares").read_text())
        quota, period = (int((cpu / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        quota = quota * PERIOD // period
    if memory is not None:
        limit = int((memory / "memory.limit_in_bytes").read_text())
    return Sizes(shares_, quota if quota > 0 else None, limit if limit < _UNLIMITED else None)


def _v2_sizes(folder: Path, expected: int) -> Sizes:
    found = int((folder / "cpu.weight").read_text())
    quota, period = (folder / "cpu.max").read_text().split()
    limit = (folder / "memory.max").read_text().strip()
    return Sizes(
        expected if weight(expected) == found else shares_of_weight(found),
        None if quota == "max" else int(quota) * PERIOD // int(period),
        None if limit == "max" else int(limit),
    )


def make(root: Path, name: str, *, unified: bool) -> None:
    """Every level of name below root; on v2 each parent hands its controllers down, on v1 cpusets are inherited."""
    inherited = () if unified else [file for file in ("cpuset.cpus", "cpuset.mems") if (root / file).exists()]
    folder = root
    for step in name.split("/"):
        if unified:
            _enable_controllers(folder)
        parent, folder = folder, folder / step
        if not folder.is_dir():
            folder.mkdir(mode=0o755, exist_ok=True)
        for cpuset in inherited:
            if not (folder / cpuset).read_text().strip():
                (folder / cpuset).write_text((parent / cpuset).read_text())


def _enable_controllers(folder: Path) -> None:
    enabled = (folder / "cgroup.subtree_control").read_text().split()
    available = (folder / "cgroup.controllers").read_text().split()
    for controller in _V2_CONTROLLERS:
        if controller in available and controller not in enabled:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")


def _write(file: Path, text: str) -> None:
    """Write unless it stands there. A file that is missing means that the kernel lacks that controller: said once a
    pod in the debug log, as the limit cannot be held."""
    try:
        if file.read_text().strip() != text:
            file.write_text(text)
    except FileNotFoundError:
        _log.debug("%s: this kernel has no such limit", file)


def remove(folder: Path, deadline: float) -> None:
    """Kill, then remove the cgroup and those below it, deepest first, until the (monotonic) deadline."""
    while folder.is_dir():
        for path, _, _ in os.walk(folder, topdown=False):
            _kill(Path(path))
            try:
                os.rmdir(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise Unavailable(f"cgroup {path}: {error.strerror}") from error
        if folder.is_dir():
            if time.monotonic() >= deadline:
                raise Unavailable(f"cgroup {folder} still has processes")
            time.sleep(0.01)


def _kill(folder: Path) -> None:
    """SIGKILL to every process of that one cgroup; it and they may be gone already, which is what is wanted."""
    try:
        processes = (folder / "cgroup.procs").read_text().split()
    except OSError:
        return
    for pid in processes:
        if int(pid) not in (0, os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def subfolders(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except FileNotFoundError:
        return []
