"""What this machine is and how it fares: capacity, identity, processes. Read from /proc, /sys and /etc at each call.

No state. A file that is not there leaves its field empty: containers and small guests lack many of them.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from bridge.cgroupfs import host_hugepages, reserved_hugepages
from vkcri.api import quantities
from vkcri.api.architecture import go_architecture

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


def allocatable(capacity: Mapping[str, str], reserved: Mapping[str, int]) -> dict[str, str]:
    """Capacity without what is reserved (what the eviction thresholds keep free, in bytes by name) and without what
    huge pages have taken."""
    found = dict(capacity)
    memory = quantities.value(capacity["memory"]) - reserved.get("memory", 0)
    memory -= sum(quantities.value(amount) for name, amount in capacity.items() if name.startswith("hugepages-"))
    found["memory"] = f"{max(0, memory) // 1024}Ki"
    disk = quantities.value(capacity["ephemeral-storage"]) - reserved.get("ephemeral-storage", 0)
    found["ephemeral-storage"] = str(max(0, disk))
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
        "architecture": go_architecture(uname.machine),
    }


def os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def processes() -> tuple[int, int]:
    """How many processes (threads, as the kernel counts) there are on the machine, and how many there may be."""
    most = min(int(_text("/proc/sys/kernel/pid_max") or 0), int(_text("/proc/sys/kernel/threads-max") or 0))
    words = _text("/proc/loadavg").split()
    return int(words[3].partition("/")[2]) if len(words) > 3 else 0, most


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
