"""What /metrics/cadvisor tells of a cgroup beyond its usage: time by mode, throttling, disk, processes, limits. Pure.

As `usage`: from the texts of the cgroup's files, in cAdvisor's numbers; read only when that page is asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.stats.usage import TICK, bounded, keyed

V1_FILES = {
    "cpuacct": ("cpuacct.stat",),
    "cpu": ("cpu.stat", "cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"),
    "memory": (
        "memory.max_usage_in_bytes",
        "memory.failcnt",
        "memory.kmem.usage_in_bytes",
        "memory.soft_limit_in_bytes",
        "memory.oom_control",
    ),
    "blkio": ("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_service_bytes_recursive"),
    "pids": ("pids.current", "pids.max"),
}
"""Controller -> the files that `of_v1` wants."""
V2_FILES = (
    "cpu.stat",
    "cpu.weight",
    "cpu.max",
    "memory.peak",
    "memory.min",
    "memory.events",
    "io.stat",
    "pids.current",
    "pids.max",
)
"""What `of_v2` wants."""


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """What went through one block device, named MAJOR:MINOR."""

    device: str
    reads: int = 0
    writes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Detail:
    """CPU times in nanoseconds, period and quota in microseconds; quota and threads_max 0: none."""

    cpu_user: int = 0
    cpu_system: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled: int = 0
    shares: int = 0
    period: int = 0
    quota: int = 0
    max_usage: int = 0
    failures: int = 0
    kernel_usage: int = 0
    reservation: int = 0
    oom_kills: int = 0
    threads: int = 0
    threads_max: int = 0
    devices: tuple[DeviceUse, ...] = ()


def of_v1(texts: Mapping[str, str]) -> Detail:
    """Raises ValueError for a text that is not the kernel's."""
    times, throttling = keyed(texts.get("cpuacct.stat", "")), keyed(texts.get("cpu.stat", ""))
    return Detail(
        cpu_user=times.get("user", 0) * TICK,
        cpu_system=times.get("system", 0) * TICK,
        periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled=throttling.get("throttled_time", 0),
        shares=_number(texts, "cpu.shares"),
        period=_number(texts, "cpu.cfs_period_us"),
        quota=max(0, _number(texts, "cpu.cfs_quota_us")),
        max_usage=_number(texts, "memory.max_usage_in_bytes"),
        failures=_number(texts, "memory.failcnt"),
        kernel_usage=_number(texts, "memory.kmem.usage_in_bytes"),
        reservation=bounded(texts.get("memory.soft_limit_in_bytes", "0")) or 0,
        oom_kills=keyed(texts.get("memory.oom_control", "")).get("oom_kill", 0),
        threads=_number(texts, "pids.current"),
        threads_max=bounded(texts.get("pids.max", "0")) or 0,
        devices=_v1_devices(texts),
    )


def of_v2(texts: Mapping[str, str]) -> Detail:
    """As `of_v1`, of cgroup v2's files."""
    cpu, events = keyed(texts.get("cpu.stat", "")), keyed(texts.get("memory.events", ""))
    quota, _, period = texts.get("cpu.max", "max 100000").strip().partition(" ")
    return Detail(
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_system=cpu.get("system_usec", 0) * 1000,
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled=cpu.get("throttled_usec", 0) * 1000,
        shares=shares_of(_number(texts, "cpu.weight")),
        period=int(period),
        quota=0 if quota == "max" else int(quota),
        max_usage=_number(texts, "memory.peak"),
        reservation=bounded(texts.get("memory.min", "0")) or 0,
        oom_kills=events.get("oom_kill", 0),
        threads=_number(texts, "pids.current"),
        threads_max=bounded(texts.get("pids.max", "0")) or 0,
        devices=_v2_devices(texts.get("io.stat", "")),
    )


def shares_of(weight: int) -> int:
    """cgroup v1's shares for v2's weight, as cAdvisor shows them; 0 where there is no weight."""
    return 2 + (weight - 1) * 262142 // 9999 if weight else 0


def _v1_devices(texts: Mapping[str, str]) -> tuple[DeviceUse, ...]:
    """MAJOR:MINOR OPERATION NUMBER lines of two files."""
    found: dict[str, dict[str, int]] = {}
    for file, reads, writes in (
        ("blkio.throttle.io_serviced_recursive", "reads", "writes"),
        ("blkio.throttle.io_service_bytes_recursive", "read_bytes", "written_bytes"),
    ):
        for line in texts.get(file, "").splitlines():
            words = line.split()
            field = {"Read": reads, "Write": writes}.get(words[1]) if len(words) == 3 else None
            if field:
                found.setdefault(words[0], {})[field] = int(words[2])
    return tuple(DeviceUse(device, **values) for device, values in sorted(found.items()))


def _v2_devices(text: str) -> tuple[DeviceUse, ...]:
    """MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ... lines."""
    found = []
    for line in text.splitlines():
        device, *pairs = line.split()
        values = dict(pair.split("=") for pair in pairs if "=" in pair)
        amounts = (int(values.get(key, 0)) for key in ("rios", "wios", "rbytes", "wbytes"))
        found.append(DeviceUse(device, *amounts))
    return tuple(sorted(found, key=lambda item: item.device))


def _number(texts: Mapping[str, str], name: str) -> int:
    return int(texts.get(name) or 0)
