"""Prometheus text: log-server's own figures, and every process' text joined into one page with a `process` label.

`join` is pure. `Counters` is counted on request threads. The other processes are asked over their queue sockets, at the
same time and with a deadline, so that one that is stuck costs the page its own figures and nothing else.
"""

import os
import re
import resource
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vkcri.errors import VkcriError
from vkcri.instance import Instance
from vkcri.queue import request

ASK_SECONDS = 2.0
PROCESSES = {"watcher": "api-watcher", "provider": "cri-bridge", "proxy": "kube-proxy"}  # queue role -> program
_SUFFIXES = ("", "_bucket", "_sum", "_count", "_total", "_created", "_info")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+(?:\s+-?[0-9]+)?)\s*")
_META = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: (.*))?")


class Counters:
    """Requests by server, route and status code. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, int], int] = {}

    def count(self, server: str, route: str, code: int) -> None:
        with self._lock:
            key = (server, route, code)
            self._requests[key] = self._requests.get(key, 0) + 1

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All of it; `gauges`: name -> help, value."""
        lines = ["# HELP vkcri_http_requests_total Requests answered.", "# TYPE vkcri_http_requests_total counter"]
        with self._lock:
            for (server, route, code), count in sorted(self._requests.items()):
                labels = f'server="{server}",route="{_escape(route)}",code="{code}"'
                lines.append(f"vkcri_http_requests_total{{{labels}}} {count}")
        for name, (about, value) in {**gauges, **_process_gauges()}.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def collect(instance: Instance, own: Callable[[], str]) -> str:
    """The page: this process' text and that of each process that answers in time."""

    def ask(role: str) -> str:
        try:
            answer = request(instance.queue_socket(role), "metrics", {}, timeout=ASK_SECONDS)
        except VkcriError:
            return ""  # away or stuck: vkcri_process_up says so
        return str(answer.get("text") or "") if isinstance(answer, dict) else ""

    with ThreadPoolExecutor(len(PROCESSES), thread_name_prefix="metrics") as pool:
        texts = dict(zip(PROCESSES.values(), pool.map(ask, PROCESSES), strict=True))
    up = ["# HELP vkcri_process_up Whether the process answered for its metrics.", "# TYPE vkcri_process_up gauge"]
    texts = {program: "\n".join([*up, f"vkcri_process_up {int(bool(text))}", text]) for program, text in texts.items()}
    own_text = "\n".join([*up, "vkcri_process_up 1", own()])
    return join({"log-server": own_text, **texts})


def join(texts: Mapping[str, str]) -> str:
    """One page from many: a metric's samples stand together, each with `process`; a line that is none is left out."""
    metas: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for process, text in texts.items():
        family = ""
        for line in text.splitlines():
            if meta := _META.fullmatch(line):
                family = meta[2]
                metas.setdefault(family, {}).setdefault(meta[1], meta[3] or "")
            elif sample := _SAMPLE.fullmatch(line):
                name = sample[1]
                group = family if family and name.removeprefix(family) in _SUFFIXES else name
                labels = f'process="{process}"' + (f",{sample[2]}" if sample[2] else "")
                samples.setdefault(group, []).append(f"{name}{{{labels}}} {sample[3]}")
    lines: list[str] = []
    for family, members in samples.items():
        lines += [f"# {kind} {family} {text}".rstrip() for kind, text in sorted(metas.get(family, {}).items())]
        lines += members
    return "\n".join(lines) + "\n" if lines else ""


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _process_gauges() -> dict[str, tuple[str, float]]:
    """The figures that Prometheus' clients give of any process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "process_cpu_seconds_total": ("User and system CPU time in seconds.", usage.ru_utime + usage.ru_stime),
        "process_resident_memory_bytes": ("Resident memory in bytes.", pages * os.sysconf("SC_PAGE_SIZE")),
        "process_open_fds": ("Open file descriptors.", len(os.listdir("/proc/self/fd"))),
        "process_threads": ("Threads.", threading.active_count()),
    }
