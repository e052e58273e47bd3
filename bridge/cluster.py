"""What the bridge hears from api-watcher besides pods: the node, services, objects and runtime classes, to look up.

Fed by four subscriptions (their threads call the callbacks); read by workers. A watcher that is away changes nothing:
what was heard last stays.
"""

import ipaddress
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.spec import ResolvConf
from bridge.spec.context import NotHeardOf
from bridge.spec.dns import parse_resolv_conf
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, NotFound
from vkcri.lifecycle import Process
from vkcri.queue import Change, Subscription, request

DNS_OFFSET = 9  # a cluster's DNS server by convention: the address of default/kubernetes plus nine
TOKEN_SECONDS = 10.0
RESOLV_CONF = Path("/etc/resolv.conf")
STUB_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")
_STUB = "127.0.0.53"


class Cluster:
    """The newest of each. on_ready() is called when containers may be made that could not before; on_object(key) when
    an object has changed, or a runtime class, under the key that `runtime_class_key` gives it; on_node() when the Node
    has. All run on subscriptions' threads and must be quick."""

    def __init__(
        self,
        settings: RuntimeSettings,
        on_ready: Callable[[], None],
        on_object: Callable[[str], None],
        on_node: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._socket = settings.instance.queue_socket("watcher")
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._parsed: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self._ready = False
        self._address = ""
        watch = self._check_ready

        def node_changed() -> None:
            watch()
            on_node()

        self._node = Subscription(self._socket, "node", lambda _: node_changed(), on_synced=lambda _: watch())
        self._services = Subscription(self._socket, "services", self._service, on_synced=lambda _: watch())
        self._objects = Subscription(self._socket, "objects", lambda change: on_object(change.key))
        self._classes = Subscription(
            self._socket, "runtimeclasses", lambda change: on_object(runtime_class_key(change.key))
        )

    def start(self, process: Process) -> None:
        for subscription in (self._node, self._services, self._objects, self._classes):
            subscription.start(process)

    @property
    def ready(self) -> bool:
        """Whether containers of API pods may be made: services are synced, and the Node is there."""
        return self._services.synced() and self._node.synced() and bool(self._node.items())

    def node(self) -> Mapping[str, Any]:
        """The Node; empty while there is none."""
        value = self._node.get(self._settings.node_name)
        return self._parse("node", value) if value else {}

    def services(self) -> Sequence[Mapping[str, Any]]:
        return [self._parse(f"services/{key}", value) for key, value in self._services.items().items()]

    def object(self, key: str) -> bytes | None:
        """The bytes of topic `objects`; None while nothing is known."""
        return self._objects.get(key)

    def runtime_handler(self, name: str) -> str:
        """The handler of the RuntimeClass of that name; "" for no class, which is the runtime's default. Raises
        NotFound with the kubelet's message, NotHeardOf while the classes have not been read."""
        if not name:
            return ""
        value = self._classes.get(name)
        if value is not None:
            return str(self._parse(f"runtimeclasses/{name}", value).get("handler") or "")
        if not self._classes.synced():
            raise NotHeardOf(f"RuntimeClass {name} has not been read from the API server yet")
        raise NotFound(f'runtimeclass.node.k8s.io "{name}" not found')

    def token(self, body: dict[str, Any]) -> dict[str, Any]:
        """The queue request `token`. Raises what the watcher raises, Unavailable while it is away."""
        answer: dict[str, Any] = request(self._socket, "token", body, timeout=TOKEN_SECONDS)
        return answer

    def host_ips(self) -> tuple[str, ...]:
        """The node's addresses: its InternalIPs, else the configured or the default route's one; empty without any."""
        listed = (self.node().get("status") or {}).get("addresses") or []
        found = tuple(item["address"] for item in listed if item.get("type") == "InternalIP")
        return found or self._own_address()

    def dns(self) -> tuple[str, ...]:
        """The cluster's DNS server: as configured; when joined, by convention from default/kubernetes; else none."""
        if self._settings.cluster_dns:
            return tuple(part.strip() for part in self._settings.cluster_dns.split(",") if part.strip())
        value = None if self._settings.embedded else self._services.get("default/kubernetes")
        if value is None:
            return ()
        address = (self._parse("services/default/kubernetes", value).get("spec") or {}).get("clusterIP")
        return (str(ipaddress.ip_address(address) + DNS_OFFSET),) if address and address != "None" else ()

    def _own_address(self) -> tuple[str, ...]:
        if not self._address:
            try:
                self._address = self._settings.address
            except ConfigError:
                return ()
        return (self._address,)

    def _service(self, change: Change) -> None:
        if change.value is None:
            with self._lock:
                self._parsed.pop(f"services/{change.key}", None)

    def _check_ready(self) -> None:
        was, self._ready = self._ready, self.ready
        if self._ready and not was:
            self._on_ready()

    def _parse(self, name: str, value: bytes) -> dict[str, Any]:
        """The value as JSON, parsed once for each new value."""
        with self._lock:
            held = self._parsed.get(name)
        if held is not None and held[0] is value:
            return held[1]
        parsed: dict[str, Any] = json.loads(value)
        with self._lock:
            self._parsed[name] = (value, parsed)
        return parsed


def runtime_class_key(name: str) -> str:
    """What a pod that names the class waits for, beside the keys of topic `objects`."""
    return f"runtimeclasses/{name}"


def node_resolv_conf() -> ResolvConf:
    """The node's resolver configuration; where it names systemd-resolved's stub, which no pod reaches, the real one."""
    found = _resolv_conf(RESOLV_CONF)
    if found.servers and all(server == _STUB for server in found.servers) and STUB_RESOLV_CONF.is_file():
        return _resolv_conf(STUB_RESOLV_CONF)
    return found


def _resolv_conf(path: Path) -> ResolvConf:
    try:
        return parse_resolv_conf(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ResolvConf()  # a node without one has no name servers to hand on
