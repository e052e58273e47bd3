"""What a kind's printer is made of: its columns, and the cells that many kinds have, in the words of Kubernetes'
pkg/printers. Pure; `now` (epoch seconds) is passed in.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vkcri.api import times
from vkcri.errors import Invalid

Object = Mapping[str, Any]
NONE: Final = "<none>"
UNKNOWN: Final = "<unknown>"


@dataclass(frozen=True)
class Column:
    """`priority` 1: shown with -o wide only."""

    name: str
    description: str
    priority: int = 0
    type: str = "string"
    format: str = ""

    def as_definition(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


@dataclass(frozen=True)
class Printer:
    """A kind's columns, and the cells of one object in their order."""

    columns: tuple[Column, ...]
    cells: Callable[[Object, float], list[Any]]
    conditions: Callable[[Object], list[dict[str, Any]]] = lambda _obj: []


NAME: Final = Column("Name", "the object's name, unique in its namespace", format="name")
AGE: Final = Column("Age", "the time since the object was created")


def age(stamp: str | None, now: float) -> str:
    """The time since an RFC 3339 stamp, as `kubectl get` writes it."""
    if not stamp:
        return UNKNOWN
    try:
        return duration(now - times.to_epoch(stamp))
    except Invalid:
        return UNKNOWN


def duration(seconds: float) -> str:
    """Seconds as people read them: 45s, 2m5s, 47h, 3d1h, 2y30d (k8s.io/apimachinery's HumanDuration)."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    minutes, hours = whole // 60, whole // 3600
    if whole < 120:
        return f"{max(whole, 0)}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 24 * 8:
        return _two(hours // 24, "d", hours % 24, "h")
    if hours < 24 * 365 * 2:
        return f"{hours // 24}d"
    if hours < 24 * 365 * 8:
        return _two(hours // 24 // 365, "y", hours // 24 % 365, "d")
    return f"{hours // 24 // 365}y"


def created(obj: Object, now: float) -> str:
    """The Age cell."""
    return age(obj["metadata"].get("creationTimestamp"), now)


def name_of(obj: Object) -> str:
    return str(obj["metadata"].get("name", ""))


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"
