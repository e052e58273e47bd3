"""log-server: the program. Owns the role `kubelet` on the queue, both listening sockets, and their end.

Starts with any of its peers absent. At the end it accepts no more, lets streams end for streams.DRAIN_SECONDS, then
cuts them.
"""

import logging
from collections.abc import Callable
from typing import Any

from vkcri.config import KubeletSettings
from vkcri.errors import Unavailable
from vkcri.httpd import Server, make_server
from vkcri.kubelet import app, logapi, streams
from vkcri.kubelet.auth import Gate, watcher_only
from vkcri.kubelet.follow import FolderWatches
from vkcri.kubelet.locate import ContainerLogs
from vkcri.kubelet.metrics import Counters
from vkcri.kubelet.pods import Pods
from vkcri.kubelet.tls import ServingTls
from vkcri.lifecycle import Process, program_main
from vkcri.queue import Publisher, request

KUBELET_CONNECTIONS = 1000
LOG_API_CONNECTIONS = 200
PORT_SECONDS = 2.0
LOG = logging.getLogger(__name__)


def run(process: Process, settings: KubeletSettings) -> None:
    """Serve the kubelet API and the log API until the process stops."""
    instance = settings.instance

    def ask_watcher(name: str, body: dict[str, Any], timeout: float) -> Any:
        return request(instance.queue_socket("watcher"), name, body, timeout=timeout)

    def ask_provider(name: str, body: dict[str, Any], timeout: float) -> Any:
        return request(instance.queue_socket("provider"), name, body, timeout=timeout)

    tls = ServingTls(settings, lambda: str(ask_watcher("client-ca", {}, 5.0)["pem"]))
    watches, pods = FolderWatches(), Pods(instance)
    process.on_stop(watches.close)
    gate = Gate(watcher_only(ask_watcher), settings.node_name)
    logs = ContainerLogs(instance, pods, watches)
    parts = app.Parts(instance, pods, logs, watches, Counters(), gate, ask_provider)
    publisher = Publisher(instance.queue_socket("kubelet"), ("events",))
    publisher.mark_synced("events")
    publisher.set_metrics(lambda: parts.counters.text(app.gauges(parts)))
    publisher.start(process)
    pods.start(process)
    token = logapi.load_token(instance.log_api_token_file)
    kubelet_app, people_app = app.make_app(parts), logapi.make_app(parts, settings, token)
    kubelet = _listen(
        process,
        lambda: make_server(
            kubelet_app,
            "",
            settings.kubelet_port,
            ssl_context=tls.context,
            max_connections=KUBELET_CONNECTIONS,
            name="kubelet",
        ),
    )
    people = _listen(
        process,
        lambda: make_server(
            people_app,
            settings.log_api_address,
            settings.log_api_port,
            max_connections=LOG_API_CONNECTIONS,
            name="log-api",
        ),
    )
    if kubelet is None or people is None:
        return
    tls.start(process, lambda context: setattr(kubelet, "ssl_context", context))
    for server, grace in ((kubelet, streams.DRAIN_SECONDS + 1), (people, 1.0)):
        server.start(process)
        process.on_stop(lambda server=server, grace=grace: server.close(grace))  # type: ignore[misc]
    LOG.info(
        "kubelet API on port %d, log API on %s:%d, its token in %s",
        kubelet.port,
        settings.log_api_address,
        people.port,
        instance.log_api_token_file,
    )
    process.stopping.wait()


def _listen(process: Process, make: Callable[[], Server]) -> Server | None:
    """Bind, and wait for a port that somebody else holds; None when told to stop meanwhile."""
    said = ""
    while not process.stopping.is_set():
        try:
            return make()
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
