"""The kubelet API as a Flask application on vkcri.httpd: who may ask, what is counted, how errors are said.

Runs on request threads. Every request is authenticated and authorized before its route is looked at, an unknown one
too, for which the kubelet answers 404 to anybody. The routes are in `state` and `containers`. A kubelet's routes are of
two kinds, plain handlers that take every method and services that know theirs, and the words of a refusal tell which.
"""

import html
import logging

from flask import Flask, Request, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import MapAdapter

from vkcri.errors import Invalid, NotFound, Refused, Unavailable, VkcriError
from vkcri.kubelet import containers, metrics, state
from vkcri.kubelet.auth import Gate
from vkcri.kubelet.parts import Parts, is_plain, text

_SERVICES = (
    "pods",
    "stats",
    "logs",
    "runningpods",
    "run",
    "exec",
    "attach",
    "portForward",
    "containerLogs",
    "checkpoint",
)
_FOLDERS = ("/runningpods", "/stats", "/logs")  # services whose own path ends with a slash
_STATUS = {NotFound: 404, Invalid: 400, Refused: 501, Unavailable: 503}  # Refused: a provider without that request
LOG = logging.getLogger(__name__)


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
    app.register_error_handler(HTTPException, _refused)
    app.wsgi_app = metrics.KubeletRequests(app.wsgi_app, parts.counters.registry)  # type: ignore[method-assign]
    state.add_routes(app, parts)
    containers.add_routes(app, parts)
    return app


def _admit(gate: Gate) -> Response | None:
    """The kubelet's auth filter: nobody who could not be identified, nothing that could not be authorized."""
    environ = request.environ
    try:
        user = gate.authenticate(environ["vkcri.peer_certificate"], request.headers.get("Authorization", ""))
    except Unavailable as error:
        LOG.error("unable to authenticate a request: %s", error)
        user = None
    if user is None:
        refused = text("Unauthorized", 401)
        # A handshake from before the client CA was known has no certificate for as long as its connection lives.
        refused.headers["Connection"] = "close"
        return refused
    try:
        decision = gate.authorize(user, request.method, request.path)
    except Unavailable as error:
        LOG.error("unable to authorize a request of %s: %s", user.username, error)
        return text(gate.authorization_error(user, request.method, request.path), 500)
    if not decision.allowed:
        return text(decision.message, 403)
    if request.path in _FOLDERS:
        return _moved(f"{request.path}/")
    rule = request.url_rule
    return _refused(MethodNotAllowed()) if request.method == "HEAD" and rule and not is_plain(rule) else None


def _moved(path: str) -> Response:
    """As Go's router sends a client to a path that ends with a slash."""
    query = request.query_string.decode("latin-1")
    target = f"{path}?{query}" if query else path
    if request.method not in ("GET", "HEAD"):
        moved = Response(status=307)
        del moved.headers["Content-Type"]
    else:
        link = f'<a href="{html.escape(target)}">Temporary Redirect</a>.\n\n'
        moved = Response(link, 307, content_type="text/html; charset=utf-8")
    moved.headers["Location"] = target
    return moved


def _refused(error: HTTPException) -> Response:
    """In the words of go-restful for a path of a service, of Go's router for any other."""
    if error.code == 405:
        return text("405: Method Not Allowed", 405)
    if error.code != 404:
        return text(f"{error.code} {error.name}\n", error.code or 500)
    is_service = request.path.removeprefix("/").partition("/")[0] in _SERVICES
    return text("404: Page Not Found" if is_service else "404 page not found\n", 404)


def _count(counters: metrics.Counters, response: Response) -> Response:
    counters.count("kubelet", request.url_rule.rule if request.url_rule else "", response.status_code)
    return response


def _failed(error: VkcriError) -> Response:
    if isinstance(error, Unavailable):
        LOG.warning("%s %s: %s", request.method, request.path, error)
    return text(str(error), _STATUS.get(type(error), 500))
