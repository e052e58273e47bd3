"""The kubelet API's routes, in the kubelet's paths, parameters, status codes and words.

A Flask application on vkcri.httpd; runs on request threads. Every request is authenticated and authorized before its
route is looked at, an unknown one too. What is not built says 501; it never pretends.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from vkcri.api import times
from vkcri.config import Instance
from vkcri.errors import Invalid, NotFound, Refused, Unavailable, VkcriError
from vkcri.kubelet import metrics, streams
from vkcri.kubelet.auth import Gate
from vkcri.kubelet.follow import FolderWatches
from vkcri.kubelet.locate import ContainerLogs
from vkcri.kubelet.logs import Options
from vkcri.kubelet.pods import Pod, Pods

NOT_BUILT = (
    "/checkpoint/<path:rest>",
    "/configz",
    "/logs/",
    "/logs/<path:rest>",
    "/metrics/cadvisor",
    "/metrics/probes",
    "/metrics/resource",
    "/run/<path:rest>",
    "/runningpods/",
)
_STATUS = {NotFound: 404, Invalid: 400, Refused: 501, Unavailable: 503}  # Refused: a provider without that request
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What the routes work with. `ask` asks the provider: request name, body, timeout."""

    instance: Instance
    pods: Pods
    logs: ContainerLogs
    watches: FolderWatches
    counters: metrics.Counters
    gate: Gate
    ask: Callable[[str, dict[str, Any], float], Any]
    now: Callable[[], float] = time.time


def text(message: str, status: int = 200) -> Response:
    return Response(message, status, content_type="text/plain; charset=utf-8")


def stopped() -> Callable[[], bool]:
    """Whether this request's stream should end: its client has left, or the server drains."""
    connection, closing = request.environ["vkcri.connection"], request.environ["vkcri.closing"]
    return lambda: closing.is_set() or connection.disconnected()


def log_options(query: Mapping[str, str], now: float) -> Options:
    """The kubelet's PodLogOptions. Raises Invalid for what cannot be decoded, ValueError for what is not allowed."""
    tail = query.get("tail") or query.get("tailLines")  # `tail` is the kubelet's old name
    lines = None if tail is None or (query.get("tail") == "all") else _integer(tail)
    since_seconds = _integer(query["sinceSeconds"]) if "sinceSeconds" in query else None
    since_time = query.get("sinceTime") or None
    since = None if since_time in (None, "null") else times.parse(str(since_time))
    limit = _integer(query["limitBytes"]) if "limitBytes" in query else None
    stream = query.get("stream") or "All"
    if (lines is not None and lines < 0) or (limit is not None and limit < 1) or (since_seconds or 1) < 1:
        raise ValueError("tailLines, limitBytes or sinceSeconds")
    if since_seconds == 0 or (since_seconds is not None and since is not None):
        raise ValueError("sinceSeconds and sinceTime")
    if stream not in ("All", "Stdout", "Stderr") or (stream != "All" and lines is not None):
        raise ValueError("stream")
    if since_seconds is not None:
        since = times.of(now) - since_seconds * times.NANO
    return Options(
        tail=lines,
        since=since,
        limit=limit,
        timestamps=_boolean(query, "timestamps"),
        previous=_boolean(query, "previous"),
        follow=_boolean(query, "follow"),
        stream=None if stream == "All" else stream.lower().encode(),
    )


def _integer(value: str) -> int:
    digits = value[1:] if value[:1] in ("-", "+") else value
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise Invalid(f"{value!r} is no number")
    return int(value)


def _boolean(query: Mapping[str, str], name: str) -> bool:
    """As Kubernetes decodes query parameters: there and neither false nor 0."""
    return name in query and query[name].lower() not in ("false", "0")


class _App(Flask):
    """Flask, but a rule serves a request whatever protocol it asks to change to: Werkzeug keeps requests for WebSocket
    to rules of their own and answers 400 to all others."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        adapter = super().create_url_adapter(request)
        if adapter is not None:
            adapter.websocket = False
        return adapter


def make_app(parts: Parts) -> Flask:
    """The kubelet API as a WSGI application."""
    app = _App("vkcri.kubelet", static_folder=None)
    app.url_map.merge_slashes = False  # a path is judged and routed as it came
    app.url_map.strict_slashes = False
    app.url_map.redirect_defaults = False
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024
    app.before_request(lambda: _admit(parts.gate))
    app.after_request(lambda response: _count(parts.counters, response))
    app.register_error_handler(VkcriError, _failed)
    app.register_error_handler(HTTPException, lambda error: text(f"{error.code} {error.name}\n", error.code or 500))
    _add_state(app, parts)
    _add_logs(app, parts)
    _add_streams(app, parts)
    for rule in NOT_BUILT:
        app.add_url_rule(rule, rule, _not_built, methods=["GET", "POST"])
    return app


def _admit(gate: Gate) -> Response | None:
    """The kubelet's auth filter."""
    environ = request.environ
    user = gate.authenticate(environ["vkcri.peer_certificate"], request.headers.get("Authorization", ""))
    if user is None:
        return text("Unauthorized", 401)
    decision = gate.authorize(user, request.method, request.path)
    if not decision.allowed:
        return text(decision.message, 403)
    return text("405 Method Not Allowed\n", 405) if request.method == "HEAD" else None  # as the kubelet's router


def _count(counters: metrics.Counters, response: Response) -> Response:
    counters.count("kubelet", request.url_rule.rule if request.url_rule else "", response.status_code)
    return response


def _failed(error: VkcriError) -> Response:
    if isinstance(error, Unavailable):
        LOG.warning("%s %s: %s", request.method, request.path, error)
    return text(str(error), _STATUS.get(type(error), 500))


def _not_built(rest: str = "") -> Response:
    del rest
    return text(f"{request.path} is not built in vkcri yet\n", 501)


def _add_state(app: Flask, parts: Parts) -> None:
    """Pods, health, metrics."""

    @app.get("/pods")
    def pods() -> Response:
        if not parts.pods.known():
            raise Unavailable("the node's pods are not known yet: api-watcher has not read them")
        items = [pod.object for pod in parts.pods.all()]
        body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
        return Response(json.dumps(body), content_type="application/json")

    @app.get("/healthz")
    @app.get("/healthz/<check>")
    def healthz(check: str = "") -> Response:
        checks = {"ping": True, "pods": parts.pods.pods.connected, "provider": parts.pods.statuses.connected}
        if check and check not in checks:
            raise NotFound(f"no health check {check!r}")
        wanted = {check: checks[check]} if check else checks
        if all(wanted.values()) and "verbose" not in request.args:
            return text("ok")
        lines = [f"[+]{name} ok" if good else f"[-]{name} failed: not connected" for name, good in wanted.items()]
        good = all(wanted.values())
        return text("\n".join([*lines, f"healthz check {'passed' if good else 'failed'}", ""]), 200 if good else 500)

    @app.get("/metrics")
    def page() -> Response:
        body = metrics.collect(parts.instance, lambda: parts.counters.text(gauges(parts)))
        return Response(body, content_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/stats/summary")
    def summary() -> Response:
        try:
            answer = parts.ask("stats", {}, 10.0)
        except (NotFound, Refused):
            return _not_built()
        return Response(json.dumps(answer), content_type="application/json")


def gauges(parts: Parts) -> dict[str, tuple[str, float]]:
    """log-server's own gauges for its metrics."""
    return {"vkcri_log_followers": ("Container logs being followed.", parts.watches.followers())}


def _add_logs(app: Flask, parts: Parts) -> None:
    @app.get("/containerLogs/<namespace>/<name>/<container>")
    def container_logs(namespace: str, name: str, container: str) -> Response:
        try:
            options = log_options(request.args, parts.now())
        except Invalid:
            return text('{"message": "Unable to decode query."}', 400)
        except ValueError:
            return text('{"message": "Invalid request."}', 422)
        blocks = parts.logs.open(namespace, name, container, options, stopped())
        return Response(blocks, content_type="text/plain; charset=utf-8", direct_passthrough=True)


def _add_streams(app: Flask, parts: Parts) -> None:
    def find(namespace: str, name: str, uid: str) -> Pod:
        pod = parts.pods.find(namespace, name)
        if pod is None or (uid and pod.uid != uid):
            raise NotFound("pod does not exist")
        return pod

    def carry(what: str, body: dict[str, Any]) -> Response:
        if not streams.is_upgrade(request):
            return text("Upgrade request required", 400)
        url = str(parts.ask(what, body, 30.0)["url"])
        return streams.carry(request, url, _drained(request.environ["vkcri.closing"].is_set))

    def run(what: str, namespace: str, name: str, uid: str, container: str) -> Response:
        pod = find(namespace, name, uid)
        make = streams.exec_body if what == "exec" else streams.attach_body
        body = make(pod.uid, container, request.args)
        if container not in pod.containers():
            raise NotFound(f'container not found ("{container}")')
        return carry(what, body)

    for what in ("exec", "attach"):
        for rule in (
            f"/{what}/<namespace>/<name>/<container>",
            f"/{what}/<namespace>/<name>/<uid>/<container>",
        ):
            defaults = {"what": what} if "<uid>" in rule else {"what": what, "uid": ""}
            app.add_url_rule(rule, rule, run, methods=["GET", "POST"], defaults=defaults)

    @app.route("/portForward/<namespace>/<name>", methods=["GET", "POST"])
    @app.route("/portForward/<namespace>/<name>/<uid>", methods=["GET", "POST"])
    def port_forward(namespace: str, name: str, uid: str = "") -> Response:
        body = streams.forward_body("", request.args, websocket=streams.is_websocket(request))
        return carry("port-forward", {**body, "uid": find(namespace, name, uid).uid})


def _drained(closing: Callable[[], bool]) -> Callable[[], bool]:
    """Whether a stream's time is up: DRAIN_SECONDS after the server began to close."""
    since: list[float] = []

    def over() -> bool:
        if closing() and not since:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] > streams.DRAIN_SECONDS

    return over
