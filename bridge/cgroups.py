"""The cgroups above containers: <root>/kubepods[/burstable|/besteffort]/pod<uid>, on cgroup v1 (every hierarchy) and
v2.

Called by pods' workers; one lock guards the QoS levels that they share. The kernel's tree is the only state that
counts: everything is idempotent, and a restarted bridge calls `ensure_pod` again. Amounts by the kubelet's
ResourceConfigForPod. Only cgroups below the instance's own root are ever written, and only those are emptied and
removed.
"""

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from bridge import cgroupfs
from bridge.cgroupfs import Hierarchies, Limits, host_hugepages, mounted_hierarchies, reserved_hugepages, subfolders
from bridge.spec import CgroupFacts
from bridge.spec.resources import MIN_SHARES, Sizes, hugepage_limits, pod_sizes, shares
from vkcri.api import pods, resources
from vkcri.config import RuntimeSettings
from vkcri.errors import Invalid, Unavailable

_LEVELS = {"Guaranteed": (), "Burstable": ("burstable",), "BestEffort": ("besteffort",)}
_POD = re.compile(r"pod([A-Za-z0-9][-A-Za-z0-9_.]{0,127})")
_EMPTY_WITHIN = 2.0


class Cgroups:
    """All pods' cgroups of this instance."""

    def __init__(self, settings: RuntimeSettings, hierarchies: Hierarchies | None = None) -> None:
        self._base = settings.instance.cgroup_root.strip("/")
        self._pids = settings.pod_pids_limit
        self._hierarchies = hierarchies or mounted_hierarchies()
        self._lock = threading.Lock()
        self._burstable: dict[str, Fraction] = {}
        self._levels_hold: tuple[int, Mapping[str, int]] | None = None
        self.facts = CgroupFacts(self._hierarchies.version, self._has_swap(), host_hugepages())

    def ensure_pod(self, pod: pods.Pod) -> str:
        """Make the pod's cgroup with its limits; the path that CRI takes as cgroup_parent. Raises Unavailable,
        Invalid."""
        name = self._name(pods.uid(pod), pods.qos_class(pod))
        with self._lock:
            self._ensure_levels()
        self.count(pod)
        limits = pod_limits(pod, self.facts)
        self._ensure(name, replace(limits, pids=self._pids) if self._pids > 0 else limits)
        return f"/{name}"

    def pod_path(self, pod: pods.Pod) -> str:
        """As `ensure_pod`, but a cgroup that is there keeps its limits: changing them has an order of its own."""
        name = self._name(pods.uid(pod), pods.qos_class(pod))
        if all((root / name).is_dir() for root in self._hierarchies.roots):
            return f"/{name}"
        return self.ensure_pod(pod)

    def read(self, pod: pods.Pod) -> Sizes | None:
        """What the pod's cgroup is held to by the kernel, shares and memory as `pod_sizes` has them where the kernel
        makes the same of them. None where there is no such cgroup."""
        name = self._name(pods.uid(pod), pods.qos_class(pod))
        try:
            return cgroupfs.sizes(self._hierarchies, name, pod_sizes(pod))
        except FileNotFoundError:
            return None

    def resize(self, pod: pods.Pod, limits: Limits) -> None:
        """Hold the pod's cgroup to these. Raises Unavailable where the kernel does not take them."""
        uid, qos = pods.uid(pod), pods.qos_class(pod)
        name = self._name(uid, qos)
        try:
            cgroupfs.hold(self._hierarchies, name, limits)
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
                cgroupfs.remove(root / self._name(uid, qos), deadline)
        with self._lock:
            if self._burstable.pop(uid, None) is not None:
                self._ensure_levels()

    def known(self) -> set[str]:
        """The UIDs that have a cgroup in any hierarchy."""
        found = set()
        for root in self._hierarchies.all_roots:
            for level in _LEVELS.values():
                folder = root.joinpath(self._base, "kubepods", *level)
                for name in subfolders(folder):
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
            for name in subfolders(root / parent):
                match = _POD.fullmatch(name)
                if match:
                    below = subfolders(root / parent / name)
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
                cgroupfs.remove(root / self._base, deadline)

    def _name(self, uid: str, qos: str) -> str:
        if not _POD.fullmatch(f"pod{uid}") or ".." in uid:
            raise Invalid(f"metadata.uid: Invalid value: {uid!r}")
        return "/".join((self._base, "kubepods", *_LEVELS[qos], f"pod{uid}"))

    def _ensure_levels(self) -> None:
        """kubepods has the node's CPUs, memory and huge pages (node allocatable, of which nothing is reserved),
        burstable what its pods request together, besteffort the least. Nothing where they are there and hold that."""
        kubepods, burstable = f"{self._base}/kubepods", shares(sum(self._burstable.values(), Fraction(0)))
        levels = [
            f"{root}/{kubepods}/{level}" for root in self._hierarchies.roots for level in ("burstable", "besteffort")
        ]
        pages = {size: reserved_hugepages(size) for size in self.facts.hugepages}
        if self._levels_hold == (burstable, pages) and all(map(os.path.isdir, levels)):
            return
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._ensure(kubepods, Limits(shares(Fraction(os.cpu_count() or 1)), memory=memory, hugepages=pages))
        self._ensure(f"{kubepods}/burstable", Limits(burstable))
        self._ensure(f"{kubepods}/besteffort", Limits(MIN_SHARES))
        self._levels_hold = burstable, pages

    def _ensure(self, name: str, limits: Limits) -> None:
        try:
            for root in self._hierarchies.roots:
                if root == self._hierarchies.v1.get("cpuset") or not (root / name).is_dir():
                    cgroupfs.make(root, name, unified=bool(self._hierarchies.unified))
            cgroupfs.hold(self._hierarchies, name, limits)
        except OSError as error:
            raise Unavailable(f"cgroup {name}: {error}") from error

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
