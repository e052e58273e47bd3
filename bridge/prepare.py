"""Make the runtime ready for pods: the network, the pause image, the examples' shell image. One thread, `prepare`.

Asked of the runtime, never assumed: a runtime that has a network and its images is only read. What fails is tried again
and stands in the node's Ready condition meanwhile: `network_trouble`, which pods of the host's network do not mind, and
`trouble`. The first network is written once the pods' range is known (bridge.podrange): no pod has an address of
another one. Where the API server is away that is the instance's own after a while, so that static pods run.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from bridge import images_local, network
from bridge.cgroup_driver import refuse_systemd
from bridge.podrange import Known, Pending, PodRange, cidrs
from bridge.runtime import Runtime
from vkcri.backoff import Backoff
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, VkcriError
from vkcri.lifecycle import Process

RETRY = Backoff(first=0.2, factor=2.0, most=15.0)
LOOK = 5.0
STEP_SECONDS = 300.0
log = logging.getLogger(__name__)


class Preparation:
    """Prepares the runtime, again whenever it has lost its network or its pause image or the node's pod range has
    changed. node(): the Node, empty while there is none. on_ready() is called when pods can be started that could not
    before. making(): whether a sandbox is being made."""

    def __init__(
        self,
        settings: RuntimeSettings,
        runtime: Runtime,
        node: Callable[[], Mapping[str, Any]],
        on_ready: Callable[[], None],
        making: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._node = node
        self._on_ready = on_ready
        self._making = making
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._trouble = "the runtime is not prepared yet"
        self._network_trouble = "the network is not prepared yet"
        self._range = PodRange(settings.instance.pod_subnet, late=not settings.embedded)
        self._cidrs: tuple[str, ...] | None = None
        self._told: tuple[Known, bool] | None = None
        self._provisional = False  # whether the network was made for want of a Node: the next pod waits for its range
        self._due = LOOK
        self._pause = ""

    def trouble(self) -> str:
        """Why no sandbox can be started; empty when it can."""
        with self._lock:
            return self._trouble

    def network_trouble(self) -> str:
        """Why no sandbox with a network of its own can be started; empty when it can, as far as we know."""
        if self._provisional and self._node():
            return "the Node was not there yet when the network was made"
        with self._lock:
            return self._network_trouble

    def start(self, process: Process) -> None:
        def loop() -> None:
            attempt = 0
            while not process.stopping.is_set():
                self._wake.clear()
                with process.expect("the runtime's preparation", STEP_SECONDS):
                    attempt = 0 if self.prepare(process) else attempt + 1
                self._wake.wait(RETRY.delay(attempt - 1) if attempt else self._due)

        process.on_stop(self._wake.set)
        process.start_thread("prepare", loop)

    def node_changed(self) -> None:
        """Look again at once where the Node's range is another one. Runs on a subscription's thread."""
        if cidrs(self._node()) != self._cidrs:
            self._wake.set()

    def prepare(self, process: Process) -> bool:
        """Once through. False where something failed."""
        node = self._node()
        troubles = (self.trouble(), self.network_trouble())
        try:
            if not any(troubles) and self._stands(node):
                return True
            refuse_systemd(self._runtime)
            failed = not self._prepare_network(node, process)
            self._pause = images_local.ensure_pause(self._runtime, self._settings.runtime_socket)
        except VkcriError as error:
            self._set(str(error))
            return False
        self._set("")
        if troubles[0] or (troubles[1] and not self.network_trouble()):
            self._on_ready()
        try:
            images_local.ensure_shell(self._runtime, self._settings.runtime_socket)
        except Refused as error:
            log.warning("the examples' image could not be made: %s", error)
        except VkcriError as error:
            log.info("the examples' image: %s", error)
        return not failed

    @property
    def pause_image(self) -> str:
        """The sandboxes' image; empty before it is known."""
        return self._pause

    def _stands(self, node: Mapping[str, Any]) -> bool:
        """Whether nothing has changed since all was well."""
        same = not node or cidrs(node) == self._cidrs
        return same and network.not_ready(self._runtime) is None and self._has_pause()

    def _prepare_network(self, node: Mapping[str, Any], process: Process) -> bool:
        """False where it failed; a range that is not known yet is no failure."""
        try:
            pending, settled = self._ensure_network(node, process)
        except VkcriError as error:
            self._set_network(str(error))
            return False
        self._due = min(LOOK, pending.seconds) if pending else LOOK
        if settled and node:
            self._cidrs = cidrs(node)
        self._set_network(pending.reason if pending else "", level=logging.INFO)
        return True

    def _ensure_network(self, node: Mapping[str, Any], process: Process) -> tuple[Pending | None, bool]:
        """The runtime has a network, or why not yet; and whether its range is the Node's, which one is not that pods
        still use. A user's serves as it is; ours stands while there is no Node."""
        settled = True
        instance, folder = self._settings.instance, network.cni_dir(self._runtime)
        stands = network.file_in(folder, instance).exists()
        if not network.foreign_files(folder, instance) and (node or not stands):
            found = self._range.look(node, stands=stands, now=time.monotonic(), wall=time.time())
            if isinstance(found, Pending):
                self._provisional = False
                return found, False
            settled = network.ensure_network(
                self._runtime, self._settings, found.subnet, making=self._making, hold=self._hold
            )
            self._tell(found, settled=settled)
            self._provisional = not node and not self._settings.embedded
        network.wait_ready(self._runtime, process.wait)
        return None, settled

    def _hold(self) -> None:
        """No sandbox with a network of its own is begun until the other range is there."""
        self._set_network("the pod network gets another range", level=logging.INFO)

    def _tell(self, found: Known, *, settled: bool) -> None:
        """Once, and again where it is another one."""
        if (found, settled) == self._told:
            return
        self._told = found, settled
        if not settled:
            bridge = self._settings.instance.bridge_name
            log.warning("pods use the bridge %s: new ones get addresses of %s once they are gone", bridge, found.subnet)
        elif not found.given and not self._settings.embedded:
            log.warning(
                "nobody has given the node a range of pod addresses: %s serves, which other nodes have no route to; a "
                "podCIDR that comes later is taken once no pod runs",
                found.subnet,
            )

    def _has_pause(self) -> bool:
        """Somebody may have removed it since it was made."""
        return not self._pause or images_local.image_present(self._runtime, self._pause)

    def _set(self, trouble: str) -> None:
        with self._lock:
            was, self._trouble = self._trouble, trouble
        _log_change("pods cannot be started", "the runtime is ready for pods", was, trouble, logging.WARNING)

    def _set_network(self, trouble: str, level: int = logging.WARNING) -> None:
        with self._lock:
            was, self._network_trouble = self._network_trouble, trouble
        _log_change("there is no pod network", "the pod network is ready", was, trouble, level)


def _log_change(bad: str, good: str, was: str, now: str, level: int) -> None:
    if now and now != was:
        log.log(level, "%s: %s", bad, now)
    elif was and not now:
        log.info("%s", good)
