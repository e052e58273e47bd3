"""Counters of this process as Prometheus text. Any thread counts; the request `metrics` reads.

What it counts of its own has a prefix; what client-go and the kubelet count too is in the registry, under their names.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from vkcri.kube.reflector import Reflector
from vkcri.metrics import Metrics as Registry

_PREFIX = "vkcri_watcher_"
_LATENCIES = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
_SYNCS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0)


class Metrics:
    """Counters by name and labels; reflectors and gauges are asked when the text is made."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.registry.count_process()
        self._requests = self.registry.counter(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            *("code", "host", "method"),
        )
        self._request_seconds = self.registry.histogram(
            "rest_client_request_duration_seconds",
            "Request latency in seconds. Broken down by verb, and host.",
            *("host", "verb"),
            bounds=_LATENCIES,
        )
        self.status_syncs = self.registry.histogram(
            "kubelet_pod_status_sync_duration_seconds",
            "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status "
            "until the API is successfully updated for that pod, even if multiple intevening changes to pod status "
            "occur.",
            bounds=_SYNCS,
        )
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._reflectors: dict[str, Reflector] = {}

    def requested(self, method: str, host: str, code: str, seconds: float) -> None:
        """One request to the API server, as Client's observe."""
        self._requests.add(code, host, method)
        self._request_seconds.observe(seconds, host, method)

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter; its name ends in _total (or _sum, _count) and gets the prefix vkcri_watcher_."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            self._counters[key] = self._counters.get(key, 0.0) + amount

    def observe(self, name: str, seconds: float) -> None:
        """One duration, as NAME_seconds_sum and NAME_seconds_count."""
        self.count(f"{name}_seconds_sum", seconds)
        self.count(f"{name}_seconds_count")

    def gauge(self, name: str, value: Callable[[], float]) -> None:
        self._gauges[name] = value

    def reflector(self, name: str, reflector: Reflector) -> None:
        self._reflectors[name] = reflector

    def text(self) -> str:
        """All of it; lines of one name stand together."""
        with self._lock:
            counters = dict(self._counters)
        lines = [_line(name, labels, value) for (name, labels), value in counters.items()]
        lines += [_line(name, (), value()) for name, value in self._gauges.items()]
        for name, reflector in self._reflectors.items():
            lines += _reflector_lines((("resource", name),), reflector)
        return "".join(f"{line}\n" for line in _typed(sorted(lines))) + self.registry.text()


def _typed(lines: Iterable[str]) -> Iterator[str]:
    """Each family's lines behind its type."""
    for family, members in groupby(lines, _family):
        found = list(members)
        kind = "counter" if family.endswith("_total") else "summary" if family != _name(found[0]) else "gauge"
        yield f"# TYPE {family} {kind}"
        yield from found


def _name(line: str) -> str:
    return line.partition(" ")[0].partition("{")[0]


def _family(line: str) -> str:
    name = _name(line)
    return name.removesuffix("_sum").removesuffix("_count") if "_seconds_" in name else name


def _reflector_lines(labels: tuple[tuple[str, str], ...], reflector: Reflector) -> Iterable[str]:
    yield _line("lists_total", labels, reflector.lists)
    yield _line("watches_total", labels, reflector.watches)
    yield _line("watch_events_total", labels, reflector.events)
    yield _line("watch_failures_total", labels, reflector.failures)
    yield _line("synced", labels, float(reflector.synced))
    if reflector.last_error:
        yield _line("last_error", (*labels, ("message", reflector.last_error)), 1)


def _line(name: str, labels: tuple[tuple[str, str], ...], value: float) -> str:
    escaped = ((key, text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for key, text in labels)
    inner = ",".join(f'{key}="{text}"' for key, text in escaped)
    return f"{_PREFIX}{name}{{{inner}}} {value:g}" if inner else f"{_PREFIX}{name} {value:g}"
