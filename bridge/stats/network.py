"""Traffic of network interfaces, from the kernel's /proc/PID/net/dev. Pure."""

from dataclasses import dataclass

DEFAULT = "eth0"
"""The interface whose numbers stand for the pod's, as the kubelet has it."""
_IGNORED = ("lo", "veth", "docker", "nerdctl")  # cAdvisor's list


@dataclass(frozen=True, slots=True)
class Interface:
    """Counts since the interface came up."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """All interfaces of a network namespace at a time (nanoseconds since the epoch)."""

    time: int
    interfaces: tuple[Interface, ...]


def interfaces(text: str) -> tuple[Interface, ...]:
    """The interfaces that count, in the file's order. Raises ValueError for a text that is not the kernel's."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = [int(word) for word in rest.split()]
        if len(numbers) != 16:
            raise ValueError(f"{len(numbers)} numbers in a line of net/dev")
        if not name.strip().lower().startswith(_IGNORED):
            found.append(Interface(name.strip(), *numbers[0:4], *numbers[8:12]))
    return tuple(found)
