"""What a kubelet API answers to whom, and the shape of such an answer: for comparing vkcri's with the kubelet's.

A shape is what can be compared of two answers about different pods and moments: which fields there are and of which
type, which metrics with which labels. Pure but for `Api`.
"""

import base64
import http.client
import json
import re
import ssl
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkcri.kube.client import Client

TIMEOUT = 30.0
ADMIN, WEAK, UNKNOWN, NOBODY = "admin", "weak", "unknown", "nobody"
_FAMILY = re.compile(r"# TYPE (\S+) (\S+)")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: (-?[0-9]+))?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_LISTS = ("managedFields", "interfaces")  # whose items are as many as there happen to be
_HISTOGRAM = ("_bucket", "_sum", "_count")


@dataclass(frozen=True)
class Answer:
    """One answer. `type` is its Content-Type."""

    status: int
    type: str
    body: str

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Metric:
    """One family: its type, the label names of its series, and each series' value (and time in ms) by its labels."""

    kind: str
    labels: set[frozenset[str]] = field(default_factory=set)
    samples: dict[tuple[tuple[str, str], ...], tuple[float, int | None]] = field(default_factory=dict)


class Api:
    """One node's kubelet API for four callers: an administrator by certificate, somebody by a token who may do
    nothing, one whose token nobody knows, and one without any."""

    def __init__(self, address: str, port: int, client: Client, certificate: Path, token: str) -> None:
        self._where = address, port
        self._contexts = {name: _context() for name in (ADMIN, WEAK)}
        self._contexts[ADMIN].load_cert_chain(certificate)
        self._tokens = {WEAK: token, UNKNOWN: "rubbish"}
        self.client = client

    def with_certificate(self, certificate: Path) -> "Api":
        """The same node, whose administrator shows that certificate."""
        return Api(*self._where, self.client, certificate, self._tokens[WEAK])

    def ask(self, path: str, who: str = ADMIN, method: str = "GET") -> Answer:
        context = self._contexts.get(who, self._contexts[WEAK])
        connection = http.client.HTTPSConnection(*self._where, timeout=TIMEOUT, context=context)
        try:
            token = self._tokens.get(who)
            connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            response = connection.getresponse()
            kind = response.headers.get("Content-Type", "").replace(" ", "")
            return Answer(response.status, kind, response.read().decode(errors="replace"))
        finally:
            connection.close()

    def metrics(self, path: str) -> dict[str, Metric]:
        """A page of metrics, which must be there, by family."""
        answer = self.ask(path)
        assert answer.status == 200, answer
        return metrics(answer.body)


def certificate_file(kubeconfig: Path) -> Path:
    """The client certificate and key of a kubeconfig that has both in it, as one private file beside it."""
    text, path = kubeconfig.read_text(), kubeconfig.with_suffix(".pem")
    found = re.findall(r"client-(?:certificate|key)-data: (\S+)", text)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:  # 0600
        file.write(b"".join(base64.b64decode(item) for item in found))
    Path(file.name).replace(path)
    return path


def metrics(text: str) -> dict[str, Metric]:
    """Prometheus' text format. A line that is none fails the test."""
    found: dict[str, Metric] = {}
    for line in text.splitlines():
        if meta := _FAMILY.fullmatch(line):
            found[meta[1]] = Metric(meta[2])
        elif not line.startswith("#") and line:
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            labels = dict(_LABEL.findall(sample[2] or ""))
            family = found.setdefault(_family(sample[1], found), Metric("untyped"))
            own = {name: value for name, value in labels.items() if not (family.kind == "histogram" and name == "le")}
            family.labels.add(frozenset(own))
            part = "" if sample[1] in found else sample[1].rpartition("_")[2]
            key = tuple(sorted({**labels, **({"": part} if part else {})}.items()))
            family.samples[key] = float(sample[3]), int(sample[4]) if sample[4] else None
    return found


def _family(name: str, found: Mapping[str, Metric]) -> str:
    """The family that a sample of that name belongs to; its own name where none was announced."""
    parts = (name.removesuffix(end) for end in ("", *_HISTOGRAM) if name.endswith(end))
    return next((part for part in parts if part in found), name)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(dotted path, JSON type) of every field; all items of a list are one."""
    if isinstance(value, dict):
        yield path, "object"
        for name, inner in value.items():
            yield from fields(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        yield path, "list"
        for inner in value:
            yield from fields(inner, f"{path}[]")
    else:
        yield path, "null" if value is None else type(value).__name__


def named(value: Any) -> Any:
    """The value with lists of things that have a name or type as objects by it, so that the same things meet; a pod's
    is its metadata's or podRef's."""
    if isinstance(value, dict):
        return {name: inner if name in _LISTS else named(inner) for name, inner in value.items()}
    if isinstance(value, list):
        keys = [_key(item) for item in value]
        if value and all(keys):
            return {key: named(item) for key, item in zip(keys, value, strict=True)}
        return [named(item) for item in value]
    return value


def _key(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    about = item.get("metadata") or item.get("podRef") or item
    name = str(about.get("name") or about.get("type") or "")
    return "kube-api-access" if name.startswith("kube-api-access-") else name  # the rest is random


def kinds(value: Any) -> dict[str, set[str]]:
    """Dotted path -> its JSON types. `int` and `float` are both JSON's number."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, kind in fields(value):
        found[path].add({"int": "number", "float": "number"}.get(kind, kind))
    return found


def series(metric: Metric, **wanted: str) -> Iterable[tuple[dict[str, str], float]]:
    """The series with these labels."""
    for key, (value, _) in metric.samples.items():
        labels = dict(key)
        if all(labels.get(name) == text for name, text in wanted.items()):
            yield labels, value


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the kubelet's is self-signed
    return context
