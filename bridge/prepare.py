"""Make the runtime ready for pods: the network, the pause image, the examples' shell image. One thread, `prepare`.

Asked of the runtime, never assumed: a runtime that has a network and its images is only read. What fails is tried again
and stands in the node's Ready condition meanwhile (`trouble`). The Node is waited for a moment before the first
network is written, so that its podCIDR serves from the start.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from typing import Any

from bridge import images_local, network
from bridge.cgroup_driver import refuse_systemd
from bridge.runtime import Runtime
from vkcri.backoff import Backoff
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, VkcriError
from vkcri.lifecycle import Process

RETRY = Backoff(first=0.2, factor=2.0, most=15.0)
LOOK = 5.0
STEP_SECONDS = 300.0
NODE_SECONDS = 3.0
log = logging.getLogger(__name__)


class Preparation:
    """Prepares the runtime, again whenever it has lost its network or its pause image or the node's pod range has
    changed. node(): the Node, empty while there is none. on_ready() is called when pods can be started."""

    def __init__(
        self,
        settings: RuntimeSettings,
        runtime: Runtime,
        node: Callable[[], Mapping[str, Any]],
        on_ready: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._node = node
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._trouble = "the runtime is not prepared yet"
        self._cidr: str | None = None
        self._pause = ""

    def trouble(self) -> str:
        """Why no sandbox can be started; empty when it can."""
        with self._lock:
            return self._trouble

    def start(self, process: Process) -> None:
        def loop() -> None:
            self.await_node(process)
            attempt = 0
            while not process.stopping.is_set():
                with process.expect("the runtime's preparation", STEP_SECONDS):
                    attempt = 0 if self.prepare(process) else attempt + 1
                process.wait(RETRY.delay(attempt - 1) if attempt else LOOK)

        process.start_thread("prepare", loop)

    def await_node(self, process: Process) -> None:
        """Wait for the Node, but not long: without api-watcher the instance's own range serves."""
        deadline = time.monotonic() + NODE_SECONDS
        while not self._node() and time.monotonic() < deadline:
            if process.wait(0.05):
                return

    def prepare(self, process: Process) -> bool:
        """Once through. False where something failed."""
        cidr = str((self._node().get("spec") or {}).get("podCIDR") or "")
        ready = not self.trouble()
        try:
            if ready and cidr == self._cidr and network.not_ready(self._runtime) is None and self._has_pause():
                return True
            refuse_systemd(self._runtime)
            network.ensure_network(self._runtime, self._settings, self._subnet(cidr))
            network.wait_ready(self._runtime, process.wait)
            self._pause = images_local.ensure_pause(self._runtime, self._settings.runtime_socket)
        except VkcriError as error:
            self._set(str(error))
            return False
        self._cidr = cidr
        self._set("")
        if not ready:
            self._on_ready()
        try:
            images_local.ensure_shell(self._runtime, self._settings.runtime_socket)
        except Refused as error:
            log.warning("the examples' image could not be made: %s", error)
        except VkcriError as error:
            log.info("the examples' image: %s", error)
        return True

    @property
    def pause_image(self) -> str:
        """The sandboxes' image; empty before it is known."""
        return self._pause

    def _has_pause(self) -> bool:
        """Somebody may have removed it since it was made."""
        return not self._pause or images_local.image_present(self._runtime, self._pause)

    def _subnet(self, cidr: str) -> IPv4Network:
        """The node's pod range; the instance's own where it has none, or none of IPv4."""
        for part in cidr.split(","):
            try:
                return IPv4Network(part.strip())
            except ValueError:
                continue  # no range, or one of IPv6
        return self._settings.instance.pod_subnet

    def _set(self, trouble: str) -> None:
        with self._lock:
            was, self._trouble = self._trouble, trouble
        if trouble and trouble != was:
            log.warning("pods cannot be started: %s", trouble)
        elif was and not trouble:
            log.info("the runtime is ready for pods")
