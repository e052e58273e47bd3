"""The pieces of the kubelet's Summary (k8s.io/kubelet/pkg/apis/stats/v1alpha1), from our samples. Pure.

Field by field the kubelet's, in the order of its types. Times have nanoseconds here, where metav1.Time has seconds:
whoever serves the Summary cuts them (vkcri.kubelet), and the metrics made from it keep them. What the kernel does not
account is left out, where the kubelet writes zeros: pressure on cgroup v1.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.stats.disk import Filesystem, Taken
from bridge.stats.network import DEFAULT, Interface, Traffic
from bridge.stats.usage import Memory, Pressure, Stall, Usage
from vkcri.api import times

Shape = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """A sample, and the nanocores between it and the one before."""

    usage: Usage
    nano_cores: int


def resources(found: Measured) -> Shape:
    """cpu, memory, io (where pressure is accounted) and swap of anything that was measured."""
    usage = found.usage
    shape = {"cpu": cpu(found), "memory": memory(usage)}
    if usage.io_pressure is not None:
        shape["io"] = {"time": stamp(usage.time), "psi": psi(usage.io_pressure)}
    shape["swap"] = swap(usage)
    return shape


def cpu(found: Measured) -> Shape:
    """CPUStats."""
    usage = found.usage
    shape = {
        "time": stamp(usage.time),
        "usageNanoCores": found.nano_cores,
        "usageCoreNanoSeconds": usage.cpu,
    }
    return _with_psi(shape, usage.cpu_pressure)


def memory(usage: Usage) -> Shape:
    """MemoryStats; availableBytes only under a limit."""
    found = usage.memory
    shape: Shape = {"time": stamp(usage.time)}
    if found.limit is not None:
        shape["availableBytes"] = max(0, found.limit - found.working_set)
    shape |= {
        "usageBytes": found.usage,
        "workingSetBytes": found.working_set,
        "rssBytes": found.rss,
        "pageFaults": found.page_faults,
        "majorPageFaults": found.major_page_faults,
    }
    return _with_psi(shape, found.pressure)


def swap(usage: Usage) -> Shape:
    """SwapStats; swapAvailableBytes only under a limit."""
    found = usage.memory
    shape: Shape = {"time": stamp(usage.time)}
    if found.swap_limit is not None:
        shape["swapAvailableBytes"] = max(0, found.swap_limit - found.swap)
    return {**shape, "swapUsageBytes": found.swap}


def psi(pressure: Pressure) -> Shape:
    """PSIStats, in the kernel's own units, as the kubelet passes them on."""
    return {"full": _stall(pressure.full), "some": _stall(pressure.some)}


def traffic(found: Traffic) -> Shape:
    """NetworkStats: the default interface's numbers, then those of all."""
    default = next((item for item in found.interfaces if item.name == DEFAULT), None)
    shape: Shape = {"time": stamp(found.time)}
    shape |= _interface(default) if default is not None else {"name": ""}
    if found.interfaces:
        shape["interfaces"] = [_interface(item) for item in found.interfaces]
    return shape


def fs(on: Filesystem | None, taken: Taken | None) -> Shape:
    """FsStats: what is taken, of which file system; time is the later one."""
    stamps = [item.time for item in (on, taken) if item is not None]
    shape: Shape = {"time": stamp(max(stamps, default=0))}
    if on is not None:
        shape |= {"availableBytes": on.available, "capacityBytes": on.capacity}
    if taken is not None:
        shape["usedBytes"] = taken.bytes
    if on is not None:
        shape |= {"inodesFree": on.inodes_free, "inodes": on.inodes}
    if taken is not None:
        shape["inodesUsed"] = taken.inodes
    return shape


def sum_of(parts: Iterable[Taken | None]) -> Taken | None:
    """What several things take together; None for nothing at all."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return Taken(
        max(part.time for part in found), sum(part.bytes for part in found), sum(part.inodes for part in found)
    )


def together(parts: Iterable[Measured]) -> Measured | None:
    """A pod's use by its containers', for a pod without a cgroup that can be read."""
    found = list(parts)
    if not found:
        return None
    memories = [part.usage.memory for part in found]
    limits = [item.limit for item in memories]
    total = Memory(
        usage=sum(item.usage for item in memories),
        working_set=sum(item.working_set for item in memories),
        rss=sum(item.rss for item in memories),
        swap=sum(item.swap for item in memories),
        page_faults=sum(item.page_faults for item in memories),
        major_page_faults=sum(item.major_page_faults for item in memories),
        limit=None if None in limits else sum(item for item in limits if item is not None),
    )
    usage = Usage(max(part.usage.time for part in found), sum(part.usage.cpu for part in found), total)
    return Measured(usage, sum(part.nano_cores for part in found))


def stamp(nanos: int) -> str:
    return times.nanoseconds(nanos)


def _interface(found: Interface) -> Mapping[str, Any]:
    return {
        "name": found.name,
        "rxBytes": found.rx_bytes,
        "rxErrors": found.rx_errors,
        "txBytes": found.tx_bytes,
        "txErrors": found.tx_errors,
    }


def _with_psi(shape: Shape, pressure: Pressure | None) -> Shape:
    return shape if pressure is None else {**shape, "psi": psi(pressure)}


def _stall(found: Stall) -> Shape:
    return {"total": found.total, "avg10": found.avg10, "avg60": found.avg60, "avg300": found.avg300}
