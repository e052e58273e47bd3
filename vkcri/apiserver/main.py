"""The program `apiserver`: store, first objects, HTTPS, controllers; or, where a cluster is joined, nothing.

The main thread looks every few seconds that the store still answers, so that a lock held for ever ends the process
(self-watch) instead of leaving a node without an API server. Crash-only: the store is the only state, and everything
else is read from it or made anew at start.
"""

import logging
import threading
import time
from typing import Final

from vkcri import httpd
from vkcri.apiserver import bootstrap, controllers, pki, tokens
from vkcri.apiserver.authn import Authenticator
from vkcri.apiserver.authz import Authorizer
from vkcri.apiserver.proxy import Kubelet, client_context
from vkcri.apiserver.rest import Api
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings
from vkcri.errors import ConfigError
from vkcri.lifecycle import Process, program_main

log = logging.getLogger(__name__)
_OUTLIVE_SECONDS: Final = 2.0  # supervisor.conf has startsecs=1: an earlier exit would count as a failed start
_LOOK_SECONDS: Final = 5.0
_STORE_SECONDS: Final = 10.0  # the longest that a reading of the store may take
_MOST_CONNECTIONS: Final = 500
_DRAIN_SECONDS: Final = 3.0
_ADDRESS_SECONDS: Final = 2.0  # between two looks for a route


def serve(process: Process, settings: ApiServerSettings) -> None:
    """Be the embedded API server until the process stops; where a cluster is joined, say so and end."""
    if not settings.embedded:
        log.info("not needed: joined with %s", settings.joined_by)
        process.wait(_OUTLIVE_SECONDS)
        return
    if not _wait_for_address(process, settings):
        return
    store = Store(settings.instance.store_file)
    process.on_stop(store.close)
    bootstrap.ensure(settings, store)
    running = threading.Event()
    server = _server(settings, store, running)
    process.on_stop(lambda: _close(server, store))
    server.start(process)
    controllers.start_all(process, store, settings)
    running.set()
    log.info("serving on port %d; kubectl: export KUBECONFIG=%s", server.port, settings.instance.admin_kubeconfig)
    while not process.wait(_LOOK_SECONDS):
        with process.expect("the store's answer", _STORE_SECONDS):
            store.get("/namespaces", "", "default")


def _wait_for_address(process: Process, settings: ApiServerSettings) -> bool:
    """Wait until the node has an address to write into certificates and kubeconfigs: a guest that has just booted may
    have no route yet. False when stopping."""
    said = False
    while True:
        try:
            return bool(settings.address)
        except ConfigError as error:
            if not said:
                log.warning("%s; waiting for one", error)
            said = True
        if process.wait(_ADDRESS_SECONDS):
            return False


def _server(settings: ApiServerSettings, store: Store, running: threading.Event) -> httpd.Server:
    """HTTPS on every address, for pods reach it too; client certificates are optional and of our own CA."""
    kubelet_files = str(pki.certificate(settings, pki.KUBELET_CLIENT)), str(pki.key(settings, pki.KUBELET_CLIENT))
    kubelet = Kubelet(store, lambda: client_context(*kubelet_files), settings.kubelet_port)
    api = Api(
        store,
        settings,
        Authenticator(store, tokens.signer(settings.instance)),
        Authorizer(store),
        kubelet,
        address=f"{settings.address}:{settings.apiserver_port}",
        ready=lambda: None if running.is_set() else "controllers are starting",
        clock=time.time,
    )
    context = httpd.tls_context(
        str(pki.certificate(settings, pki.SERVING)),
        str(pki.key(settings, pki.SERVING)),
        client_ca=pki.certificate(settings, pki.CA).read_text("ascii"),
    )
    return httpd.make_server(
        api.app(), "", settings.apiserver_port, ssl_context=context, max_connections=_MOST_CONNECTIONS, name="apiserver"
    )


def _close(server: httpd.Server, store: Store) -> None:
    """Watches end at once; other requests under way get a moment."""
    server.closing.set()
    store.wake_watches()
    server.close(_DRAIN_SECONDS)


def check(settings: ApiServerSettings) -> str:
    """For --check: what this program would do, and whether the node has an address to write into certificates."""
    if not settings.embedded:
        return f"not needed: {settings.joined_by}"
    folder = settings.instance.state_dir
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder")
    return f"embedded, https://{settings.address}:{settings.apiserver_port}, store {settings.instance.store_file}"


main = program_main("apiserver", ApiServerSettings, serve, check=check)
