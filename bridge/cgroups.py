"""The cgroups above containers: <root>/kubepods[/burstable|/besteffort]/pod<uid>, on cgroup v1 (every hierarchy) and
v2.

Called by pods' workers; one lock guards the QoS levels that they share. The kernel's tree is the only state that
counts: everything is idempotent, and a restarted bridge calls `ensure_pod` again. Amounts by the kubelet's
ResourceConfigForPod. Only cgroups below the instance's own root are ever written, and only those are emptied and
removed.
"""

import contextlib
import errno
import logging
import math
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from bridge.spec import CgroupFacts
from bridge.spec.resources import MIN_SHARES, PERIOD, Sizes, hugepage_limits, page_size, pod_sizes, shares
from vkcri.api import pods, resources
from vkcri.config import RuntimeSettings
from vkcri.errors import Invalid, Unavailable

_LEVELS = {"Guaranteed": (), "Burstable": ("burstable",), "BestEffort": ("besteffort",)}
_POD = re.compile(r"pod([A-Za-z0-9][-A-Za-z0-9_.]{0,127})")
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
_EMPTY_WITHIN = 2.0
_UNLIMITED = 1 << 62  # v1 has no word for no limit: it shows the most that a counter of pages can hold
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """One cgroup's amounts; None leaves the kernel's own."""

    shares: int | None = None
    quota: int | None = None
    memory: int | None = None
    hugepages: Mapping[str, int] | None = None


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


class Cgroups:
    """All pods' cgroups of this instance."""

    def __init__(self, settings: RuntimeSettings, hierarchies: Hierarchies | None = None) -> None:
        self._base = settings.instance.cgroup_root.strip("/")
        self._hierarchies = hierarchies or mounted_hierarchies()
        self._lock = threading.Lock()
        self._burstable: dict[str, Fraction] = {}
        self.facts = CgroupFacts(self._hierarchies.version, self._has_swap(), host_hugepages())

    def ensure_pod(self, pod: pods.Pod) -> str:
        """Make the pod's cgroup with its limits; the path that CRI takes as cgroup_parent. Raises Unavailable,
        Invalid."""
        name = self._name(pods.uid(pod), pods.qos_class(pod))
        with self._lock:
            self._ensure_levels()
        self.count(pod)
        self._ensure(name, pod_limits(pod, self.facts))
        return f"/{name}"

    def pod_path(self, pod: pods.Pod) -> str:
        """As `ensure_pod`, but a cgroup that is there keeps its limits: changing them has an order of its own."""
        name = self._name(pods.uid(pod), pods.qos_class(pod))
        if all((root / name).is_dir() for root in self._hierarchies.roots):
            return f"/{name}"
        return self.ensure_pod(pod)

    def read(self, pod: pods.Pod) -> Sizes | None:
        """What the pod's cgroup is held to by the kernel, shares as `pod_sizes` has them where they come to the same
        on v2. None where there is no such cgroup."""
        name = self._name(pods.uid(pod), pods.qos_class(pod))
        try:
            if self._hierarchies.unified:
                return _v2_sizes(self._hierarchies.unified / name, pod_sizes(pod).shares)
            return _v1_sizes({key: root / name for key, root in self._hierarchies.v1.items()})
        except FileNotFoundError:
            return None

    def resize(self, pod: pods.Pod, limits: Limits) -> None:
        """Hold the pod's cgroup to these. Raises Unavailable where the kernel does not take them."""
        uid, qos = pods.uid(pod), pods.qos_class(pod)
        name = self._name(uid, qos)
        try:
            for file, text in self._files(root_name=name, limits=limits):
                _write(file, text)
        except OSError as error:
            raise Unavailable(f"cgroup {name}: {error}") from error
        self.count(pod)

    def count(self, pod: pods.Pod) -> None:
        """Let what a burstable pod requests count for its level's share of the CPU."""
        if pods.qos_class(pod) != "Burstable":
            return
        requested = resources.pod_requests(pod).get("cpu", Fraction(0))
        with self._lock:
            if self._burstable.get(pods.uid(pod)) != requested:
                self._burstable[pods.uid(pod)] = requested
                self._ensure_levels()

    def memory_usage(self, pod: pods.Pod, container_id: str = "") -> int | None:
        """Bytes that the pod's cgroup uses, or the container's in it; None where that cannot be told."""
        name = f"{self._name(pods.uid(pod), pods.qos_class(pod))}/{container_id}".rstrip("/")
        root = self._hierarchies.unified or self._hierarchies.v1.get("memory")
        file = "memory.current" if self._hierarchies.unified else "memory.usage_in_bytes"
        try:
            return int((root / name / file).read_text()) if root else None
        except (OSError, ValueError):
            return None

    def remove_pod(self, uid: str) -> None:
        """Kill what is left in the pod's cgroups and remove them. Idempotent. Raises Unavailable where some stay."""
        deadline = time.monotonic() + _EMPTY_WITHIN
        for qos in _LEVELS:
            for root in self._hierarchies.all_roots:
                _remove(root / self._name(uid, qos), deadline)
        with self._lock:
            if self._burstable.pop(uid, None) is not None:
                self._ensure_levels()

    def known(self) -> set[str]:
        """The UIDs that have a cgroup in any hierarchy."""
        found = set()
        for root in self._hierarchies.all_roots:
            for level in _LEVELS.values():
                folder = root.joinpath(self._base, "kubepods", *level)
                for name in _subfolders(folder):
                    match = _POD.fullmatch(name)
                    if match:
                        found.add(match.group(1))
        return found

    @property
    def hierarchies(self) -> Hierarchies:
        return self._hierarchies

    @property
    def pods_root(self) -> str:
        """The cgroup that all pods are below, as CRI names it."""
        return f"/{self._base}/kubepods"

    def tree(self) -> dict[str, tuple[str, ...]]:
        """Every pod's UID -> its cgroup, then those right below it: its sandboxes' and containers', named by their
        ids."""
        root = self._hierarchies.unified or self._hierarchies.v1.get("memory") or next(iter(self._hierarchies.roots))
        found: dict[str, tuple[str, ...]] = {}
        for level in _LEVELS.values():
            parent = "/".join((self._base, "kubepods", *level))
            for name in _subfolders(root / parent):
                match = _POD.fullmatch(name)
                if match:
                    below = _subfolders(root / parent / name)
                    own = f"/{parent}/{name}"
                    found[match.group(1)] = (own, *(f"{own}/{child}" for child in below))
        return found

    def levels(self) -> list[str]:
        """The cgroups above pods: kubepods and its QoS levels."""
        return ["/".join((self.pods_root, *level)) for level in _LEVELS.values()]

    def cleanup(self) -> None:
        """Remove the instance's whole tree, its pods first. Raises Unavailable where some stay."""
        for uid in self.known():
            self.remove_pod(uid)
        deadline = time.monotonic() + _EMPTY_WITHIN
        for root in self._hierarchies.all_roots:
            if self._base:
                _remove(root / self._base, deadline)

    def _name(self, uid: str, qos: str) -> str:
        if not _POD.fullmatch(f"pod{uid}") or ".." in uid:
            raise Invalid(f"metadata.uid: Invalid value: {uid!r}")
        return "/".join((self._base, "kubepods", *_LEVELS[qos], f"pod{uid}"))

    def _ensure_levels(self) -> None:
        """kubepods has the node's CPUs, burstable what its pods request together, besteffort the least."""
        kubepods = f"{self._base}/kubepods"
        self._ensure(kubepods, Limits(shares(Fraction(os.cpu_count() or 1))))
        self._ensure(f"{kubepods}/burstable", Limits(shares(sum(self._burstable.values(), Fraction(0)))))
        self._ensure(f"{kubepods}/besteffort", Limits(MIN_SHARES))

    def _ensure(self, name: str, limits: Limits) -> None:
        try:
            for root in self._hierarchies.roots:
                if root == self._hierarchies.v1.get("cpuset") or not (root / name).is_dir():
                    _make(root, name, unified=bool(self._hierarchies.unified))
            for file, text in self._files(root_name=name, limits=limits):
                _write(file, text)
        except OSError as error:
            raise Unavailable(f"cgroup {name}: {error}") from error

    def _files(self, root_name: str, limits: Limits) -> Iterator[tuple[Path, str]]:
        """(file, content) of every limit that this kernel can hold, memory before CPU."""
        if self._hierarchies.unified:
            yield from _v2_files(self._hierarchies.unified / root_name, limits)
        else:
            yield from _v1_files({name: root / root_name for name, root in self._hierarchies.v1.items()}, limits)

    def _has_swap(self) -> bool:
        """Whether swap is accounted: v1 has memory.memsw files then, v2 memory.swap files below the root."""
        if self._hierarchies.unified is None:
            memory = self._hierarchies.v1.get("memory")
            return memory is not None and (memory / "memory.memsw.limit_in_bytes").exists()
        return any(self._hierarchies.unified.glob("*/memory.swap.max"))


def pod_limits(pod: pods.Pod, facts: CgroupFacts) -> Limits:
    """What the pod's cgroup is held to: limits only where the whole pod is limited. Pure."""
    sizes = pod_sizes(pod)
    pages = hugepage_limits(resources.pod_requests(pod), facts)
    return Limits(sizes.shares, sizes.quota, sizes.memory, pages)


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
    sizes = [re.fullmatch(r"hugepages-(\d+)kB", name) for name in _subfolders(folder)]
    return tuple(page_size(size * 1024) for size in sorted(int(found.group(1)) for found in sizes if found))


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


def _v2_files(folder: Path, limits: Limits) -> Iterator[tuple[Path, str]]:
    if limits.memory is not None:
        yield folder / "memory.max", str(limits.memory)
    if limits.shares is not None:
        yield folder / "cpu.weight", str(weight(limits.shares))
    if limits.quota is not None:
        yield folder / "cpu.max", f"{limits.quota} {PERIOD}"
    for size, amount in (limits.hugepages or {}).items():
        yield folder / f"hugetlb.{size}.max", str(amount)


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


def _make(root: Path, name: str, *, unified: bool) -> None:
    """Every level of name below root; on v2 each parent hands its controllers down, on v1 cpusets are inherited."""
    folder = root
    for step in name.split("/"):
        if unified:
            _enable_controllers(folder)
        parent, folder = folder, folder / step
        if not folder.is_dir():
            folder.mkdir(mode=0o755, exist_ok=True)
        for cpuset in ("cpuset.cpus", "cpuset.mems"):
            if not unified and (folder / cpuset).exists() and not (folder / cpuset).read_text().strip():
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


def _remove(folder: Path, deadline: float) -> None:
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


def _subfolders(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except FileNotFoundError:
        return []
