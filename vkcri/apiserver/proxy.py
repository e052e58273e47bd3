"""What the API server passes on to a node's kubelet API: logs, exec, attach, port-forward and nodes/proxy.

Runs in each request's thread. It speaks to the kubelet as a client of system:masters, by the API server's own client
certificate; the kubelet's serving certificate is not checked, as kube-apiserver's default, since a kubelet may serve a
self-signed one. Bytes are passed on as they are. Must not decide who may: rest.py has asked authz.
"""

import contextlib
import io
import logging
import math
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import quote, urlencode

from flask import Request, Response, request
from werkzeug.exceptions import BadGateway

from vkcri import splice
from vkcri.apiserver import negotiate
from vkcri.apiserver.chunks import Chunks
from vkcri.apiserver.routing import Target
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.farewell import farewell

log = logging.getLogger(__name__)
_CONNECT_SECONDS: Final = 10.0
_HEAD_SECONDS: Final = 40.0  # until the kubelet's answer begins; it waits 30 s for its runtime's
_WRITE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 2.0  # between two looks at whether the client of a silent stream is still there
_HEAD_BYTES: Final = 64 * 1024
_PIECE: Final = 64 * 1024
_BODILESS: Final = (204, 304)
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "host"}
)
# A subresource -> (the kubelet's path, our query's names -> the kubelet's).
_STREAM_PATHS: Final = {"exec": "exec", "attach": "attach", "portforward": "portForward"}
_STREAM_NAMES: Final = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
_CUT: Final = "the API server has ended, and this session with it"
_LOG_NAMES: Final = (
    "follow",
    "previous",
    "timestamps",
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "limitBytes",
    "stream",
)


@dataclass
class _Answer:
    """The head of a kubelet's answer, and the connection that its body comes from, after `rest`."""

    code: int
    headers: list[tuple[str, str]]
    head: bytes
    rest: bytes
    connection: ssl.SSLSocket

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


class Kubelet:
    """The kubelet APIs of the nodes. `client()`: TLS with the API server's own client certificate; `port`: for a node
    whose status names none."""

    def __init__(self, store: Store, client: Callable[[], ssl.SSLContext], port: int) -> None:
        self._store = store
        self._client = client
        self._port = port

    def logs(self, target: Target, query: Mapping[str, str]) -> Response:
        """GET pods/NAME/log. Empty for a pod that no node has yet, as in Kubernetes."""
        pod = self._pod(target)
        container = _container(pod, query.get("container", ""))
        if not pod["spec"].get("nodeName"):
            return Response("", 200, content_type="text/plain")
        asked = urlencode({name: query[name] for name in _LOG_NAMES if name in query})
        path = f"/containerLogs/{_path(target.namespace, target.name, container)}"
        answer = self._ask(pod["spec"]["nodeName"], "GET", f"{path}?{asked}" if asked else path)
        if answer.code != 200:
            raise _failure(answer)
        return _relayed(answer)

    def node(self, target: Target, given: Request) -> Response:
        """Any method on nodes/NAME/proxy/PATH."""
        query = given.query_string.decode("latin-1")
        path = quote(target.path or "/", safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
        body = given.stream.read(negotiate.LARGEST_BODY + 1)
        if len(body) > negotiate.LARGEST_BODY:
            raise StatusError.too_large("the request's body is too large")
        return _relayed(self._ask(target.name, given.method, path, headers=_passed_on(given), body=body))

    def stream(self, target: Target, given: Request) -> Response:
        """exec, attach and port-forward: the client's upgrade is made at the kubelet, then bytes go to and fro."""
        pod = self._pod(target)
        if not pod["spec"].get("nodeName"):
            raise StatusError.bad_request(f"pod {target.name} does not have a host assigned")
        if not given.headers.get("Upgrade"):
            raise StatusError.bad_request("Upgrade request required")
        path = f"/{_STREAM_PATHS[target.subresource]}/{_path(target.namespace, target.name)}"
        if target.subresource == "portforward":
            asked = [("port", port) for value in given.args.getlist("ports") for port in value.split(",")]
        else:
            path += "/" + quote(_container(pod, given.args.get("container", "")), safe="")
            asked = [("command", part) for part in given.args.getlist("command")]
            asked += [(name, "1") for ours, name in _STREAM_NAMES.items() if given.args.get(ours, "") in ("1", "true")]
        upgrade = {"Connection": "Upgrade", "Upgrade": given.headers["Upgrade"]}
        answer = self._ask(
            pod["spec"]["nodeName"],
            given.method,
            f"{path}?{urlencode(asked)}",
            headers={**_passed_on(given), **upgrade},
        )
        if answer.code != 101:
            return _refused(answer)
        return _spliced(answer, given, "" if target.subresource == "portforward" else _CUT)

    def _pod(self, target: Target) -> dict[str, Any]:
        pod = self._store.get("/pods", target.namespace, target.name)
        if pod is None:
            raise StatusError.not_found("pods", target.name)
        return pod

    def _ask(
        self,
        node: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> _Answer:
        """Send a request to a node's kubelet, the only one on its connection, and read the answer's head. Raises
        StatusError 404, 502, 503."""
        host, port = self._address(node)
        fields = {"Host": f"{host}:{port}", "User-Agent": "vkcri-apiserver", "Connection": "close", **(headers or {})}
        if body or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(body))
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in fields.items())
        try:
            connection = _connect(host, port, self._client())
        except OSError as error:
            raise StatusError.unavailable(f"the kubelet of {node} at {host}:{port}: {error}") from error
        try:
            connection.settimeout(_WRITE_SECONDS)
            connection.sendall((head + "\r\n").encode("latin-1") + body)
            return _read_head(connection)
        except (OSError, ValueError) as error:
            connection.close()
            raise StatusError(
                502, "BadGateway", f"error trying to reach the kubelet of {node} at {host}:{port}: {error}"
            ) from error

    def _address(self, name: str) -> tuple[str, int]:
        """Where a node's kubelet API is, by its status."""
        node = self._store.get("/nodes", "", name)
        if node is None:
            raise StatusError.not_found("nodes", name)
        status = node.get("status") or {}
        by_type = {item.get("type"): item.get("address") for item in reversed(status.get("addresses") or [])}
        host = by_type.get("InternalIP") or by_type.get("Hostname") or by_type.get("ExternalIP")
        if not host:
            raise StatusError.unavailable(f"node {name} has no address yet")
        endpoint = (status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        return str(host), int(endpoint.get("Port") or self._port)


def client_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS towards kubelets with the client certificate in these PEM files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(certificate, key)
    return context


def _connect(host: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain)
    except OSError:
        plain.close()
        raise


def _read_head(connection: ssl.SSLSocket) -> _Answer:
    """Read up to the blank line. Raises OSError, ValueError for what is no HTTP answer."""
    deadline, data = time.monotonic() + _HEAD_SECONDS, b""
    while b"\r\n\r\n" not in data:
        connection.settimeout(max(deadline - time.monotonic(), 0.01))
        piece = connection.recv(_PIECE)
        if not piece or len(data) > _HEAD_BYTES:
            raise ValueError("the kubelet's answer has no end of its head")
        data += piece
    head, rest = data.split(b"\r\n\r\n", 1)
    first, *lines = head.decode("latin-1").split("\r\n")
    protocol, code = [*first.split(" "), ""][:2]
    if not protocol.startswith("HTTP/1.") or not code.isdigit():
        raise ValueError(f"not an HTTP answer: {first[:80]!r}")
    pairs = (line.partition(":") for line in lines)
    headers = [(name.strip(), value.strip()) for name, _, value in pairs]
    return _Answer(int(code), headers, head + b"\r\n\r\n", rest, connection)


def _relayed(answer: _Answer) -> Response:
    """An answer whose body is passed on as it comes until either side ends it; cut where the kubelet's is."""
    client, closing = request.environ.get("vkcri.connection"), request.environ.get("vkcri.closing")

    def alive() -> bool:
        return not (closing is not None and closing.is_set()) and not (client is not None and client.disconnected())

    headers = [(name, value) for name, value in answer.headers if name.lower() not in (*_HOP_BY_HOP, "server", "date")]
    bodiless = request.method == "HEAD" or answer.code in _BODILESS
    response = Response(() if bodiless else _pieces(answer, alive), answer.code)
    response.call_on_close(answer.connection.close)  # also where nobody asks for a piece
    response.headers.clear()
    response.headers.extend(headers)
    return response


def _pieces(answer: _Answer, alive: Callable[[], bool]) -> Iterator[bytes]:
    """The body up to its last chunk, its Content-Length or the connection's end; an empty piece first sends the head
    at once. Raises BadGateway for one that breaks off, which cuts our own answer too."""
    length, chunks = answer.header("Content-Length"), Chunks() if _is_chunked(answer) else None
    left = int(length) if length.isdigit() and chunks is None else math.inf
    connection = answer.connection
    connection.settimeout(_WRITE_SECONDS)
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    try:
        piece = answer.rest
        while True:
            left -= len(piece)
            yield piece if chunks is None else chunks.feed(piece)
            if left <= 0 or (chunks is not None and chunks.ended):
                return
            while not connection.pending() and not poll.poll(1000 * _LOOK_SECONDS):
                if not alive():
                    raise BadGateway("the API server has ended")
            piece = connection.recv(_PIECE)
            if not piece and left == math.inf and chunks is None:
                return
            if not piece:
                raise BadGateway("the kubelet's answer broke off")
    except (OSError, ValueError) as error:
        log.info("the kubelet's stream broke: %s", error)
        raise BadGateway(f"the kubelet's answer broke off: {error}") from error


def _is_chunked(answer: _Answer) -> bool:
    return answer.header("Transfer-Encoding").lower() == "chunked"


def _failure(answer: _Answer) -> StatusError:
    """The kubelet's refusal of a log as a Status, which kubectl prints: a kubelet itself answers in plain words."""
    text = _whole(answer).decode(errors="replace").strip()
    if answer.code == 400:
        return StatusError.bad_request(text)
    if answer.code == 500:
        return StatusError.internal(text)
    reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}.get(answer.code)
    return StatusError(answer.code, reason or "Unknown", f"the kubelet answered {answer.code}: {text}")


def _refused(answer: _Answer) -> Response:
    """An upgrade that the kubelet did not make: its answer, whole."""
    return Response(_whole(answer), answer.code, content_type=answer.header("Content-Type") or "text/plain")


def _whole(answer: _Answer) -> bytes:
    """The body of an answer that ends. Raises StatusError 502."""
    try:
        answer.connection.settimeout(_HEAD_SECONDS)
        parsed = HTTPResponse(_Replay(answer))  # type: ignore[arg-type]  # all it asks of a socket is makefile()
        parsed.begin()
        return parsed.read(negotiate.LARGEST_BODY)
    except (OSError, HTTPException) as error:
        raise StatusError(502, "BadGateway", f"the kubelet's answer broke off: {error}") from error
    finally:
        answer.connection.close()


class _Replay(io.RawIOBase):
    """An answer from its first byte again, for the standard library's parser."""

    def __init__(self, answer: _Answer) -> None:
        self._read = answer.head + answer.rest
        self._connection = answer.connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._read[: len(buffer)] or self._connection.recv(len(buffer))
        self._read = self._read[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def _spliced(answer: _Answer, given: Request, last_words: str) -> Response:
    """Hand the kubelet's 101 to the client and pass bytes until either side is done or the server closes, which exec
    and attach are told."""
    with contextlib.closing(answer.connection):
        client, early = given.environ["vkcri.connection"].take_over()
        words = farewell(answer.head, last_words) if last_words else None
        if words is not None:
            words.from_client(early)
            words.from_backend(answer.rest)
        closing = given.environ["vkcri.closing"]
        try:
            splice.splice(
                client,
                answer.connection,
                to_client=answer.head + answer.rest,
                to_backend=early,
                stop=lambda: bool(closing.is_set()),
                farewell=words,
            )
            answer.connection.settimeout(1.0)
            answer.connection.unwrap()
        except (OSError, ValueError) as error:
            log.debug("the kubelet's end of a stream: %s", error)
    return Response(b"", 101)


def _passed_on(given: Request) -> dict[str, str]:
    """The client's headers, without its credentials and what concerns one connection only."""
    dropped = _HOP_BY_HOP | {"authorization", "accept-encoding", "cookie"}
    return {
        name: value
        for name, value in given.headers.items()
        if name.lower() not in dropped and not name.lower().startswith("impersonate-")
    }


def _container(pod: Mapping[str, Any], asked: str) -> str:
    """The container meant: the one asked for, or the only one. Raises StatusError 400 in Kubernetes' words."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    names = [item["name"] for item in spec.get("containers") or []]
    others = [item["name"] for field in ("initContainers", "ephemeralContainers") for item in spec.get(field) or []]
    if asked:
        if asked not in names + others:
            raise StatusError.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(names) == 1:
        return str(names[0])
    inits = [item["name"] for item in spec.get("initContainers") or []]
    more = f" or one of the init containers: [{' '.join(inits)}]" if inits else ""
    raise StatusError.bad_request(
        f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]{more}"
    )


def _path(*parts: str) -> str:
    return "/".join(quote(part, safe="") for part in parts)
