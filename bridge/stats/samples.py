"""The thread `stats`: every cgroup of this node sampled each PERIOD, the newest two and a short history of each kept.

PERIOD is cAdvisor's housekeeping interval in a kubelet. Readers take what is there; only a cgroup that has appeared
since the last round is sampled when somebody asks for it. One lock guards the files' reading and all samples.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.stats.reading import CgroupReader
from bridge.stats.shapes import Measured
from bridge.stats.usage import Usage, rate
from vkcri.lifecycle import Process

PERIOD = 10.0
HISTORY = 60
"""Samples kept for people: ten minutes."""
ROUND_SECONDS = 60.0


class Point(NamedTuple):
    """One sample as people see it: seconds since the epoch, nanocores, bytes."""

    time: float
    nano_cores: int
    working_set: int


@dataclass
class _Track:
    """One cgroup's, or one process group's, samples."""

    read: Callable[[], Usage | None]
    before: Usage | None = None
    newest: Usage | None = None
    history: deque[Point] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def sample(self) -> bool:
        """Whether there was something to read."""
        usage = self.read()
        if usage is None:
            return False
        self.before, self.newest = self.newest, usage
        if self.before is not None:
            self.history.append(Point(usage.time / 1e9, rate(self.before, usage), usage.memory.working_set))
        return True


class Samples:
    """Samples by name: a cgroup's path, or the name of one of `groups`. Thread-safe.

    names(): the cgroups to sample in this round.
    """

    def __init__(
        self,
        reader: CgroupReader,
        names: Callable[[], Iterable[str]],
        groups: Mapping[str, Callable[[], Usage | None]],
    ) -> None:
        self._reader = reader
        self._names = names
        self._groups = groups
        self._lock = threading.Lock()
        self._tracks: dict[str, _Track] = {}
        self.rounds = 0

    def start(self, process: Process) -> None:
        def loop() -> None:
            due = time.monotonic()
            while not process.stopping.is_set():
                with process.expect("a round of samples", ROUND_SECONDS):
                    self.take()
                due = max(due + PERIOD, time.monotonic())
                process.wait(due - time.monotonic())

        process.start_thread("stats", loop)

    def take(self) -> None:
        """One round."""
        wanted = dict.fromkeys([*self._names(), *self._groups])
        with self._lock:
            tracks = {}
            for name in wanted:
                track = self._tracks.get(name) or self._new(name)
                if track.sample():
                    tracks[name] = track
            self._tracks = tracks
            self._reader.keep(tracks)
            self.rounds += 1

    def measured(self, name: str) -> Measured | None:
        """The newest sample, taken now where there is none yet; None where there is nothing to measure."""
        with self._lock:
            track = self._tracks.get(name)
            if track is None:
                track = self._new(name)
                if not track.sample():
                    return None
                self._tracks[name] = track
            if track.newest is None:
                return None
            return Measured(track.newest, rate(track.before, track.newest))

    def history(self, name: str) -> list[Point]:
        """The last samples, oldest first; none for what is not measured."""
        with self._lock:
            track = self._tracks.get(name)
            return list(track.history) if track is not None else []

    def _new(self, name: str) -> _Track:
        return _Track(self._groups.get(name) or (lambda: self._reader.usage(name)))
