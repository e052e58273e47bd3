"""The two API servers that are compared, each as an administrator's plain HTTPS requests meet it."""

import base64
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import yaml

SECONDS = 60.0
_IDLE_SECONDS = 30.0  # both servers close a connection that nobody used for 90
Object = dict[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """`body` is the parsed JSON, or the text where it is none."""

    code: int
    headers: Mapping[str, str]
    body: Any
    warnings: tuple[str, ...] = ()


class Side:
    """One API server, called `name` in what a failed comparison says."""

    def __init__(self, name: str, kubeconfig: Path, forget: Callable[[int], None] = lambda _: None) -> None:
        """`forget` drops what was before a version, where the server does not do so by itself when much has changed."""
        self.name, self.kubeconfig = name, kubeconfig
        self._forget = forget
        content = yaml.safe_load(kubeconfig.read_text())
        server = urlsplit(content["clusters"][0]["cluster"]["server"])
        self._address = (str(server.hostname), server.port)
        self._context = _context(content)
        self._connection: http.client.HTTPSConnection | None = None
        self._used = 0.0

    def request(
        self, method: str, path: str, body: Any = None, *, query: Mapping[str, Any] | None = None, **headers: str
    ) -> Answer:
        """One request; header names have underscores for hyphens. One connection is kept, and made anew
        after a time in which the server may have closed it."""
        target = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "Accept": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if time.monotonic() - self._used > _IDLE_SECONDS:
            self.close()
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(*self._address, timeout=SECONDS, context=self._context)
        try:
            self._connection.request(method, target, body=data, headers=sent)
            answer = self._connection.getresponse()
            text = answer.read()
            self._used = time.monotonic()
        except BaseException:
            self.close()
            raise
        pairs = [(key.lower(), value) for key, value in answer.getheaders()]
        warnings = tuple(value for key, value in pairs if key == "warning")
        return Answer(answer.status, dict(pairs), _parsed(text), warnings)

    def watch(self, path: str, *, accept: str = "application/json", **query: Any) -> "Stream":
        """A watch, begun: what it says of the time before is already on its way."""
        target = f"{path}?{urlencode({'watch': 'true', **query})}"
        return Stream(
            http.client.HTTPSConnection(*self._address, timeout=SECONDS, context=self._context), target, accept
        )

    def get(self, path: str, **query: Any) -> Any:
        """The body of a GET that succeeds."""
        answer = self.request("GET", path, query=query)
        assert answer.code == 200, f"{self.name}: GET {path}: {answer}"
        return answer.body

    def create(self, obj: Object, namespace: str = "", **query: Any) -> Answer:
        return self.request("POST", collection(obj, namespace), obj, query=query)

    def forget(self, version: str) -> None:
        """What was before that version is no longer kept, if 2 MB of its kind have changed since."""
        self._forget(int(version))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Stream:
    """A watch's answer, read as it comes; a context that closes it."""

    def __init__(self, connection: http.client.HTTPSConnection, target: str, accept: str) -> None:
        self._connection = connection
        connection.request("GET", target, headers={"Accept": accept})
        self._answer = connection.getresponse()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def refusal(self) -> Answer:
        """The answer where it is no stream."""
        return Answer(self._answer.status, {}, _parsed(self._answer.read()))

    def read(self, count: int) -> list[tuple[str, Any]]:
        """The next events, as (type, object), fewer where the server ends the watch."""
        found: list[tuple[str, Any]] = []
        while len(found) < count and (line := self._answer.readline()):
            event = json.loads(line)
            found.append((event["type"], event["object"]))
        return found


Pair = tuple[Side, Side]


def in_both(pair: Pair, ask: Callable[[Side], _T]) -> list[_T]:
    """The answers of the embedded and of the real one."""
    return [ask(side) for side in pair]


CLUSTER_WIDE = ("Namespace", "Node", "RuntimeClass")


def collection(obj: Object, namespace: str) -> str:
    """The path that an object is created at."""
    version, kind = obj["apiVersion"], obj["kind"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    plural = kind.lower() + ("" if kind == "Endpoints" else "es" if kind.endswith("s") else "s")
    return f"{root}/{plural}" if kind in CLUSTER_WIDE else f"{root}/namespaces/{namespace}/{plural}"


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def _context(content: Mapping[str, Any]) -> ssl.SSLContext:
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as pair:  # ssl reads a pair from a file alone
        pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        pair.flush()
        context.load_cert_chain(pair.name)
    return context
