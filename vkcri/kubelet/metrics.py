"""Prometheus text: log-server's own figures, and every process' text joined into one page with a `process` label.

`join` is pure. `Counters` and `KubeletRequests` count on request threads. The other processes are asked over their
queue sockets, at the same time and with a deadline, so that one that is stuck costs the page its own figures and
nothing else.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from werkzeug.wsgi import ClosingIterator

from vkcri.errors import VkcriError
from vkcri.instance import Instance
from vkcri.metrics import Metrics
from vkcri.queue import request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ASK_SECONDS = 2.0
PROCESSES = {"watcher": "api-watcher", "provider": "cri-bridge", "proxy": "kube-proxy"}  # queue role -> program
_LABELS = ("long_running", "method", "path", "server_type")
_LONG = ("exec", "attach", "portforward", "debug")  # the kubelet's list, which no path of its own `portForward` is in
_METHODS = ("OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "CONNECT")
_PATHS = frozenset(("attach", "checkpoint", "configz", "containerLogs", "debug", "exec", "healthz", "logs", "metrics"))
_PATHS |= {
    "metrics/cadvisor",
    "metrics/probes",
    "metrics/resource",
    "pods",
    "portForward",
    "run",
    "runningpods",
    "stats",
}
_SUFFIXES = ("", "_bucket", "_sum", "_count", "_total", "_created", "_info")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+(?:\s+-?[0-9]+)?)\s*")
_META = re.compile(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: (.*))?")


class Counters:
    """Requests of both servers, in this process' registry. Thread-safe."""

    def __init__(self) -> None:
        self.registry = Metrics()
        self.registry.count_process()
        about = "Requests answered."
        self._answered = self.registry.counter("vkcri_http_requests_total", about, "server", "route", "code")
        about = "Total number of WebSocket streaming requests (exec/attach/portforward) received by the kubelet."
        self.websockets = self.registry.counter("kubelet_websocket_streaming_requests_total", about, "subresource")

    def count(self, server: str, route: str, code: int) -> None:
        self._answered.add(server, route, str(code))

    def text(self) -> str:
        return self.registry.text()


class KubeletRequests:
    """The kubelet's figures of its server, kubelet_http_*: a WSGI application around another.

    A request is under way until its answer's last byte, an upgraded one until its connection ends. Source: ServeHTTP in
    pkg/kubelet/server/server.go."""

    def __init__(self, app: "WSGIApplication", registry: Metrics) -> None:
        self._app = app
        about = "Number of the http requests received since the server started"
        self._total = registry.counter("kubelet_http_requests_total", about, *_LABELS)
        about = "Duration in seconds to serve http requests"
        self._seconds = registry.histogram("kubelet_http_requests_duration_seconds", about, *_LABELS)
        self._lock = threading.Lock()
        self._inflight: dict[tuple[str, ...], float] = {}
        registry.gauges(
            "kubelet_http_inflight_requests", "Number of the inflight http requests", _LABELS, self._under_way
        )

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        labels = request_labels(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        began = time.monotonic()
        self._total.add(*labels)
        self._change(labels, 1)

        def ended() -> None:
            self._change(labels, -1)
            self._seconds.observe(time.monotonic() - began, *labels)

        try:
            answer = self._app(environ, start_response)
        except BaseException:
            ended()
            raise
        return ClosingIterator(answer, ended)

    def _change(self, labels: tuple[str, ...], by: int) -> None:
        with self._lock:
            self._inflight[labels] = self._inflight.get(labels, 0.0) + by

    def _under_way(self) -> dict[tuple[str, ...], float]:
        with self._lock:
            return dict(self._inflight)


def request_labels(method: str, path: str) -> tuple[str, str, str, str]:
    """long_running, method, path and server_type of a request, so that no caller makes series of its own."""
    first, _, rest = path.removeprefix("/").partition("/")
    root = f"{first}/{rest.partition('/')[0]}" if first == "metrics" and rest else first
    known = root if root in _PATHS else "other"
    return "true" if known in _LONG else "false", method if method in _METHODS else "other", known, "readwrite"


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
