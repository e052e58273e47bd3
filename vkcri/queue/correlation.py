"""Which events of one process are told as one, by the rules of client-go's EventAggregator. Pure; the clock is the
caller's.

Ten different messages about one object, of one type and reason, each within ten minutes of the one before: from then on
a new message only changes the one event that stands for all of them, while those that are known go on by themselves.
Source: client-go, tools/record/events_cache.go.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

SIMILAR = 10
INTERVAL = 600.0
MOST_GROUPS = 4096
COMBINED = "(combined from similar events): "


@dataclass
class _Group:
    """messages: those told by themselves, the oldest first; last: when one of any kind was heard."""

    last: float
    messages: OrderedDict[str, None] = field(default_factory=OrderedDict)


class Aggregator:
    """Not thread-safe."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, _Group] = OrderedDict()

    def is_one_of_many(self, group: str, message: str, now: float) -> bool:
        """Whether this message, of events that differ in nothing else, is told by the event for all of them. now:
        seconds."""
        known = self._groups.pop(group, None)
        if known is None or now - known.last > INTERVAL:
            known = _Group(now)
        self._groups[group] = known
        while len(self._groups) > MOST_GROUPS:
            self._groups.popitem(last=False)
        known.last = now
        known.messages[message] = None
        if len(known.messages) < SIMILAR:
            return False
        known.messages.popitem(last=False)
        return True
