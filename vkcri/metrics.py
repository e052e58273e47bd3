"""What a process counts, for the queue request `metrics`: counters, gauges and histograms of any thread.

A part of a program asks the registry for its families when it is made and counts as it works; gauges are read when
the page is. Names and help texts are the kubelet's wherever it has the thing.
"""

import bisect
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from vkcri.api import exposition
from vkcri.api.exposition import Family, Kind, Sample

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Prometheus' default buckets, in seconds."""
_Labels = tuple[str, ...]


class _Collected(Protocol):
    def family(self) -> Family: ...


_C = TypeVar("_C", bound=_Collected)


class Counter:
    """Counts by label values. Thread-safe."""

    def __init__(self, name: str, about: str, labels: _Labels) -> None:
        self._name, self._about, self._labels = name, about, labels
        self._lock = threading.Lock()
        self._values: dict[_Labels, float] = {} if labels else {(): 0.0}

    def add(self, *values: str, amount: float = 1.0) -> None:
        """values: one for each label."""
        with self._lock:
            self._values[values] = self._values.get(values, 0.0) + amount

    def forget(self, matches: Callable[[_Labels], bool]) -> None:
        """Drop the series whose label values match: what they were about is gone."""
        with self._lock:
            self._values = {values: amount for values, amount in self._values.items() if not matches(values)}

    def family(self) -> Family:
        with self._lock:
            found = sorted(self._values.items())
        samples = [Sample(amount, _text(self._labels, values)) for values, amount in found]
        return Family(self._name, "counter", self._about, samples)


class Histogram:
    """Durations, or whatever else has a distribution, by label values. Thread-safe."""

    def __init__(self, name: str, about: str, labels: _Labels, bounds: Sequence[float]) -> None:
        self._name, self._about, self._labels, self._bounds = name, about, labels, tuple(bounds)
        self._lock = threading.Lock()
        self._series: dict[_Labels, tuple[list[int], list[float]]] = {}
        if not labels:
            self._series[()] = self._new()

    def observe(self, amount: float, *values: str) -> None:
        """values: one for each label."""
        place = bisect.bisect_left(self._bounds, amount)
        with self._lock:
            counts, total = self._series.setdefault(values, self._new())
            counts[place] += 1
            total[0] += amount

    def forget(self, matches: Callable[[_Labels], bool]) -> None:
        """Drop the series whose label values match: what they were about is gone."""
        with self._lock:
            self._series = {values: series for values, series in self._series.items() if not matches(values)}

    @contextmanager
    def time(self, *values: str) -> Iterator[None]:
        """Observe how many seconds the context takes, failed or not."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.observe(time.monotonic() - started, *values)

    def family(self) -> Family:
        with self._lock:
            found = [(values, list(counts), total[0]) for values, (counts, total) in sorted(self._series.items())]
        samples = []
        for values, counts, total in found:
            samples += exposition.histogram(counts, self._bounds, total, _text(self._labels, values))
        return Family(self._name, "histogram", self._about, samples)

    def _new(self) -> tuple[list[int], list[float]]:
        return [0] * (len(self._bounds) + 1), [0.0]


class _Gauge:
    def __init__(
        self,
        name: str,
        about: str,
        labels: _Labels,
        read: Callable[[], Mapping[_Labels, float]],
        kind: Kind = "gauge",
    ) -> None:
        self._name, self._about, self._labels, self._read, self._kind = name, about, labels, read, kind

    def family(self) -> Family:
        samples = [Sample(value, _text(self._labels, values)) for values, value in sorted(self._read().items())]
        return Family(self._name, self._kind, self._about, samples)


class Metrics:
    """The registry of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._families: dict[str, _Collected] = {}

    def counter(self, name: str, about: str, *labels: str) -> Counter:
        return self._add(name, Counter(name, about, labels))

    def histogram(self, name: str, about: str, *labels: str, bounds: Sequence[float] = DURATIONS) -> Histogram:
        return self._add(name, Histogram(name, about, labels, bounds))

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """read() runs when the page is made, on that request's thread."""
        self._add(name, _Gauge(name, about, (), lambda: {(): read()}))

    def gauges(self, name: str, about: str, labels: _Labels, read: Callable[[], Mapping[_Labels, float]]) -> None:
        """A gauge with labels; read() gives each series' value by its label values."""
        self._add(name, _Gauge(name, about, labels, read))

    def count_process(self) -> None:
        """Add what Prometheus' clients tell of any process, under their names."""
        began = time.time()
        name, about = "process_cpu_seconds_total", "Total user and system CPU time spent in seconds."
        self._add(name, _Gauge(name, about, (), lambda: {(): _cpu_seconds()}, "counter"))
        for name, about, read in (
            ("start_time_seconds", "Start time of the process since unix epoch in seconds.", lambda: began),
            ("resident_memory_bytes", "Resident memory size in bytes.", lambda: _pages(1)),
            ("virtual_memory_bytes", "Virtual memory size in bytes.", lambda: _pages(0)),
            ("open_fds", "Number of open file descriptors.", lambda: float(len(os.listdir("/proc/self/fd")))),
            ("max_fds", "Maximum number of open file descriptors.", _most_files),
            ("threads", "Threads.", lambda: float(threading.active_count())),
        ):
            self.gauge(f"process_{name}", about, read)

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        with self._lock:
            found = [self._families[name] for name in sorted(self._families)]
        return exposition.text(item.family() for item in found)

    def _add(self, name: str, made: _C) -> _C:
        with self._lock:
            if name in self._families:
                raise ValueError(f"metric {name} is there already")
            self._families[name] = made
        return made


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _pages(field: int) -> float:
    """Bytes of a field of statm: 0 is all of the address space, 1 what of it is in memory."""
    return float(Path("/proc/self/statm").read_text(encoding="ascii").split()[field]) * os.sysconf("SC_PAGE_SIZE")


def _most_files() -> float:
    return float(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _text(labels: _Labels, values: _Labels) -> str:
    return exposition.labels(dict(zip(labels, values, strict=True)))
