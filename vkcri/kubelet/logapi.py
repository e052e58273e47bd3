"""The log API for people: pods and logs over plain HTTP on loopback, with curl, a browser or EventSource.

A Flask application on vkcri.httpd; runs on request threads. A browser must not become somebody else's hand here: a Host
that is not ours is refused (DNS rebinding), no CORS header is sent, and everything but the page that says how wants the
token. The token is compared in constant time and appears in no log.
"""

import hmac
import ipaddress
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from vkcri import certs
from vkcri.api import times
from vkcri.config import KubeletSettings
from vkcri.errors import Invalid, NotFound, VkcriError
from vkcri.kubelet import downloads, webpage
from vkcri.kubelet.logs import Blocks, Options
from vkcri.kubelet.parts import Parts, log_answer, stopped, text, while_served
from vkcri.kubelet.pods import Pod
from vkcri.kubelet.programs import Programs
from vkcri.kubelet.webpage import Happened

_STATUS = {NotFound: 404, Invalid: 400}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]+))?")
_LINE_END = re.compile(r"\r\n|\r|\n")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_INDEX = """vkcri: logs of this node (a browser finds the node's page here)

GET /pods                                  pods and containers with their state, as JSON
GET /logs/NAMESPACE/POD[/CONTAINER]        a log as text; CONTAINER may be left out when the pod has one
    ?follow=1      go on as it is written, until the container ends
    &tail=N        begin at the last N lines
    &since=...     90s, 5m, 1h30m, 2d, or 2026-11-23T10:00:00Z
    &timestamps=1  begin each line with its time
    &previous=1    of the container before the last restart
    &sse=1         as server-sent events (also with Accept: text/event-stream)

Every request but this one wants the token in {token_file}:
    curl -H "Authorization: Bearer $(cat {token_file})" http://{host}/pods
A browser's EventSource, which can send no header, passes it as ?token=...
"""


def load_token(path: Path) -> str:
    """The API's token; made once and kept (0600)."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(32)
        certs.write_private(path, f"{token}\n".encode())
    return token


def make_app(parts: Parts, settings: KubeletSettings, token: str, programs: Programs, happened: Happened) -> Flask:
    """The log API and the web page as a WSGI application."""
    app = Flask("vkcri.kubelet.logapi", static_folder=None)
    app.url_map.merge_slashes = app.url_map.strict_slashes = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
    app.before_request(lambda: _admit(settings, token))
    app.after_request(lambda response: _finish(parts, response))
    app.register_error_handler(VkcriError, lambda error: text(f"{error}\n", _STATUS.get(type(error), 503)))
    app.register_error_handler(HTTPException, lambda error: text(f"{error.code} {error.name}\n", error.code or 500))

    def described() -> list[dict[str, Any]]:
        return [describe(pod) for pod in parts.pods.all()]

    webpage.add_routes(app, parts, programs, happened, described)
    downloads.add_routes(app, parts, downloads.Tickets())

    @app.get("/")
    def index() -> Response:
        if "text/html" in request.headers.get("Accept", ""):
            return webpage.file("page.html")
        return text(_INDEX.format(token_file=settings.instance.log_api_token_file, host=request.host))

    @app.get("/pods")
    def pods() -> Response:
        body = json.dumps(described(), indent=2)
        return Response(body + "\n", content_type="application/json")

    @app.get("/logs/<namespace>/<name>")
    @app.get("/logs/<namespace>/<name>/<container>")
    def logs(namespace: str, name: str, container: str = "") -> Response:
        options = log_options(request.args, parts.now())
        container = container or _only_container(parts.pods.find(namespace, name), name)

        def opened() -> Blocks:
            return parts.logs.open(namespace, name, container, options, stopped())

        blocks = parts.people.follow(opened) if options.follow else opened()
        if not wants_events():
            return log_answer(blocks, options)
        events = Blocks(server_sent(while_served(blocks)), blocks.close)
        return Response(events, content_type="text/event-stream; charset=utf-8", direct_passthrough=True)

    return app


def _admit(settings: KubeletSettings, token: str) -> Response | None:
    if not host_is_ours(request.headers.get("Host", ""), settings, request.environ["werkzeug.socket"].getsockname()):
        return text("this server does not go by that name\n", 421)
    if request.method not in ("GET", "POST"):
        return text("405 Method Not Allowed\n", 405)
    acts = request.method == "POST"
    if request.path in (*webpage.PUBLIC, downloads.PATH) and not acts:
        return None
    if acts and not webpage.comes_from_here():
        return text("actions are asked for by this server's own page only\n", 403)
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = "" if acts else request.args.get("token", "")
    if hmac.compare_digest(given.strip().encode(), token.encode()):
        return None
    refused = text(f"the token in {settings.instance.log_api_token_file} is wanted\n", 401)
    refused.headers["WWW-Authenticate"] = 'Bearer realm="vkcri"'
    return refused


def host_is_ours(host: str, settings: KubeletSettings, local: tuple[Any, ...]) -> bool:
    """Whether a Host header names this server: loopback, the configured address, or the address that the client
    connected to, each with the port (none: 80). A name that somebody else's DNS points here is not ours."""
    found = _HOST.fullmatch(host)
    if found is None or (found[2] or "80") != str(local[1]):
        return False
    name = found[1]
    if name.lower() in ("localhost", "127.0.0.1", "[::1]"):
        return True
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    mapped = getattr(ipaddress.ip_address(str(local[0]).partition("%")[0]), "ipv4_mapped", None)
    return str(address) in (settings.log_api_address, str(local[0]), str(mapped))


def _finish(parts: Parts, response: Response) -> Response:
    response.headers.extend(_HEADERS)
    parts.counters.count("log-api", request.url_rule.rule if request.url_rule else "", response.status_code)
    return response


def wants_events() -> bool:
    return request.args.get("sse") in ("1", "true") or "text/event-stream" in request.headers.get("Accept", "")


def log_options(query: Mapping[str, str], now: float) -> Options:
    """The query's parameters. Raises Invalid, naming the parameter that is wrong."""
    unknown = set(query) - {"follow", "tail", "since", "timestamps", "previous", "sse", "token"}
    if unknown:
        raise Invalid(f"unknown parameter {min(unknown)!r}: see / for those there are")
    tail = query.get("tail")
    if tail is not None and not (tail.isascii() and tail.isdecimal() and len(tail) < 10):
        raise Invalid(f"tail={tail!r}: a number of lines")
    since = query.get("since")
    return Options(
        tail=None if tail is None else int(tail),
        since=_since(since, now) if since else None,
        follow=_switch(query, "follow"),
        timestamps=_switch(query, "timestamps"),
        previous=_switch(query, "previous"),
    )


def _switch(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name)
    if value not in (None, "", "0", "1", "false", "true"):
        raise Invalid(f"{name}={value!r}: 1 or 0")
    return value in ("", "1", "true")


def _since(value: str, now: float) -> int:
    """Nanoseconds since the epoch, of a duration before now or of a time."""
    if value.isascii() and value.isdecimal():
        value += "s"
    found = _DURATION.fullmatch(value)
    if found is None:
        return times.parse(value)
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return times.of(now - (86400 * days + 3600 * hours + 60 * minutes + seconds))


def _only_container(pod: Pod | None, name: str) -> str:
    """The container of a pod that has one. Raises NotFound, Invalid."""
    if pod is None:
        raise NotFound(f'pod "{name}" does not exist')
    names = [container for container, kind in pod.containers().items() if kind == "container"]
    if len(names) != 1:
        raise Invalid(f'pod "{name}" has the containers {", ".join(pod.containers())}: name one')
    return names[0]


def describe(pod: Pod) -> dict[str, Any]:
    """A pod and its containers for people and scripts."""
    containers = []
    for name, kind in pod.containers().items():
        status = pod.container_status(name) or {}
        state, detail = next(iter((status.get("state") or {"waiting": {}}).items()))
        detail = detail or {}
        containers.append(
            {
                "name": name,
                "type": kind,
                "state": state,
                "reason": detail.get("reason"),
                "exitCode": detail.get("exitCode"),
                "startedAt": detail.get("startedAt"),
                "ready": bool(status.get("ready")),
                "restartCount": status.get("restartCount", 0),
                "logs": f"/logs/{pod.namespace}/{pod.name}/{name}",
            }
        )
    metadata = pod.object["metadata"]
    return {
        "namespace": pod.namespace,
        "name": pod.name,
        "uid": pod.uid,
        "phase": pod.status.get("phase") or "Pending",
        "reason": pod.status.get("reason"),
        "podIP": pod.status.get("podIP"),
        "created": metadata.get("creationTimestamp") or pod.status.get("startTime"),  # a static pod was not created
        "deleting": "deletionTimestamp" in metadata,
        "containers": containers,
    }


def server_sent(blocks: Blocks) -> Iterator[bytes]:
    """A log as server-sent events, one a line; an `end` event says that no more will come, so that no browser
    reconnects. A carriage return inside a line ends an event's line too, as that format has it."""
    carry = b""
    for block in blocks:
        lines = (carry + block).split(b"\n")
        carry = lines.pop()
        yield b"".join(_event(line) for line in lines)
    yield (_event(carry) if carry else b"") + b"event: end\ndata: the log has ended\n\n"


def _event(line: bytes) -> bytes:
    parts = _LINE_END.split(line.decode(errors="replace"))
    return "".join(f"data: {part}\n" for part in parts).encode() + b"\n"
