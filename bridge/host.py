"""What this machine is and how it fares: capacity, identity, pressure. Read from /proc, /sys and /etc at each call.

No state. A file that is not there leaves its field empty: containers and small guests lack many of them.
"""

import os
import platform
import shutil
from pathlib import Path

from bridge.cgroupfs import host_hugepages, reserved_hugepages
from vkcri.api import quantities

EVICT_MEMORY = 100 * 1024 * 1024
EVICT_DISK, EVICT_INODES = 0.10, 0.05
"""The kubelet's default hard eviction thresholds; what they keep free is not allocatable."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
_PAGE_UNITS = {"KB": "Ki", "MB": "Mi", "GB": "Gi"}


def capacity(disk: Path, max_pods: int) -> dict[str, str]:
    """The Node's capacity. disk: a folder on the file system that pods write to."""
    usage = os.statvfs(disk)
    found = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{_meminfo().get('MemTotal', 0)}Ki",
        "ephemeral-storage": f"{usage.f_blocks * usage.f_frsize // 1024}Ki",
        "pods": str(max_pods),
    }
    for size in host_hugepages():
        found[f"hugepages-{size[:-2]}{_PAGE_UNITS[size[-2:]]}"] = quantities.format(
            reserved_hugepages(size), binary=True
        )
    return found


def allocatable(capacity: dict[str, str]) -> dict[str, str]:
    """Capacity without what the eviction thresholds keep free and without what huge pages have taken."""
    found = dict(capacity)
    memory = quantities.value(capacity["memory"]) - EVICT_MEMORY
    memory -= sum(quantities.value(amount) for name, amount in capacity.items() if name.startswith("hugepages-"))
    found["memory"] = f"{max(0, memory) // 1024}Ki"
    found["ephemeral-storage"] = str(int(quantities.value(capacity["ephemeral-storage"]) * (1 - EVICT_DISK)))
    return found


def node_info(runtime: str) -> dict[str, str]:
    """NodeSystemInfo but for kubeletVersion. runtime: NAME://VERSION."""
    uname = os.uname()
    machine = _text("/etc/machine-id") or _text("/var/lib/dbus/machine-id")
    return {
        "machineID": machine,
        "systemUUID": _text("/sys/class/dmi/id/product_uuid") or machine,
        "bootID": _text("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": uname.release,
        "osImage": os_image(),
        "containerRuntimeVersion": runtime,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(uname.machine, uname.machine),
    }


def os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def memory_pressure() -> str:
    """What is wrong; empty while more memory is available than the threshold."""
    available = _meminfo().get("MemAvailable", 0) * 1024
    if available >= EVICT_MEMORY:
        return ""
    return f"{available >> 20}Mi of memory is available, the threshold is {EVICT_MEMORY >> 20}Mi"


def disk_pressure(disk: Path) -> str:
    """What is wrong; empty while the file system has room and inodes above the thresholds."""
    usage = os.statvfs(disk)
    total, free, _ = shutil.disk_usage(disk)
    del free
    if total and usage.f_bavail * usage.f_frsize < total * EVICT_DISK:
        return f"{usage.f_bavail * usage.f_frsize >> 20}Mi of {total >> 20}Mi is available in {disk}"
    if usage.f_files and usage.f_favail < usage.f_files * EVICT_INODES:
        return f"{usage.f_favail} of {usage.f_files} inodes are available in {disk}"
    return ""


def processes() -> tuple[int, int]:
    """How many processes (threads, as the kernel counts) there are on the machine, and how many there may be."""
    most = min(int(_text("/proc/sys/kernel/pid_max") or 0), int(_text("/proc/sys/kernel/threads-max") or 0))
    words = _text("/proc/loadavg").split()
    return int(words[3].partition("/")[2]) if len(words) > 3 else 0, most


def pid_pressure() -> str:
    """What is wrong; empty while fewer than nine tenths of the process numbers are taken."""
    running, most = processes()
    return f"{running} of {most} process numbers are taken" if most and running > most * 0.9 else ""


def _meminfo() -> dict[str, int]:
    """Kibibytes by name."""
    found = {}
    for line in _text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        amount = rest.split()
        if amount and amount[0].isdigit():
            found[name] = int(amount[0])
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
