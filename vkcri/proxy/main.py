"""kube-proxy: keeps the kernel's rules at what `services`, `endpointslices` and `node` say.

The main thread does all the work; subscriptions only note which keys changed. Rules change only once both topics are
synced, so a proxy that starts before its watcher leaves alone what stands; SIGTERM leaves the rules too. Where the
watcher may not read them (its notice of that topic) that is this program's state, and its notice. Assumes that it is
the only writer of its tables.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

from vkcri.backoff import Backoff
from vkcri.config import ProxySettings
from vkcri.errors import Invalid, Unavailable
from vkcri.lifecycle import Process, program_main
from vkcri.metrics import Metrics
from vkcri.proxy import apply, model
from vkcri.queue import Change, Publisher, Subscription, notices
from vkcri.queue.events import EventRecorder
from vkcri.queue.notices import TOPIC as NOTICES
from vkcri.queue.notices import Notices

GATHER_SECONDS = 0.05
PATIENCE_SECONDS = 30.0
SYNC_SECONDS = 120.0
RETRY = Backoff(first=1.0, factor=2.0, most=30.0)
_SOURCES = ("services", "endpointslices")
_STATES = ("synced", "waiting", "forbidden")
log = logging.getLogger(__name__)


class Proxy:
    """One node's Services. `turn` is the main thread's; the callbacks are the subscriptions'."""

    def __init__(self, process: Process, settings: ProxySettings, kernel: apply.Kernel) -> None:
        self._process = process
        self._settings = settings
        self._kernel = kernel
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._dirty: set[tuple[str, str]] = set()
        self._services: dict[str, model.Service] = {}
        self._slices: dict[str, model.Slice] = {}
        self._said: dict[str, str] = {}
        self._error = ""
        self._masquerade_all = False
        self._applied_at = 0.0
        self._took = 0.0
        watcher = settings.instance.queue_socket("watcher")
        self._topics = {
            topic: Subscription(watcher, topic, self._note, on_synced=self._wake) for topic in (*_SOURCES, "node")
        }
        self._watcher_notices = Subscription(watcher, NOTICES, lambda _change: self._wake(""))
        self._publisher = Publisher(settings.instance.queue_socket("proxy"), ["events", NOTICES])
        self._notices = Notices(self._publisher)
        self._events = EventRecorder(self._publisher, "kube-proxy", settings.node_name)
        self._registry = Metrics()
        self._registry.count_process()
        self._publisher.set_metrics(self.metrics)

    def start(self) -> None:
        self._publisher.start(self._process)
        for topic in (*self._topics.values(), self._watcher_notices):
            topic.start(self._process)

    @property
    def synced(self) -> bool:
        return all(self._topics[name].synced() for name in _SOURCES)

    @property
    def state(self) -> str:
        """forbidden: the watcher may not read what the rules are made of; waiting: it has not read it yet; synced."""
        if any(self._watcher_notices.get(name) is not None for name in _SOURCES):
            return "forbidden"
        return "synced" if self.synced else "waiting"

    def run(self) -> None:
        """Until the process stops: wait for a change, gather what comes with it, make the kernel follow."""
        attempt, due = 0, time.monotonic() + PATIENCE_SECONDS
        while not self._process.stopping.is_set():
            self.tell()
            if not self.synced:
                due = self._complain(due)
                self._changed.wait(0.5)
                self._changed.clear()
                continue
            try:
                with self._process.expect("nft and conntrack", SYNC_SECONDS):
                    self.turn()
                attempt = 0
                self._wait(self._kernel.seconds_to_rebuild)
            except Unavailable as error:
                self._failed(str(error))
                self._process.wait(RETRY.delay(attempt))
                attempt += 1

    def turn(self) -> None:
        """Read what changed and apply it. Raises Unavailable."""
        for topic, key in self._take():
            self._read(topic, key)
        ports = model.build(self._services.values(), self._slices.values())
        began = time.monotonic()
        whole = self._kernel.seconds_to_rebuild == 0
        if whole:
            self._masquerade_all = not apply.prepare()
        self._kernel.sync(ports, self._subnets(), masquerade_all=self._masquerade_all)
        if whole:
            log.info("table %s built: %d services, %d ports", self._kernel.table, len(self._services), len(ports))
        self._took, self._applied_at = time.monotonic() - began, time.time()
        if self._error:
            log.info("rules are in place again")
            self._error = ""

    def metrics(self) -> str:
        """Prometheus text."""
        state = self.state
        lines = [f'vkcri_proxy_state{{state="{name}"}} {int(name == state)}' for name in _STATES]
        lines += [f'vkcri_proxy_synced{{topic="{name}"}} {int(item.synced())}' for name, item in self._topics.items()]
        lines += [f'vkcri_proxy_applied_total{{kind="{kind}"}} {n}' for kind, n in self._kernel.applied.items()]
        lines += [
            f"vkcri_proxy_services {len(self._services)}",
            f"vkcri_proxy_endpointslices {len(self._slices)}",
            f"vkcri_proxy_last_applied_timestamp_seconds {self._applied_at:.3f}",
            f"vkcri_proxy_last_apply_seconds {self._took:.6f}",
            f"vkcri_proxy_error {int(bool(self._error))}",
        ]
        typed: list[str] = []
        for name, members in groupby(lines, lambda line: line.partition(" ")[0].partition("{")[0]):
            typed += [f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}", *members]
        return "\n".join(typed) + "\n" + self._registry.text()

    def _note(self, change: Change) -> None:
        with self._lock:
            self._dirty.add((change.topic, change.key))
        self._changed.set()

    def _wake(self, _source: str) -> None:
        self._changed.set()

    def _wait(self, seconds: float) -> None:
        """Until a change comes or it is time to rebuild; then a moment more, since changes come in flocks."""
        deadline = time.monotonic() + seconds
        while not self._process.stopping.is_set() and time.monotonic() < deadline:
            if self._changed.wait(0.5):
                self._process.wait(GATHER_SECONDS)
                return

    def _take(self) -> set[tuple[str, str]]:
        self._changed.clear()
        with self._lock:
            dirty, self._dirty = self._dirty, set()
        return dirty

    def _read(self, topic: str, key: str) -> None:
        value = self._topics[topic].get(key)
        if topic == "services":
            self._keep(self._services, key, value, model.parse_service)
        elif topic == "endpointslices":
            self._keep(self._slices, key, value, lambda raw: model.parse_slice(raw, self._settings.node_name))

    def _keep(self, held: dict[str, Any], key: str, value: bytes | None, parse: Callable[[Any], Any]) -> None:
        """The parsed object in its place; without one where it has no rules. A broken one costs only itself."""
        held.pop(key, None)
        if value is None:
            self._said.pop(key, None)
            return
        raw = _object(value)
        try:
            parsed = parse(raw)
        except (Invalid, KeyError, TypeError, AttributeError) as error:
            self._say(raw, key, "InvalidObject", f"no rules: {error}")
            return
        if parsed is not None:
            held[key] = parsed
        if isinstance(parsed, model.Service) and parsed.unsupported:
            self._say(raw, key, "UnsupportedField", f"not served by this node: {', '.join(parsed.unsupported)}")

    def _say(self, raw: dict[str, Any], key: str, reason: str, message: str) -> None:
        """An event about a Service or EndpointSlice, once as long as it says the same."""
        if self._said.get(key) == message:
            return
        self._said[key] = message
        log.warning("%s: %s: %s", key, reason, message)
        namespace, _, name = key.partition("/")
        uid = str((raw.get("metadata") or {}).get("uid", ""))
        kind, group = ("EndpointSlice", "discovery.k8s.io/v1") if "addressType" in raw else ("Service", "v1")
        reference = {"apiVersion": group, "kind": kind, "namespace": namespace, "name": name, "uid": uid}
        self._events.event(reference, "Warning", reason, message)

    def _subnets(self) -> tuple[str, ...]:
        """The node's pod subnets; the instance's own where the node says none."""
        node = _object(self._topics["node"].get(self._settings.node_name) or b"{}")
        default = str(self._settings.instance.pod_subnet)
        try:
            return model.subnets(node, default)
        except Invalid as error:
            log.warning("Node %s: %s; %s is taken for the pod subnet", self._settings.node_name, error, default)
            return (default,)

    def _failed(self, error: str) -> None:
        if error != self._error:
            log.error("the rules are not what they should be: %s; trying again", error)
        self._error = error

    def tell(self) -> None:
        """Our own notice, as long as the watcher has one about what the rules are made of."""
        raw = next(filter(None, (self._watcher_notices.get(name) for name in _SOURCES)), None)
        if raw is None:
            self._notices.clear("rules")
            if self.synced:
                self._notices.known()
            return
        told = notices.parse(raw)
        self._notices.put("rules", f"the rules stay as they are: {told.message}", told.command)

    def _complain(self, due: float) -> float:
        """Say once a while what is waited for. Returns when to say it next."""
        if time.monotonic() < due:
            return due
        missing = [name for name in _SOURCES if not self._topics[name].synced()]
        log.warning("still waiting for %s of api-watcher; rules stay as they are", " and ".join(missing))
        return time.monotonic() + 10 * PATIENCE_SECONDS


def _object(value: bytes) -> dict[str, Any]:
    """The JSON object; an empty one, which is invalid everywhere, for what is none."""
    try:
        raw = json.loads(value)
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}


def serve(process: Process, settings: ProxySettings) -> None:
    """Keep the kernel's rules at what Services and EndpointSlices say."""
    proxy = Proxy(process, settings, apply.Kernel(settings.instance.nft_table))
    proxy.start()
    proxy.run()


def cleanup(settings: ProxySettings) -> None:
    """Remove our tables; traffic to ClusterIPs goes nowhere from here on."""
    apply.remove(settings.instance.nft_table)


main = program_main("kube-proxy", ProxySettings, serve, cleanup=cleanup)
