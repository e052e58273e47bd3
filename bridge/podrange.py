"""Which range the default network takes its pods' addresses from, and when that is known. Pure.

Some clusters give each Node a range (spec.podCIDR), a moment after it was registered; others never do, and nothing that
a node may read tells which of the two it has joined. So a Node without a range is given time for one, and meanwhile
there is no network, as a CNI plugin that waits for a range has it; then the instance's own range serves. The time is
what a controller manager takes that has to wait for the end of its predecessor's leadership. No Node at all is waited
for as long: with the API server away static pods start all the same, of the instance's own range, which then stays
until they are gone. A Node that comes later has time for its range again. The embedded API server gives the instance's
range with the Node, or none, so that there nothing is waited for.

    no Node ── Node, or GRACE_SECONDS ──▶ range        Node without a range ── range, or GRACE_SECONDS ──▶ range
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from vkcri.api import times
from vkcri.errors import Invalid

GRACE_SECONDS = 20.0


@dataclass(frozen=True)
class Pending:
    """Not known yet, for this reason. seconds: after how many a look is due, though nothing was heard by then."""

    reason: str
    seconds: float


@dataclass(frozen=True)
class Known:
    """given: whether the cluster gave it; else it is the instance's own."""

    subnet: IPv4Network
    given: bool


class PodRange:
    """own: the instance's range. late: whether the cluster may give a range later than it shows the Node; the embedded
    API server does not."""

    def __init__(self, own: IPv4Network, *, late: bool) -> None:
        self._own = own
        self._late = late
        self._seen: tuple[str | None, float] | None = None  # which Node, None for no Node, and since when

    def look(self, node: Mapping[str, Any], *, stands: bool, now: float, wall: float) -> Known | Pending:
        """The range as of this Node, {} for none. stands: our network is there, of an earlier life; then a Node that is
        old by the wall clock has had its time before we began. now: monotonic seconds; wall: since the epoch."""
        given = cidrs(node)
        if given or not self._late:
            return self._of(given)
        which = str((node.get("metadata") or {}).get("uid") or "") if node else None
        if self._seen is None or self._seen[0] != which:
            self._seen = (which, now)
        left = GRACE_SECONDS - max(now - self._seen[1], _age(node, wall) if stands and node else 0.0)
        if left > 0:
            return Pending("the Node has no podCIDR yet" if node else "the Node is not registered yet", left)
        return Known(self._own, given=False)

    def _of(self, given: tuple[str, ...]) -> Known:
        """The first range of IPv4; the instance's own where there is none of these."""
        for part in given:
            try:
                return Known(IPv4Network(part), given=True)
            except ValueError:
                continue  # of IPv6
        return Known(self._own, given=False)


def cidrs(node: Mapping[str, Any]) -> tuple[str, ...]:
    """The ranges that the Node was given; empty for none."""
    spec = node.get("spec") or {}
    return tuple(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ()))


def _age(node: Mapping[str, Any], wall: float) -> float:
    """Seconds since the Node was created; 0 where it does not say when."""
    try:
        return wall - times.to_epoch(str((node.get("metadata") or {}).get("creationTimestamp") or ""))
    except Invalid:
        return 0.0
