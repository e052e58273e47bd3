"""The kubelet API's routes about the node: pods, health, metrics, stats, configuration, system logs.

Runs on request threads. Source: pkg/kubelet/server/server.go. What the provider does not know is 501; its failures are
the kubelet's 500.
"""

import json
import logging
from collections.abc import Sequence

from flask import Flask, Response, request

from vkcri.api import exposition
from vkcri.errors import NotFound, Refused, Unavailable, VkcriError
from vkcri.kubelet import configz, health, metrics, systemlogs
from vkcri.kubelet.page import Page
from vkcri.kubelet.parts import Parts, plain, text

ASK_SECONDS = 10.0
LOG = logging.getLogger(__name__)


def add_routes(app: Flask, parts: Parts) -> None:
    """All of them."""
    _add_pods(app, parts)
    _add_health(app, parts)
    _add_metrics(app, parts)

    @plain(app, "/configz")
    def config() -> Response:
        return _json(configz.page(parts.settings, parts.ask, parts.ask_watcher))

    @plain(app, "/debug/flags/v")
    def flags() -> Response:
        return text("flags endpoint is disabled.\n", 405)

    @plain(app, "/debug/pprof/")
    def profiling() -> Response:
        return text("profiling endpoint is disabled.\n", 405)

    @app.get("/logs/")
    @app.get("/logs/<path:name>")
    def system_logs(name: str = "") -> Response:
        del name  # without its last slash, which matters
        return systemlogs.answer(request.path)


def _add_pods(app: Flask, parts: Parts) -> None:
    @app.get("/pods")
    def pods() -> Response:
        if not parts.pods.known() and not parts.pods.all():
            raise Unavailable("the node's pods are not known yet: api-watcher has not read them")
        return _pod_list(parts.pods.listed())

    @app.get("/runningpods/")
    def running_pods() -> Response:
        return _pod_list(parts.ask("running-pods", {}, ASK_SECONDS)["items"])


def _add_health(app: Flask, parts: Parts) -> None:
    checks = health.checks(parts.pods)

    @plain(app, "/healthz")
    def healthz() -> Response:
        status, page = health.page(checks, request.args.getlist("exclude"), verbose="verbose" in request.args)
        return text(page, status)

    @plain(app, "/healthz/<check>")
    def one_check(check: str) -> Response:
        if check not in checks:
            raise NotFound("404 page not found\n")
        trouble = checks[check]()
        return text(f"Internal server error: {trouble}\n", 500) if trouble else text("ok")


def _add_metrics(app: Flask, parts: Parts) -> None:
    @plain(app, "/metrics")
    def page() -> Response:
        own = lambda: parts.counters.text() + parts.use.volume_metrics()  # noqa: E731
        return _metrics(Page(metrics.collect(parts.settings.instance, own).encode()))

    @plain(app, "/metrics/resource")
    def resource_metrics() -> Response:
        return _metrics(parts.use.resource_metrics())

    @plain(app, "/metrics/cadvisor")
    def container_metrics() -> Response:
        return _metrics(parts.use.container_metrics())

    @plain(app, "/metrics/probes")
    def probe_metrics() -> Response:
        return _metrics(Page(str(parts.ask("probe-metrics", {}, ASK_SECONDS)["text"]).encode()))

    @app.route("/stats/summary", methods=["GET", "POST"])
    def summary() -> Response:
        brief = request.values.get("only_cpu_and_memory") == "true"
        try:
            return Response(parts.use.summary(brief=brief).plain, content_type="application/json")
        except Refused:
            raise  # a provider without stats
        except VkcriError as error:
            LOG.warning("stats/summary: %s", error)
            return text(f"Internal Error: {error}", 500)


def _pod_list(items: Sequence[object]) -> Response:
    return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})


def _json(body: object) -> Response:
    return Response(json.dumps(body), content_type="application/json")


def _metrics(page: Page) -> Response:
    return page.answer(request, exposition.CONTENT_TYPE)
