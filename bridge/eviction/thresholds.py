"""What the node must keep of memory, disk and processes: thresholds, from settings in the kubelet's notation. Pure.

Source: ParseThresholdConfig in pkg/kubelet/eviction/helpers.go, with NodeAllocatable enforced for pods: the hard
threshold of memory.available holds below kubepods, too. containerfs is always the file system of one of the two others
here, so that its signals say nothing of their own and are none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from vkcri.api import quantities
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Invalid

MEMORY, ALLOCATABLE_MEMORY, PID = "memory.available", "allocatableMemory.available", "pid.available"
NODE_DISK, NODE_INODES = "nodefs.available", "nodefs.inodesFree"
IMAGE_DISK, IMAGE_INODES = "imagefs.available", "imagefs.inodesFree"
CONDITIONS: Final = {
    MEMORY: "MemoryPressure",
    ALLOCATABLE_MEMORY: "MemoryPressure",
    NODE_DISK: "DiskPressure",
    NODE_INODES: "DiskPressure",
    IMAGE_DISK: "DiskPressure",
    IMAGE_INODES: "DiskPressure",
    PID: "PIDPressure",
}
RESOURCES: Final = {
    MEMORY: "memory",
    ALLOCATABLE_MEMORY: "memory",
    NODE_DISK: "ephemeral-storage",
    NODE_INODES: "inodes",
    IMAGE_DISK: "ephemeral-storage",
    IMAGE_INODES: "inodes",
    PID: "pids",
}
"""Signal -> what pods are ranked by, and what the kubelet calls it."""
_SETTABLE: Final = [signal for signal in CONDITIONS if signal != ALLOCATABLE_MEMORY]
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")


@dataclass(frozen=True)
class Amount:
    """So many units, or a share of the capacity."""

    units: int = 0
    share: Fraction = Fraction(0)
    text: str = ""

    def of(self, capacity: int) -> int:
        return self.units or int(capacity * self.share)

    def printed(self, capacity: int) -> str:
        """As the kubelet prints it in messages."""
        return self.text or quantities.format(self.of(capacity), binary=True)


@dataclass(frozen=True)
class Threshold:
    """The node is short when less than `least` is left of the signal; then something is done once that lasts `grace`
    seconds, 0: at once (a hard one). reclaim: how much more must be free for it to be over."""

    signal: str
    least: Amount
    grace: float = 0.0
    reclaim: Amount = Amount()

    @property
    def hard(self) -> bool:
        return self.grace == 0.0


def thresholds(hard: str, soft: str, soft_grace: str, reclaim: str) -> tuple[Threshold, ...]:
    """hard, soft: SIGNAL<AMOUNT by comma, an amount being a quantity or N%; soft_grace: SIGNAL=1m30s; reclaim:
    SIGNAL=AMOUNT. Raises Invalid."""
    graces = {signal: _seconds(text) for signal, text in _pairs(soft_grace, "=").items()}
    more = {signal: _amount(signal, text, least=0) for signal, text in _pairs(reclaim, "=").items()}
    found = [Threshold(signal, amount) for signal, amount in _amounts(hard).items()]
    if memory := next((item for item in found if item.signal == MEMORY), None):
        more.setdefault(ALLOCATABLE_MEMORY, more.get(MEMORY, Amount()))
        found.append(Threshold(ALLOCATABLE_MEMORY, memory.least))
    for signal, amount in _amounts(soft).items():
        if signal not in graces:
            raise Invalid(f"grace period must be specified for the soft eviction threshold {signal}")
        found.append(Threshold(signal, amount, graces[signal]))
    return tuple(Threshold(item.signal, item.least, item.grace, more.get(item.signal, Amount())) for item in found)


def settings_thresholds(settings: RuntimeSettings) -> tuple[Threshold, ...]:
    """Those of the node's configuration. Raises ConfigError."""
    try:
        return thresholds(
            settings.eviction_hard,
            settings.eviction_soft,
            settings.eviction_soft_grace_period,
            settings.eviction_minimum_reclaim,
        )
    except Invalid as error:
        raise ConfigError(f"eviction_hard, eviction_soft and what belongs to them: {error}") from error


def reserved(found: tuple[Threshold, ...], capacity: Mapping[str, str]) -> dict[str, int]:
    """What the hard thresholds keep free of each resource of the node, and so is not allocatable."""
    names = {MEMORY: "memory", NODE_DISK: "ephemeral-storage"}
    return {
        names[item.signal]: item.least.of(quantities.value(capacity.get(names[item.signal], "0")))
        for item in found
        if item.hard and item.signal in names
    }


def _amounts(text: str) -> dict[str, Amount]:
    """0% and 100% are no threshold."""
    pairs = {signal: value for signal, value in _pairs(text, "<").items() if value not in ("0%", "100%")}
    return {signal: _amount(signal, value, least=1) for signal, value in pairs.items()}


def _pairs(text: str, sign: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        signal, given, value = part.partition(sign)
        if not given or not value:
            raise Invalid(f"{part!r}: SIGNAL{sign}VALUE")
        if signal not in _SETTABLE:
            raise Invalid(f"unsupported eviction signal {signal}: one of {', '.join(_SETTABLE)}")
        if signal in found:
            raise Invalid(f"{signal} stands there twice")
        found[signal] = value
    return found


def _amount(signal: str, text: str, *, least: int) -> Amount:
    if text.endswith("%"):
        share = quantities.parse(text[:-1]) / 100
        if not 0 <= share <= 1:
            raise Invalid(f"eviction percentage threshold {signal} must be between 0% and 100%: {text}")
        return Amount(share=share)
    units = quantities.value(text)
    if units < least:
        raise Invalid(f"eviction threshold {signal} must be positive: {text}")
    return Amount(units=units, text=quantities.canonical(text))


def _seconds(text: str) -> float:
    """1h2m3s, in this order and each part at most once."""
    found = _DURATION.fullmatch(text)
    if not found or not any(found.groups()):
        raise Invalid(f"{text!r} is no duration such as 1m30s")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
