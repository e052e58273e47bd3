"""api-watcher's process: who we are and which cluster, then its parts in the order in which they may speak.

The main thread starts the queue and the static pods, which need no API server, waits for the kubeconfig (the embedded
API server writes it at its first start, or TLS bootstrap ends in it) and for an address, says which cluster is joined
before anything is changed, starts the Node, and then only waits for the end. Beside the Node a thread finds out who we
are; everything else starts once the Node is ours, on the Node's thread.
"""

import json
import logging
import os
import platform
import uuid
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from vkcri import apart
from vkcri.api.architecture import go_architecture
from vkcri.config import WatcherSettings
from vkcri.errors import ConfigError, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig, wait_for
from vkcri.lifecycle import Process, program_main
from vkcri.queue import Publisher
from vkcri.queue.notices import TOPIC as NOTICES
from vkcri.queue.notices import Notices
from vkcri.watcher import pods as pods_module
from vkcri.watcher.access import Access
from vkcri.watcher.credentials import Credentials
from vkcri.watcher.events import EventWriter
from vkcri.watcher.identity import Identified
from vkcri.watcher.lease import LEASE_SECONDS, Lease
from vkcri.watcher.metrics import Metrics
from vkcri.watcher.mirrors import Mirrors
from vkcri.watcher.node import CHECK_SECONDS, Node
from vkcri.watcher.nodestatus import HEARTBEAT_SECONDS, Identity
from vkcri.watcher.pods import Pods
from vkcri.watcher.references import References
from vkcri.watcher.registration import Registration
from vkcri.watcher.requests import Requests
from vkcri.watcher.services import PATHS, ResourceTopic
from vkcri.watcher.staticpods import REREAD_SECONDS, StaticPods
from vkcri.watcher.status import StatusWriter

KUBERNETES = "v1.37.0"  # the kubelet whose behaviour this is
RETRY_SECONDS = 2.0
_AWAITED = "it is still to be written, by the embedded API server or by TLS bootstrap"
log = logging.getLogger(__name__)


def watch(process: Process, settings: WatcherSettings) -> None:
    """Keep the node registered, publish what it is to run, report what it runs."""
    kubeconfig = Kubeconfig(settings.api_kubeconfig, _AGENT, awaited=_AWAITED if settings.own_kubeconfig else "")
    publisher, metrics = _publisher(process), Metrics()
    client = Client(kubeconfig, wait=process.wait, observe=metrics.requested)
    notices = Notices(publisher)
    publisher.set_metrics(metrics.text)
    Requests(client).serve(publisher)
    publisher.start(process)
    static = StaticPods(publisher, notices, settings.static_pods, settings.node_name)
    static.start(process)
    if settings.embedded and not wait_for(kubeconfig, process.wait):
        return
    credentials = Credentials(process, settings, notices, _AGENT, run=apart.call) if settings.bootstraps else None
    if credentials is not None and not credentials.establish():
        return
    server = _wait_until_loaded(process, client)
    if not server:
        return
    log.info("%s", joining(settings, server))
    address = _wait_for_address(process, settings)
    if not address:
        return
    if credentials is not None:
        credentials.start(client)
        metrics.gauge("client_certificate_expiration_seconds", lambda: credentials.not_after)
        about = "Seconds until the end of the node's client certificate; +Inf without one."
        metrics.registry.gauge(
            "kubelet_certificate_manager_client_ttl_seconds", about, lambda: credentials.seconds_left
        )
    _start(process, settings, Parts(client, publisher, notices, metrics, static), identity(settings, address))
    process.stopping.wait()


def joining(settings: WatcherSettings, server: str) -> str:
    """The line that says which cluster this node belongs to."""
    if settings.embedded:
        return f"the embedded API server {server} as node {settings.node_name}"
    variable = settings.joined_by.partition("=")[0]
    return (
        f"joining {server} as node {settings.node_name} ({settings.joined_by}); "
        f"for the embedded server: make run {variable}="
    )


def identity(settings: WatcherSettings, address: str) -> Identity:
    taint = None
    if not settings.embedded and not settings.disable_taint:
        taint = {"key": settings.taint_key, "value": settings.taint_value, "effect": settings.taint_effect}
    return Identity(
        name=settings.node_name,
        instance_id=instance_id(settings.instance.instance_id_file),
        address=address,
        kubelet_port=settings.kubelet_port,
        architecture=go_architecture(platform.machine()),
        taint=taint,
        version=f"{KUBERNETES}-vkcri.{_version()}",
        taint_key=settings.taint_key,
    )


def instance_id(path: Path) -> str:
    """The random id of this instance, made at its first start. Raises ConfigError where it cannot be kept."""
    try:
        found = path.read_text(encoding="ascii").strip() if path.exists() else ""
        if not found:
            found = str(uuid.uuid4())
            scratch = path.with_suffix(".new")
            with scratch.open("w", encoding="ascii") as file:
                file.write(f"{found}\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}: the node's identity must be kept there") from error
    return found


def kubelet_configuration(settings: WatcherSettings, me: Identity) -> dict[str, Any]:
    """The fields of a KubeletConfiguration that api-watcher obeys, for /configz."""
    return {
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "nodeStatusReportFrequency": f"{HEARTBEAT_SECONDS // 60:.0f}m0s",
        "nodeStatusUpdateFrequency": f"{CHECK_SECONDS:.0f}s",
        "registerNode": True,
        "rotateCertificates": settings.bootstraps,
        "registerWithTaints": [dict(me.taint)] if me.taint else [],
        "staticPodPath": str(settings.static_pods),
        "fileCheckFrequency": f"{REREAD_SECONDS:.0f}s",
    }


class Parts(NamedTuple):
    """What the others stand on."""

    client: Client
    publisher: Publisher
    notices: Notices
    metrics: Metrics
    static: StaticPods


def _publisher(process: Process) -> Publisher:
    """The role `watcher`: it answers from the start, so that others wait for the API server and not for us."""
    topics = ("pods", "objects", *PATHS, "node", "events", NOTICES)
    sources = {pods_module.TOPIC: pods_module.SOURCES}
    return Publisher(process.instance.queue_socket("watcher"), topics, sources=sources)


def _start(process: Process, settings: WatcherSettings, parts: Parts, me: Identity) -> None:
    client, publisher, notices, metrics, static = parts
    access = Access(notices, str(settings.api_kubeconfig))
    identified = Identified(client, notices, access, me.name)
    publisher.serve("identity", identified.answer)
    publisher.serve("configz", lambda _body, _left: kubelet_configuration(settings, me))
    lease = Lease(process, client, me.name, metrics)
    references = References(process, client, publisher)
    metrics.gauge("objects", lambda: float(references.counts()["objects"]))
    metrics.gauge("object_threads", lambda: float(references.counts()["threads"]))
    status = StatusWriter(process, client, metrics)
    events = EventWriter(process, client, metrics)
    mirrors = Mirrors(process, client, static, status.reports, lambda: _published_node(publisher, me.name), metrics)
    status.mirror = mirrors.find
    static.changed = mirrors.static_changed

    def changed(uid: str, pod: dict[str, Any]) -> None:
        references.pod_changed(uid, pod)
        mirrors.pod_changed(uid, pod)  # before status, which asks it
        status.pod_changed(uid, pod)

    def gone(uid: str) -> None:
        references.pod_gone(uid)
        mirrors.pod_gone(uid)
        status.pod_gone(uid)

    pods = Pods(client, publisher, access, me.name, changed=changed, gone=gone, listed=mirrors.pods_listed)

    def registered() -> None:
        references.start()
        status.start(pods)
        mirrors.start()
        events.start()
        cluster = {
            topic: ResourceTopic(client, publisher, access, topic, me.name, lambda: identified.user) for topic in PATHS
        }
        reflectors = {"pods": pods.reflector, **{topic: found.reflector for topic, found in cluster.items()}}
        for name, reflector in reflectors.items():
            metrics.reflector(name, reflector)
            process.start_thread(f"watch-{name}", partial(reflector.run, process))
        notices.known()

    registration = Registration(client, lease, me)
    node = Node(
        process, client, publisher, notices, me, lease, registration, metrics, access=access, registered=registered
    )
    metrics.reflector("node", node.reflector)
    if settings.own_kubeconfig:
        identified.is_the_node()
    else:
        identified.start(process)
    lease.start()
    node.start()


def _published_node(publisher: Publisher, name: str) -> dict[str, Any] | None:
    """The Node, None while there is none of ours."""
    held = publisher.get("node", name)
    node: dict[str, Any] | None = json.loads(held) if held is not None else None
    return node


def _wait_until_loaded(process: Process, client: Client) -> str:
    """The API server's URL, once the kubeconfig gives one: an exec plugin may need several tries. Empty when stopping.
    Raises ConfigError for a kubeconfig that is wrong."""
    said = ""
    while True:
        try:
            with process.expect("the kubeconfig", 90):
                return client.server
        except ConfigError:
            raise
        except VkcriError as error:
            if str(error) != said:
                log.warning("%s; trying again", error)
            said = str(error)
        if process.wait(RETRY_SECONDS):
            return ""


def _wait_for_address(process: Process, settings: WatcherSettings) -> str:
    """The node's address; a guest that has just booted may have no route yet. Empty when stopping."""
    said = False
    while True:
        try:
            return settings.address
        except ConfigError as error:
            if not said:
                log.warning("%s; waiting for one", error)
            said = True
        if process.wait(RETRY_SECONDS):
            return ""


def _check(settings: WatcherSettings) -> str | None:
    """--check: a kubeconfig that is given must be readable."""
    kubeconfig = Kubeconfig(settings.api_kubeconfig, "vkcri")
    if settings.embedded and not kubeconfig.exists():
        return f"{kubeconfig.path} is written by the embedded API server at its first start"
    if settings.bootstraps and not kubeconfig.exists():
        kubeconfig = Kubeconfig(settings.bootstrap_kubeconfig, "vkcri", variable="BOOTSTRAP_KUBECONFIG")
    try:
        return joining(settings, kubeconfig.load().server)
    except ConfigError:
        raise
    except VkcriError as error:
        raise ConfigError(str(error)) from error


def _version() -> str:
    try:
        return version("vkcri")
    except PackageNotFoundError:
        return "0"


_AGENT = f"vkcri/{_version()}"
main = program_main("api-watcher", WatcherSettings, watch, check=_check)

if __name__ == "__main__":
    main()
