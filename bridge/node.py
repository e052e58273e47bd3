"""Topic `node-status`: what this node is, has, and whether it can run pods. One thread, `node-status`.

Every ten seconds, and every two seconds a cheap look whether Ready would say something else, so that a runtime that
went away shows soon. The runtime's absence is a reported condition, never an end of the process.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bridge import host
from bridge.pb.runtime.v1 import api_pb2
from bridge.runtime import Runtime
from bridge.spec import Features
from vkcri.api import times
from vkcri.config import RuntimeSettings
from vkcri.errors import Unavailable, VkcriError
from vkcri.lifecycle import Process
from vkcri.queue import Publisher

TOPIC, KEY = "node-status", "node"
PERIOD = 10.0
LOOK = 2.0
CALL_SECONDS = 10.0
RELIST_MOST = 180.0
MOST_IMAGES = 50
MOST_NAMES = 5
DECLARED = (
    "InPlacePodLevelResourcesVerticalScaling",
    "InPlacePodVerticalScalingInitContainers",
    "RestartAllContainersOnContainerExits",
)
"""By which the API server knows what it may ask of this node (status.declaredFeatures), in order."""
_PRESSURES = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}
"""Condition -> (reason, message) of a node that is not short, and of one that is."""
_UNCHECKED = "container runtime status check may not have completed yet"
_NO_NETWORK = "container runtime network not ready"
_PLUGIN_NOT_READY = "NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: "
log = logging.getLogger(__name__)


class NodeStatus:
    """The node as the runtime and the host show it. relisted(): when CRI was last read whole, None: never. trouble():
    why pods cannot be run besides that, network(): why they have no network besides; empty for no reason. pressures():
    what it is short of; reserved(capacity): amounts that it keeps from pods, by resource name."""

    def __init__(
        self,
        settings: RuntimeSettings,
        runtime: Runtime,
        publisher: Publisher,
        relisted: Callable[[], float | None],
        trouble: Callable[[], str],
        clock: Callable[[], float] = time.time,
        *,
        network: Callable[[], str] = str,
        pressures: Callable[[], Collection[str]] = tuple,
        reserved: Callable[[Mapping[str, str]], Mapping[str, int]] = lambda _capacity: {},
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._publisher = publisher
        self._relisted = relisted
        self._trouble = trouble
        self._clock = clock
        self._network = network
        self._pressures = pressures
        self._reserved = reserved
        self._lock = threading.Lock()
        self._began = clock()
        self._version = api_pb2.VersionResponse()
        self._status = api_pb2.StatusResponse()
        self._images: list[dict[str, Any]] = []
        self._error = "the runtime has not been asked yet"
        self._allocatable: dict[str, str] = {}
        self._said: Any = None

    def start(self, process: Process) -> None:
        def loop() -> None:
            due = 0.0
            while True:
                with process.expect("the runtime's status", 6 * CALL_SECONDS):
                    self.ask()
                    if time.monotonic() >= due or self._conditions() != self._said:
                        self.publish()
                        due = time.monotonic() + PERIOD
                if process.wait(LOOK):
                    return

        process.start_thread("node-status", loop)

    @property
    def allocatable(self) -> Mapping[str, str]:
        """What pods may ask for, by resource name."""
        with self._lock:
            if self._allocatable:
                return self._allocatable
        capacity = host.capacity(self._settings.instance.state_dir, self._settings.max_pods)
        found = host.allocatable(capacity, self._reserved(capacity))
        with self._lock:
            self._allocatable = found
        return found

    def network_error(self) -> str:
        """Why pods have no network, in the words of the runtime's condition; empty when they have."""
        ours = self._network()
        if ours:
            return f"{_NO_NETWORK}: {_PLUGIN_NOT_READY}{ours}"
        with self._lock:
            status = self._status
        return _condition_error(status, "NetworkReady", _NO_NETWORK)

    def features(self, handler: str = "") -> Features:
        """What the runtime vouches for by that handler, as of its last answer; asked now where there is none yet.
        Raises Unavailable where the runtime does not answer: a pod must not be refused for that."""
        with self._lock:
            known = bool(self._version.runtime_name)
        if not known:
            self.ask()
        with self._lock:
            if not self._version.runtime_name:
                raise Unavailable(f"what the runtime can do is not known yet: {self._error}")
            return features(self._version, self._status, handler)

    def ask(self) -> None:
        """Ask the runtime how it is."""
        try:
            version = self._runtime.version(api_pb2.VersionRequest(version="0.1.0"), seconds=CALL_SECONDS)
            status = self._runtime.status(api_pb2.StatusRequest(), seconds=CALL_SECONDS)
        except VkcriError as error:
            with self._lock:
                self._error = str(error)
            return
        with self._lock:
            self._version, self._status, self._error = version, status, ""

    def publish(self) -> None:
        """Put the node's status into its topic."""
        self._said = self._conditions()
        ready = self._said[-1]
        if not ready["reason"] or ready["status"] == "False":
            log.warning("the node is not ready: %s", ready["message"])
        self._publisher.put(TOPIC, KEY, json.dumps(self.value(), separators=(",", ":")).encode())
        self._publisher.mark_synced(TOPIC)

    def value(self) -> dict[str, Any]:
        """The topic's value."""
        capacity = host.capacity(self._settings.instance.state_dir, self._settings.max_pods)
        allocatable = host.allocatable(capacity, self._reserved(capacity))
        relisted = self._relisted()
        with self._lock:
            version, status = self._version, self._status
            self._allocatable = allocatable
        name = f"{version.runtime_name}://{version.runtime_version}" if version.runtime_name else "containerd://Unknown"
        return {
            "capacity": capacity,
            "allocatable": allocatable,
            "nodeInfo": host.node_info(name),
            "conditions": self._conditions(),
            "images": self._list_images(),
            "runtimeHandlers": [_handler(item) for item in status.runtime_handlers],
            "features": {"supplementalGroupsPolicy": status.features.supplemental_groups_policy},
            "declaredFeatures": list(DECLARED),
            "relisted": times.seconds(times.of(relisted if relisted is not None else self._began)),
            "reported": times.seconds(times.of(self._clock())),
        }

    def _conditions(self) -> list[dict[str, Any]]:
        """What the node is short of, and at last Ready."""
        short = set(self._pressures())
        return [*(_pressure(kind, is_short=kind in short) for kind in _PRESSURES), self._ready()]

    def _ready(self) -> dict[str, Any]:
        """The condition Ready, with every reason why not."""
        with self._lock:
            status, error = self._status, self._error
        if error:
            errors = [f"container runtime is down: {error}"]
        else:
            errors = [
                found for found in (_condition_error(status, "RuntimeReady", _UNCHECKED), self.network_error()) if found
            ]
        last = self._relisted()
        age = self._clock() - (self._began if last is None else last)
        if age > RELIST_MOST:
            errors.append(f"PLEG is not healthy: pleg was last seen active {int(age)}s ago; threshold is 3m0s")
        trouble = self._trouble()
        if trouble and not error:
            errors.append(trouble)
        if not errors:
            return _condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")
        message = errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]"
        return _condition("Ready", "False", "KubeletNotReady", message)

    def _list_images(self) -> list[dict[str, Any]]:
        """The largest images; those of the last answer while the runtime is away."""
        try:
            answer = self._runtime.list_images(api_pb2.ListImagesRequest(), seconds=CALL_SECONDS)
        except VkcriError:
            return self._images
        largest = sorted(answer.images, key=lambda item: item.size, reverse=True)[:MOST_IMAGES]
        found = [(list(item.repo_digests) + list(item.repo_tags), int(item.size)) for item in largest]
        self._images = [{"names": listed[:MOST_NAMES], "sizeBytes": size} for listed, size in found if listed]
        return self._images


def features(version: api_pb2.VersionResponse, status: api_pb2.StatusResponse, handler: str = "") -> Features:
    """What may be asked of this runtime: by Status where it says so, by containerd's version for what Status is silent
    on (image volumes came with 2.1, their subPath with 2.2)."""
    handlers = [item.features for item in status.runtime_handlers if item.name == handler]
    number = version.runtime_version.lstrip("v").split(".")[:2]
    since = tuple(int(part) for part in number) if all(part.isdigit() for part in number) else (0, 0)
    return Features(
        handler=handler,
        user_namespaces=any(item.user_namespaces for item in handlers),
        recursive_read_only=any(item.recursive_read_only_mounts for item in handlers),
        supplemental_groups_policy=status.features.supplemental_groups_policy,
        image_volumes=version.runtime_name == "containerd" and since >= (2, 1),
        image_sub_paths=version.runtime_name == "containerd" and since >= (2, 2),
    )


def _condition_error(status: api_pb2.StatusResponse, kind: str, words: str) -> str:
    """What is wrong with a condition of the runtime, in its own words; empty where it is true."""
    for item in status.status.conditions:
        if item.type == kind:
            return "" if item.status else f"{words}: {kind}=false reason:{item.reason} message:{item.message}"
    return words


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _pressure(kind: str, *, is_short: bool) -> dict[str, Any]:
    return _condition(kind, "True" if is_short else "False", *_PRESSURES[kind][is_short])


def _handler(item: api_pb2.RuntimeHandler) -> dict[str, Any]:
    flags = {
        "recursiveReadOnlyMounts": item.features.recursive_read_only_mounts,
        "userNamespaces": item.features.user_namespaces,
    }
    return {"name": item.name, "features": flags}
