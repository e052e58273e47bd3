"""RFC 3339 times as the API server writes and reads them: metav1.Time (seconds), MicroTime, and nanoseconds in logs.

Pure: no clock here. A time is an int of nanoseconds since the epoch (CRI's unit), because a float loses digits and
datetime has only micros.
"""

import calendar
import re
import time

from vkcri.errors import Invalid

NANO = 1_000_000_000
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def parse(text: str) -> int:
    """Nanoseconds since the epoch; a fraction of up to nine digits and any zone. Raises Invalid."""
    found = _RFC3339.fullmatch(text)
    if not found:
        raise Invalid(f"{text!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS[month - 1] - (month == 2 and not leap):
        raise Invalid(f"{text!r}: no such day")
    if hour > 23 or minute > 59 or second > 60:
        raise Invalid(f"{text!r}: no such time of day")
    seconds = calendar.timegm((year, month, day, hour, minute, second)) - _offset(found.group(8), text)
    return seconds * NANO + int((found.group(7) or "0").ljust(9, "0"))


def seconds(nanos: int) -> str:
    """metav1.Time: 2026-11-23T21:41:00Z (a fraction is cut off, as Go's formatting does)."""
    whole = nanos // NANO
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(whole))


def micros(nanos: int) -> str:
    """metav1.MicroTime (Lease, Event series): always six digits."""
    return f"{seconds(nanos)[:-1]}.{nanos % NANO // 1000:06d}Z"


def nanoseconds(nanos: int) -> str:
    """Nine digits, as CRI's log lines and containerd write them."""
    return f"{seconds(nanos)[:-1]}.{nanos % NANO:09d}Z"


def nano(nanos: int) -> str:
    """Go's RFC3339Nano: trailing zeros of the fraction are left out, as in `kubectl logs --timestamps`."""
    fraction = f"{nanos % NANO:09d}".rstrip("0")
    return f"{seconds(nanos)[:-1]}.{fraction}Z" if fraction else seconds(nanos)


def of(epoch_seconds: float) -> int:
    """Nanoseconds of a time.time() value."""
    return round(epoch_seconds * NANO)


def to_epoch(text: str) -> float:
    """time.time()'s unit; exact to the microsecond only."""
    return parse(text) / NANO


def _offset(zone: str, text: str) -> int:
    if zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if hours > 23 or minutes > 59:
        raise Invalid(f"{text!r}: no such zone")
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
