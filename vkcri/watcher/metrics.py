"""Counters of this process as Prometheus text. Any thread counts; the request `metrics` reads."""

import threading
from collections.abc import Callable, Iterable

from vkcri.kube.reflector import Reflector

_PREFIX = "vkcri_watcher_"


class Metrics:
    """Counters by name and labels; reflectors and gauges are asked when the text is made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._reflectors: dict[str, Reflector] = {}

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
        return "".join(f"{line}\n" for line in sorted(lines))


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
