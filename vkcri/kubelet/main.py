"""log-server: the program. Owns the role `kubelet` on the queue, both listening sockets, and their end.

Starts with any of its peers absent. At the end it accepts no more, lets streams end for streams.DRAIN_SECONDS, then
cuts them.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from vkcri.config import KubeletSettings
from vkcri.errors import Unavailable
from vkcri.httpd import Server, make_server
from vkcri.kubelet import app, logapi, serving, streams
from vkcri.kubelet.auth import Gate, watcher_only
from vkcri.kubelet.bounds import Streams
from vkcri.kubelet.follow import FolderWatches
from vkcri.kubelet.locate import ContainerLogs
from vkcri.kubelet.metrics import Counters
from vkcri.kubelet.parts import Parts
from vkcri.kubelet.pods import Pods
from vkcri.kubelet.programs import Programs
from vkcri.kubelet.tls import ServingTls
from vkcri.kubelet.use import NodeUse
from vkcri.kubelet.webpage import Happened
from vkcri.lifecycle import Process, program_main
from vkcri.queue import Publisher, request, request_bytes
from vkcri.queue.notices import TOPIC as NOTICES
from vkcri.queue.notices import Notices
from vkcri.signing import Pair

KUBELET_CONNECTIONS = 1000
KUBELET_STREAMS = 900
LOG_API_CONNECTIONS = 200
LOG_API_STREAMS = 150
PORT_SECONDS = 2.0
PEOPLE_DRAIN_SECONDS = 1.0
LOG = logging.getLogger(__name__)


def run(process: Process, settings: KubeletSettings) -> None:
    """Serve the kubelet API and the log API until the process stops."""
    instance = settings.instance

    watcher, provider = instance.queue_socket("watcher"), instance.queue_socket("provider")

    def ask_watcher(name: str, body: Mapping[str, Any], timeout: float) -> Any:
        return request(watcher, name, body, timeout=timeout)

    def ask_provider(name: str, body: Mapping[str, Any], timeout: float) -> Any:
        return request(provider, name, body, timeout=timeout)

    issued = serving.pair_of(settings)
    tls = ServingTls(settings, lambda: str(ask_watcher("client-ca", {}, 5.0)["pem"]), issued)
    watches, pods = FolderWatches(), Pods(instance)
    process.on_stop(watches.close)
    gate = Gate(watcher_only(ask_watcher), settings.node_name)
    logs = ContainerLogs(instance, pods, watches)
    use = NodeUse(lambda name, body, timeout: request_bytes(provider, name, body, timeout=timeout))
    bounds = Streams(KUBELET_STREAMS), Streams(LOG_API_STREAMS)
    parts = Parts(settings, pods, logs, watches, Counters(), gate, ask_provider, ask_watcher, use, *bounds)
    publisher = Publisher(instance.queue_socket("kubelet"), ("events", NOTICES))
    publisher.mark_synced("events")
    notices = Notices(publisher)
    _count(parts.counters, watches, issued)
    publisher.set_metrics(parts.counters.text)
    publisher.start(process)
    pods.start(process)
    token = logapi.load_token(instance.log_api_token_file)
    happened = Happened(instance)
    happened.start(process)
    programs = Programs(instance.supervisor_socket)
    kubelet_app, people_app = app.make_app(parts), logapi.make_app(parts, settings, token, programs, happened)

    def listen_kubelet() -> Server:
        port, limit = settings.kubelet_port, KUBELET_CONNECTIONS
        return make_server(kubelet_app, "", port, ssl_context=tls.context, max_connections=limit, name="kubelet")

    def listen_people() -> Server:
        address, port = settings.log_api_address, settings.log_api_port
        return make_server(people_app, address, port, max_connections=LOG_API_CONNECTIONS, name="log-api")

    kubelet = _serve(process, listen_kubelet, streams.DRAIN_SECONDS + streams.CUT_SECONDS)
    if kubelet is not None:
        tls.start(process, kubelet.use_context)
        if issued is None:
            notices.known()
        else:

            def client_ca() -> str | None:
                return tls.client_ca if tls.client_ca_known else None

            serving.ServingCertificate(settings, issued, ask_watcher, notices, client_ca).start(process)
    if _serve(process, listen_people, PEOPLE_DRAIN_SECONDS) is not None:
        LOG.info("%s; the log API's token is in %s", check(settings), instance.log_api_token_file)
    process.stopping.wait()


def _count(counters: Counters, watches: FolderWatches, issued: Pair | None) -> None:
    """The gauges of what is made here. issued: the pair that the cluster signs, where it does."""
    gauge = counters.registry.gauge
    gauge("vkcri_log_followers", "Container logs being followed.", lambda: float(watches.followers()))
    if issued is not None:
        about = "Seconds until the end of the serving certificate that the cluster has issued; +Inf without one."
        gauge("kubelet_certificate_manager_server_ttl_seconds", about, partial(_left_of, issued))


def _left_of(pair: Pair) -> float:
    return serving.seconds_left(pair, time.time())


def _serve(process: Process, listen: Callable[[], Server], grace: float) -> Server | None:
    """Bind and serve; None when told to stop while waiting for a port that somebody else holds."""
    server = _bind(process, listen)
    if server is not None:
        server.start(process)
        process.on_stop(lambda: server.close(grace))
    return server


def _bind(process: Process, listen: Callable[[], Server]) -> Server | None:
    said = ""
    while not process.stopping.is_set():
        try:
            return listen()
        except Unavailable as error:
            if str(error) != said:
                said = str(error)
                LOG.error("%s; trying again every %g s", error, PORT_SECONDS)
            process.wait(PORT_SECONDS)
    return None


def check(settings: KubeletSettings) -> str:
    """For --check: where it will listen."""
    return f"kubelet API on port {settings.kubelet_port}, log API on {settings.log_api_address}:{settings.log_api_port}"


main = program_main("log-server", KubeletSettings, run, check=check)
