"""Delays as data: how long to wait before the next try, with clock and randomness passed in.

`Backoff` is a delay's shape for one loop that counts its own attempts. `BackoffTable` remembers a delay for each key,
as the kubelet's flowcontrol.Backoff does: it doubles while the key keeps failing and starts over once the key was left
alone for twice the longest delay. Neither sleeps, reads a clock or locks: a table belongs to one thread.
"""

import random as random_module
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Delays first, first*factor, first*factor^2 ... up to most, in seconds; jitter 0.2 adds up to 20 % to each."""

    first: float
    factor: float
    most: float
    jitter: float = 0.0

    def delay(self, attempt: int, random: Callable[[], float] = random_module.random) -> float:
        """Seconds to wait after the failed attempt of this number; the first one is 0."""
        plain = self.first
        for _ in range(attempt):  # no power: attempt may be huge, and a float overflows
            if plain >= self.most:
                break
            plain *= self.factor
        return min(plain, self.most) * (1.0 + self.jitter * random())


@dataclass
class _Entry:
    delay: float
    updated: float


class BackoffTable:
    """A delay a key. Times are seconds of whatever clock the caller uses for all calls."""

    def __init__(self, first: float, most: float, *, factor: float = 2.0) -> None:
        self.first = first
        self.most = most
        self.factor = factor
        self._entries: dict[str, _Entry] = {}

    def next(self, key: str, now: float) -> float:
        """Note a failure at `now`; returns the delay that now holds for the key."""
        entry = self._entries.get(key)
        delay = self.first
        if entry is not None and not self._expired(entry, now):
            delay = min(entry.delay * self.factor, self.most)
        self._entries[key] = _Entry(delay, now)
        return delay

    def get(self, key: str) -> float:
        """The delay that holds for the key; 0 for one that never failed."""
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def remaining(self, key: str, since: float, now: float) -> float:
        """Seconds until `since` (when the last try ended) is the key's delay ago; 0 when it may be tried."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, since):
            return 0.0
        return max(0.0, entry.delay - (now - since))

    def remaining_since_update(self, key: str, now: float) -> float:
        """Seconds until the last `next` of the key is its delay ago; 0 when it may be tried."""
        entry = self._entries.get(key)
        if entry is None or self._expired(entry, now):
            return 0.0
        return max(0.0, entry.delay - (now - entry.updated))

    def reset(self, key: str) -> None:
        """Forget the key: its next failure starts over. Harmless for an unknown key."""
        self._entries.pop(key, None)

    def collect(self, now: float) -> None:
        """Forget keys that were left alone for twice the longest delay."""
        self._entries = {key: entry for key, entry in self._entries.items() if not self._expired(entry, now)}

    def _expired(self, entry: _Entry, now: float) -> bool:
        return now - entry.updated > 2 * self.most
