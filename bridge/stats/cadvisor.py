"""/metrics/cadvisor: what dashboards ask of cAdvisor, under its names and labels, of every cgroup of this node. Pure.

Source: github.com/google/cadvisor, metrics/prometheus.go, as a kubelet registers it; docs/metrics.md names the subset.
Samples of a cgroup carry the time at which it was read. A sandbox's cgroup has the pod's traffic; file systems are the
root's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from bridge.stats.detail import Detail
from bridge.stats.disk import Filesystem
from bridge.stats.network import Traffic
from bridge.stats.usage import Usage
from vkcri.api.exposition import Family, Kind, Sample, labels

_SECOND, _MILLISECOND = 1_000_000_000, 1_000_000  # in nanoseconds
_PRESSURE_SECOND = 1_000_000  # in the microseconds of a pressure file


@dataclass(frozen=True)
class CgroupUse:
    """One cgroup. `id` is its path; the names are empty where it is no container, pod, ...; created and started in
    nanoseconds since the epoch; `filesystems` by device."""

    id: str
    usage: Usage
    detail: Detail
    processes: int
    created: int
    started: int
    name: str = ""
    image: str = ""
    namespace: str = ""
    pod: str = ""
    container: str = ""
    traffic: Traffic | None = None
    filesystems: Mapping[str, Filesystem] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """What the machine has, and by which ids it is known."""

    cpus: int
    memory: int
    swap: int
    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""


_Values = Iterable[tuple[Mapping[str, str], float]]
_Read = Callable[[CgroupUse], _Values]


@dataclass(frozen=True)
class _Metric:
    """One family: the values of a cgroup, each with labels beside the cgroup's own. `stamped`: with the sample's
    time."""

    name: str
    kind: Kind
    about: str
    values: _Read
    stamped: bool = True


def families(cgroups: Sequence[CgroupUse], machine: Machine, devices: Mapping[str, str]) -> list[Family]:
    """The whole page. devices: a block device's name by MAJOR:MINOR."""
    own = [_labels(item) for item in cgroups]
    found = _machine(machine)
    for metric in _metrics(devices):
        samples = []
        for item, base in zip(cgroups, own, strict=True):
            millis = item.usage.time // _MILLISECOND if metric.stamped else None
            for extra, value in metric.values(item):
                samples.append(Sample(value, f"{base},{labels(extra)}" if extra else base, millis))
        found.append(Family(metric.name, metric.kind, metric.about, samples))
    return [*found, *_scrape_error(0)]


def failed() -> list[Family]:
    """The page when the runtime could not be asked."""
    return _scrape_error(1)


def _metrics(devices: Mapping[str, str]) -> Iterable[_Metric]:
    """All of a cgroup's families."""
    for name, about, path, unit in _SPEC:
        yield _Metric(f"container_{name}", "gauge", about, _one(path, unit), stamped=False)
    for read, rows in (
        (_one, _PLAIN),
        (_under_quota, _THROTTLING),
        (_pressure, _PRESSURE),
        (_each_interface, _NETWORK),
        (_each_filesystem, _FILESYSTEMS),
    ):
        for name, about, path, unit in rows:
            grows = name.endswith(("_total", "_failcnt")) and name != "fs_inodes_total"
            yield _Metric(f"container_{name}", "counter" if grows else "gauge", about, read(path, unit))
    about = "Cumulative cpu time consumed in seconds."
    yield _Metric("container_cpu_usage_seconds_total", "counter", about, _cpu)
    about = "Cumulative count of memory allocation failures."
    yield _Metric("container_memory_failures_total", "counter", about, _page_faults)
    for name, about, path, _ in _DEVICES:
        yield _Metric(f"container_{name}", "counter", about, _each_device(path, devices))


def _labels(item: CgroupUse) -> str:
    names = ("container", "id", "image", "name", "namespace", "pod")
    return labels({name: getattr(item, name) for name in names})


def _one(path: str, unit: int) -> _Read:
    """The attribute of a CgroupUse at that dotted path, 0 for a limit that is none."""
    get = attrgetter(path)
    return lambda item: (({}, (get(item) or 0) / unit),)


def _under_quota(path: str, unit: int) -> _Read:
    read = _one(path, unit)
    return lambda item: read(item) if item.detail.quota else ()


def _pressure(path: str, unit: int) -> _Read:
    """Only where the kernel accounts pressure."""
    pressure, line = attrgetter(path.rpartition(".")[0]), path.rpartition(".")[2]
    return lambda item: () if pressure(item) is None else (({}, getattr(pressure(item), line).total / unit),)


def _each_interface(path: str, unit: int) -> _Read:
    get = attrgetter(path)
    return lambda item: (
        [({"interface": each.name}, get(each) / unit) for each in item.traffic.interfaces] if item.traffic else ()
    )


def _each_filesystem(path: str, unit: int) -> _Read:
    get = attrgetter(path)
    return lambda item: [({"device": device}, get(each) / unit) for device, each in item.filesystems.items()]


def _each_device(path: str, devices: Mapping[str, str]) -> _Read:
    get = attrgetter(path)
    return lambda item: [({"device": devices.get(each.device, "")}, get(each)) for each in item.detail.devices]


def _cpu(item: CgroupUse) -> _Values:
    return (({"cpu": "total"}, item.usage.cpu / _SECOND),)


def _page_faults(item: CgroupUse) -> _Values:
    found = item.usage.memory
    for scope in ("container", "hierarchy"):
        yield {"failure_type": "pgfault", "scope": scope}, found.page_faults
        yield {"failure_type": "pgmajfault", "scope": scope}, found.major_page_faults


def _machine(machine: Machine) -> list[Family]:
    ids = {"boot_id": machine.boot_id, "machine_id": machine.machine_id, "system_uuid": machine.system_uuid}
    own = labels(ids)
    return [
        Family("machine_cpu_cores", "gauge", "Number of logical CPU cores.", [Sample(machine.cpus, own)]),
        Family(
            "machine_memory_bytes", "gauge", "Amount of memory installed on the machine.", [Sample(machine.memory, own)]
        ),
        Family(
            "machine_swap_bytes",
            "gauge",
            "Amount of swap memory available on the machine.",
            [Sample(machine.swap, own)],
        ),
    ]


def _scrape_error(value: int) -> list[Family]:
    about = "1 if there was an error while getting container metrics, 0 otherwise"
    return [Family("container_scrape_error", "gauge", about, [Sample(value)])]


# Each row: the name without container_, the help text, the dotted path of the value, what it is divided by.

_SPEC = (
    ("creation_time_seconds", "Container creation time since unix epoch in seconds.", "created", _SECOND),
    ("start_time_seconds", "Start time of the container since unix epoch in seconds.", "started", _SECOND),
    ("spec_cpu_period", "CPU period of the container.", "detail.period", 1),
    ("spec_cpu_quota", "CPU quota of the container.", "detail.quota", 1),
    ("spec_cpu_shares", "CPU share of the container.", "detail.shares", 1),
    ("spec_memory_limit_bytes", "Memory limit for the container.", "usage.memory.limit", 1),
    ("spec_memory_swap_limit_bytes", "Memory swap limit for the container.", "usage.memory.swap_limit", 1),
    ("spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", "detail.reservation", 1),
)
_PLAIN = (
    ("last_seen", "Last time a container was seen by the exporter", "usage.time", _SECOND),
    ("cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", "detail.cpu_user", _SECOND),
    ("cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", "detail.cpu_system", _SECOND),
    ("memory_cache", "Number of bytes of page cache memory.", "usage.memory.cache", 1),
    ("memory_rss", "Size of RSS in bytes.", "usage.memory.rss", 1),
    ("memory_kernel_usage", "Size of kernel memory allocated in bytes.", "detail.kernel_usage", 1),
    ("memory_mapped_file", "Size of memory mapped files in bytes.", "usage.memory.mapped_file", 1),
    ("memory_swap", "Container swap usage in bytes.", "usage.memory.swap", 1),
    ("memory_failcnt", "Number of memory usage hits limits", "detail.failures", 1),
    (
        "memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        "usage.memory.usage",
        1,
    ),
    ("memory_max_usage_bytes", "Maximum memory usage recorded in bytes", "detail.max_usage", 1),
    ("memory_working_set_bytes", "Current working set in bytes.", "usage.memory.working_set", 1),
    ("memory_total_active_file_bytes", "Current total active file in bytes.", "usage.memory.active_file", 1),
    ("memory_total_inactive_file_bytes", "Current total inactive file in bytes.", "usage.memory.inactive_file", 1),
    ("oom_events_total", "Count of out of memory events observed for the container", "detail.oom_kills", 1),
    ("processes", "Number of processes running inside the container.", "processes", 1),
    ("threads", "Number of threads running inside the container", "detail.threads", 1),
    (
        "threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        "detail.threads_max",
        1,
    ),
)
_THROTTLING = (
    ("cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", "detail.periods", 1),
    (
        "cpu_cfs_throttled_periods_total",
        "Number of throttled period intervals.",
        "detail.throttled_periods",
        1,
    ),
    (
        "cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        "detail.throttled",
        _SECOND,
    ),
)
_STALLED = "Total time duration no tasks in the container could make progress due to {} congestion."
_WAITING = "Total time duration tasks in the container have waited due to {} congestion."
_PRESSURE = tuple(
    (f"pressure_{resource}_{what}_seconds_total", about.format(title), f"{path}.{line}", _PRESSURE_SECOND)
    for resource, title, path in (
        ("cpu", "CPU", "usage.cpu_pressure"),
        ("memory", "memory", "usage.memory.pressure"),
        ("io", "IO", "usage.io_pressure"),
    )
    for what, about, line in (("stalled", _STALLED, "full"), ("waiting", _WAITING, "some"))
)
_NETWORK = tuple(
    (f"network_{way}_{what}_total", about.format(done), f"{short}_{attribute}", 1)
    for way, done, short in (("receive", "receiv", "rx"), ("transmit", "transmitt", "tx"))
    for what, about, attribute in (
        ("bytes", "Cumulative count of bytes {}ed", "bytes"),
        ("packets", "Cumulative count of packets {}ed", "packets"),
        ("packets_dropped", "Cumulative count of packets dropped while {}ing", "dropped"),
        ("errors", "Cumulative count of errors encountered while {}ing", "errors"),
    )
)
_FILESYSTEMS = (
    ("fs_inodes_free", "Number of available Inodes", "inodes_free", 1),
    ("fs_inodes_total", "Number of Inodes", "inodes", 1),
    (
        "fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem.",
        "capacity",
        1,
    ),
    ("fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", "used", 1),
)
_DEVICES = (
    ("fs_reads_total", "Cumulative count of reads completed", "reads", 1),
    ("fs_reads_bytes_total", "Cumulative count of bytes read", "read_bytes", 1),
    ("fs_writes_total", "Cumulative count of writes completed", "writes", 1),
    ("fs_writes_bytes_total", "Cumulative count of bytes written", "written_bytes", 1),
)
