"""The kubelet API's routes about one container or pod: logs, exec, attach, port-forward, run, checkpoint.

Source: pkg/kubelet/server/server.go. Runs on request threads; a stream's thread carries it to its end.
"""

import base64
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from flask import Flask, Response, request

from vkcri.errors import Invalid, NotFound, VkcriError
from vkcri.kubelet import streams, translated
from vkcri.kubelet.logs import Blocks
from vkcri.kubelet.options import log_options
from vkcri.kubelet.parts import Parts, log_answer, stopped, text
from vkcri.kubelet.pods import Pod

URL_SECONDS = 30.0
RUN_SECONDS = 4 * 3600.0  # the kubelet's ReadTimeout: a command may take that long
CHECKPOINT_SECONDS = 150.0  # the runtime's two minutes and our own part
CHECKPOINT_MOST_SECONDS = 4 * 3600  # of a caller's timeout; no request of the kubelet's goes on for longer
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")


def add_routes(app: Flask, parts: Parts) -> None:
    """All of them."""
    _add_logs(app, parts)
    _add_streams(app, parts)
    _add_run(app, parts)
    _add_checkpoint(app, parts)


def _add_logs(app: Flask, parts: Parts) -> None:
    @app.get("/containerLogs/<namespace>/<name>/<container>")
    def container_logs(namespace: str, name: str, container: str) -> Response:
        try:
            options = log_options(request.args, parts.now())
        except Invalid:
            return text('{"message": "Unable to decode query."}', 400)
        except ValueError:
            return text('{"message": "Invalid request."}', 422)

        def opened() -> Blocks:
            return parts.logs.open(namespace, name, container, options, stopped())

        return log_answer(parts.streams.follow(opened) if options.follow else opened(), options)


def _find(parts: Parts, namespace: str, name: str, uid: str = "") -> Pod:
    """Raises NotFound in the kubelet's words."""
    pod = parts.pods.find(namespace, name)
    if pod is None or (uid and pod.uid != parts.pods.translated(uid)):
        raise NotFound("pod does not exist")
    return pod


def _add_streams(app: Flask, parts: Parts) -> None:
    def carry(what: str, body: Mapping[str, Any]) -> Response:
        if not streams.is_upgrade(request):
            return text("Upgrade request required\n", 500)  # the kubelet's, by its proxy's way of saying errors
        with parts.streams.session():
            return carried(what, body)

    def carried(what: str, body: Mapping[str, Any]) -> Response:
        url = str(parts.ask(what, body, URL_SECONDS)["url"])
        cut = f"log-server of node {parts.settings.node_name} has ended, and this session with it"
        over = _drained(request.environ["vkcri.closing"].is_set)
        if what == "port-forward" and translated.wants_tunnel(request):
            parts.counters.websockets.add("portforward")
            return translated.carry_tunnel(request, url, over, cut)
        if what != "port-forward" and translated.wants_channels(request):
            parts.counters.websockets.add(what)
            return translated.carry_channels(request, url, body, over, cut)
        return streams.carry(request, url, over, "" if what == "port-forward" else cut)

    def run(what: str, namespace: str, name: str, uid: str, container: str) -> Response:
        pod = _find(parts, namespace, name, uid)
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
        names_ports = streams.is_websocket(request) and not translated.wants_tunnel(request)
        body = streams.forward_body("", request.args, websocket=names_ports)
        return carry("port-forward", {**body, "uid": _find(parts, namespace, name, uid).uid})


def _add_run(app: Flask, parts: Parts) -> None:
    @app.post("/run/<namespace>/<name>/<container>")
    @app.post("/run/<namespace>/<name>/<uid>/<container>")
    def run(namespace: str, name: str, container: str, uid: str = "") -> Response:
        """A command's output, both streams; `cmd` is split at blanks."""
        pod = _find(parts, namespace, name, uid)
        body = {"uid": pod.uid, "container": container, "command": request.values.get("cmd", "").split(" ")}
        try:
            output = base64.b64decode(parts.ask("run", body, RUN_SECONDS)["output"])
        except (NotFound, Invalid) as error:
            return text(str(error), 500)  # as the kubelet, whatever went wrong
        answer = Response(output, content_type="application/json")
        if not output:
            del answer.headers["Content-Type"]  # as the kubelet, which writes none for nothing
        return answer


def _add_checkpoint(app: Flask, parts: Parts) -> None:
    @app.post("/checkpoint/<namespace>/<name>/<container>")
    def checkpoint(namespace: str, name: str, container: str) -> Response:
        pod = _find(parts, namespace, name)
        if container not in pod.containers():
            raise NotFound(f"container {container} does not exist")
        timeouts = request.args.getlist("timeout")
        try:
            timeout = min(_whole(timeouts[-1]), CHECKPOINT_MOST_SECONDS) if timeouts else 0
        except ValueError:
            return text("cannot parse value of timeout parameter", 404)
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        file = f"checkpoint-{pod.name}_{pod.namespace}-{container}-{stamp}.tar"
        location = str(parts.settings.instance.checkpoints_dir / file)
        body = {"uid": pod.uid, "container": container, "location": location, "timeout": timeout}
        try:
            parts.ask("checkpoint", body, CHECKPOINT_SECONDS + max(0, timeout))
        except VkcriError as error:
            return text(f"checkpointing of {namespace}/{name}/{container} failed ({error})", 500)
        return Response(f'{{"items":["{location}"]}}', content_type="application/json")


def _whole(value: str) -> int:
    """A number as Go's ParseInt takes it, of 64 bits. Raises ValueError."""
    found = int(value) if _WHOLE.fullmatch(value) else 1 << 63
    if not -1 << 63 <= found < 1 << 63:
        raise ValueError(value)
    return found


def _drained(closing: Callable[[], bool]) -> Callable[[], bool]:
    """Whether a stream's time is up: DRAIN_SECONDS after the server began to close."""
    since: list[float] = []

    def over() -> bool:
        if closing() and not since:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] > streams.DRAIN_SECONDS

    return over
