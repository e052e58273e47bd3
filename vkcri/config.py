"""The settings of each process, in a frozen dataclass of its own, and how they are loaded.

Where a setting's value comes from, vkcri.setting says; the TOML file is `/etc/<instance's folder name>/config.toml`, or
what VKCRI_CONFIG names. Nothing here is reloaded: a restart is cheap.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vkcri.api import quantities
from vkcri.errors import ConfigError, Invalid
from vkcri.instance import Instance
from vkcri.setting import absolute, given, read_toml, setting, settings_of

_HANDLER = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_C = TypeVar("_C", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """What every process' settings share. Subclasses add theirs; `load` is the only constructor used outside tests."""

    instance: Instance = field(default_factory=Instance)
    log_level: str = setting("INFO", "DEBUG, INFO, WARNING or ERROR, for every program", env=("VKCRI_LOG_LEVEL",))

    def __post_init__(self) -> None:
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ConfigError(f"log_level={self.log_level!r}: one of DEBUG, INFO, WARNING, ERROR")


@dataclass(frozen=True)
class ClusterSettings(Settings):
    """Which API server, and as which node: read by every program that must know whether it runs embedded."""

    kubeconfig: str = setting(
        "",
        "the cluster to join; unset, empty or the embedded server's own: embedded",
        env=("KUBECONFIG",),
        empty_is_value=True,
        is_path=True,
        instead=("BOOTSTRAP_KUBECONFIG",),
    )
    bootstrap_kubeconfig: str = setting(
        "",
        "the cluster to join by TLS bootstrap: a kubeconfig whose token may ask for the node's own certificate",
        env=("BOOTSTRAP_KUBECONFIG",),
        empty_is_value=True,
        is_path=True,
        instead=("KUBECONFIG",),
    )
    node_name: str = setting(
        "", "the Node's name; default: the host's name", env=("VKUBELET_NODE_NAME", "DEFAULTNODE_NAME")
    )
    pod_ip: str = setting(
        "", "the node's address; default: the default route's source address", env=("VKUBELET_POD_IP",)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "node_name", (self.node_name or socket.gethostname()).strip().lower())
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", self.node_name):
            raise ConfigError(f"node_name={self.node_name!r} is not a DNS subdomain: set VKUBELET_NODE_NAME")
        if self.pod_ip:
            try:
                ipaddress.ip_address(self.pod_ip)
            except ValueError as error:
                raise ConfigError(f"pod_ip={self.pod_ip!r}: VKUBELET_POD_IP wants an IP address") from error
        written = (self.instance.admin_kubeconfig, self.instance.node_kubeconfig, self.instance.kubelet_kubeconfig)
        if self.bootstrap_kubeconfig and self.kubeconfig and not self._is_one_of(*written):
            raise ConfigError(
                f"KUBECONFIG={self.kubeconfig} and BOOTSTRAP_KUBECONFIG={self.bootstrap_kubeconfig} are two ways to "
                "join: give one of them, such as make run KUBECONFIG="
            )

    @property
    def embedded(self) -> bool:
        """Whether the embedded API server serves this node: no kubeconfig, or one that the embedded server wrote."""
        own = self._is_one_of(self.instance.admin_kubeconfig, self.instance.node_kubeconfig)
        return not self.bootstrap_kubeconfig and (not self.kubeconfig or own)

    @property
    def bootstraps(self) -> bool:
        """Whether the node's credentials are of TLS bootstrap: then api-watcher gets, keeps and renews them."""
        return bool(self.bootstrap_kubeconfig) or self._is_one_of(self.instance.kubelet_kubeconfig)

    @property
    def own_kubeconfig(self) -> bool:
        """Whether vkcri itself writes the kubeconfig that api-watcher uses."""
        return self.embedded or self.bootstraps

    @property
    def api_kubeconfig(self) -> Path:
        """The kubeconfig that api-watcher uses: the node's own identity when embedded or bootstrapped, else the one
        given."""
        if self.bootstraps:
            return self.instance.kubelet_kubeconfig
        return self.instance.node_kubeconfig if self.embedded else Path(self.kubeconfig)

    @property
    def joined_by(self) -> str:
        """The setting that names the cluster, as a variable; "" when embedded."""
        if self.bootstrap_kubeconfig:
            return f"BOOTSTRAP_KUBECONFIG={self.bootstrap_kubeconfig}"
        return "" if self.embedded else f"KUBECONFIG={self.kubeconfig}"

    def _is_one_of(self, *paths: Path) -> bool:
        """Whether `kubeconfig` is one of these files, by whatever name."""
        return bool(self.kubeconfig) and Path(self.kubeconfig).resolve() in {path.resolve() for path in paths}

    @property
    def address(self) -> str:
        """The node's InternalIP and status.hostIP. Raises ConfigError where none is set and none is found."""
        return self.pod_ip or default_address()


@dataclass(frozen=True)
class WatcherSettings(ClusterSettings):
    """api-watcher."""

    taint_key: str = setting("virtual-kubelet.io/provider", "the taint's key", env=("VKUBELET_TAINT_KEY",))
    taint_value: str = setting("cri", "the taint's value", env=("VKUBELET_TAINT_VALUE",), empty_is_value=True)
    taint_effect: str = setting(
        "NoSchedule", "NoSchedule, PreferNoSchedule or NoExecute", env=("VKUBELET_TAINT_EFFECT",)
    )
    disable_taint: bool = setting(
        False, "register without the taint (always so when embedded)", env=("VKUBELET_DISABLE_TAINT",)
    )
    kubelet_port: int = setting(0, "the daemon endpoint in the Node's status", env=("KUBELET_PORT",))
    max_pods: int = setting(110, "pods that the node takes, as the kubelet's default")
    static_pod_path: str = setting(
        "",
        "a folder of manifests (or one file) whose pods run without any API server; default: the instance's own",
        env=("VKUBELET_STATIC_POD_PATH",),
        is_path=True,
    )

    @property
    def static_pods(self) -> Path:
        return Path(self.static_pod_path) if self.static_pod_path else self.instance.manifests_dir

    def __post_init__(self) -> None:
        super().__post_init__()
        _default_port(self, "kubelet_port", self.instance.kubelet_port)
        if self.taint_effect not in ("NoSchedule", "PreferNoSchedule", "NoExecute"):
            raise ConfigError(
                f"taint_effect={self.taint_effect!r}: VKUBELET_TAINT_EFFECT is NoSchedule, PreferNoSchedule, NoExecute"
            )


@dataclass(frozen=True)
class RuntimeSettings(ClusterSettings):
    """cri-bridge and the containerd launcher."""

    runtime_endpoint: str = setting("", "the CRI socket", env=("CONTAINER_RUNTIME_ENDPOINT",))
    provider: str = setting(
        "",
        "a Python module or file with main() to run in the place of cri-bridge; empty: cri-bridge",
        env=("VKCRI_PROVIDER",),
        empty_is_value=True,
    )
    cluster_dns: str = setting(
        "", "pods' name server; default: default/kubernetes plus nine when joined, none when embedded"
    )
    cluster_domain: str = setting("cluster.local", "the cluster's DNS domain")
    parallel_starts: int = setting(
        4, "sandbox starts at a time: measured, 8 in parallel are slower than 4 on two cores"
    )
    runtime_events: bool = setting(
        True, "follow the runtime's events and read it whole each 10 s; false: poll it each second, as the kubelet does"
    )
    max_pods: int = setting(110, "pods that the node takes, as the kubelet's default")
    pod_pids_limit: int = setting(
        -1, "processes that a pod may have; -1: no limit of its own, as the kubelet's default"
    )
    allowed_unsafe_sysctls: str = setting(
        "", "kernel parameters that pods may set beside the safe ones: NAME or PREFIX*, by comma"
    )
    runtime_handlers: str = setting(
        "",
        "further handlers of our own containerd, for RuntimeClasses: NAME or NAME=/PATH/OF/AN/OCI/RUNTIME, by comma",
        env=("VKCRI_RUNTIME_HANDLERS",),
    )
    container_log_max_size: str = setting(
        "10Mi", "a container's log of this size is rotated, as the kubelet's default; negative: never"
    )
    container_log_max_files: int = setting(5, "files that a container's log may have, as the kubelet's default")
    eviction_hard: str = setting(
        "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%",
        "what the node must keep, else it evicts pods at once; the kubelet's default, in its notation; empty: nothing",
    )
    eviction_soft: str = setting("", "what it must keep, else it evicts pods once that has lasted")
    eviction_soft_grace_period: str = setting("", "how long that is: SIGNAL=1m30s by comma")
    eviction_minimum_reclaim: str = setting("", "how much more must be free for it to be over: SIGNAL=AMOUNT by comma")
    eviction_max_pod_grace_period: int = setting(0, "seconds that a pod has at most which a soft threshold evicts")
    eviction_pressure_transition_period: int = setting(
        300, "seconds that a condition of the node outlives its cause, as the kubelet's default"
    )
    image_gc_high_threshold: int = setting(
        85, "percent of the image file system in use at which unused images are removed, as the kubelet's default"
    )
    image_gc_low_threshold: int = setting(80, "percent in use that this aims at, as the kubelet's default")
    image_minimum_gc_age: int = setting(120, "seconds that an image stays in any case, as the kubelet's default")
    image_maximum_gc_age: int = setting(0, "seconds after which an unused image goes; 0: never for its age")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            quantities.parse(self.container_log_max_size)
        except Invalid as error:
            raise ConfigError(f"container_log_max_size={self.container_log_max_size!r}: {error}") from error
        if self.container_log_max_files < 2:
            raise ConfigError(f"container_log_max_files={self.container_log_max_files}: at least 2")
        if not 0 <= self.image_gc_low_threshold <= self.image_gc_high_threshold <= 100:
            marks = f"{self.image_gc_low_threshold}, image_gc_high_threshold={self.image_gc_high_threshold}"
            raise ConfigError(f"image_gc_low_threshold={marks}: percent, the low one not above the high one")
        if self.eviction_max_pod_grace_period < 0 or self.eviction_pressure_transition_period < 0:
            raise ConfigError(
                "eviction_max_pod_grace_period, eviction_pressure_transition_period: seconds, not below 0"
            )
        if self.image_minimum_gc_age < 0 or self.image_maximum_gc_age < 0:
            raise ConfigError("image_minimum_gc_age, image_maximum_gc_age: seconds, not below 0")
        endpoint = self.runtime_endpoint or self.instance.runtime_endpoint
        if not endpoint.startswith("unix://"):
            endpoint = f"unix://{endpoint}"
        if not endpoint.startswith("unix:///"):
            raise ConfigError(f"runtime_endpoint={endpoint!r}: CONTAINER_RUNTIME_ENDPOINT is unix:///path/to/socket")
        object.__setattr__(self, "runtime_endpoint", endpoint)
        self.handlers()

    def handlers(self) -> dict[str, str]:
        """`runtime_handlers` as NAME -> program, "" for runc. Raises ConfigError."""
        found: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in self.runtime_handlers.split(","))):
            name, given, program = part.partition("=")
            if not _HANDLER.fullmatch(name) or name == "runc" or name in found:
                raise ConfigError(f"runtime_handlers={part!r}: a DNS label that is not runc, each once")
            if given and not (program.startswith("/") and Path(program).is_file()):
                raise ConfigError(f"runtime_handlers={part!r}: {program!r} is no file's absolute path")
            found[name] = program
        return found

    @property
    def container_log_bytes(self) -> int:
        """The size at which a log is rotated; negative: never."""
        return quantities.value(self.container_log_max_size)

    @property
    def runtime_socket(self) -> Path:
        return Path(self.runtime_endpoint.removeprefix("unix://"))


@dataclass(frozen=True)
class KubeletSettings(ClusterSettings):
    """log-server."""

    kubelet_port: int = setting(0, "where the kubelet API is served, on every address", env=("KUBELET_PORT",))
    cert_file: str = setting(
        "",
        "the kubelet API's certificate; default: one that the cluster signs, self-signed till then and when embedded",
        env=("APISERVER_CERT_LOCATION",),
        is_path=True,
    )
    key_file: str = setting("", "its key", env=("APISERVER_KEY_LOCATION",), is_path=True)
    log_api_address: str = setting("127.0.0.1", "where the plain-HTTP log API listens")
    log_api_port: int = setting(0, "its port; default 10255")

    def __post_init__(self) -> None:
        super().__post_init__()
        _default_port(self, "kubelet_port", self.instance.kubelet_port)
        _default_port(self, "log_api_port", self.instance.log_api_port)
        if bool(self.cert_file) != bool(self.key_file):
            raise ConfigError("set both APISERVER_CERT_LOCATION and APISERVER_KEY_LOCATION, or neither")
        for path in filter(None, (self.cert_file, self.key_file)):
            if not Path(path).is_file():
                raise ConfigError(f"{path}: no such file (APISERVER_CERT_LOCATION, APISERVER_KEY_LOCATION)")


@dataclass(frozen=True)
class ProxySettings(ClusterSettings):
    """kube-proxy."""


@dataclass(frozen=True)
class ApiServerSettings(ClusterSettings):
    """The embedded API server."""

    apiserver_port: int = setting(0, "where the embedded API server listens, on every address; default 6443")
    kubelet_port: int = setting(0, "where it finds the node's kubelet API", env=("KUBELET_PORT",))

    def __post_init__(self) -> None:
        super().__post_init__()
        _default_port(self, "apiserver_port", self.instance.apiserver_port)
        _default_port(self, "kubelet_port", self.instance.kubelet_port)


ALL_SETTINGS: tuple[type[Settings], ...] = (
    WatcherSettings,
    RuntimeSettings,
    KubeletSettings,
    ProxySettings,
    ApiServerSettings,
)


def load(kind: type[_C], environ: Mapping[str, str] = os.environ) -> _C:
    """The settings of one process. Raises ConfigError, with the file or variable and the cure, on anything wrong."""
    instance = Instance.from_environ(environ)
    path = Path(absolute(environ.get("VKCRI_CONFIG") or str(instance.config_file)))
    table = read_toml(path, documented(), explicit=bool(environ.get("VKCRI_CONFIG")))
    return kind(instance=instance, **given(kind, environ, path, table))


def absolute_paths(environ: Mapping[str, str], folder: Path | None = None) -> dict[str, str]:
    """The environment with its documented paths absolute, for a process whose current folder is another one."""
    items = [item for kind in ALL_SETTINGS for item in settings_of(kind) if item.metadata["is_path"]]
    names = {"VKCRI_CONFIG", *(name for item in items for name in item.metadata["env"])}
    return {name: absolute(value, folder) if name in names else value for name, value in environ.items()}


def default_address() -> str:
    """The source address of the default route (no packet is sent). Raises ConfigError where there is no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: never answers, always takes the default route
            return str(probe.getsockname()[0])
        except OSError as error:
            raise ConfigError(
                f"no default route ({error.strerror}): set VKUBELET_POD_IP to this node's address"
            ) from error


def documented() -> dict[str, tuple[str, str]]:
    """Each setting's TOML key -> (its environment variables joined by ' or ', its documentation), for README's test."""
    rows: dict[str, tuple[str, str]] = {}
    for kind in ALL_SETTINGS:
        for item in settings_of(kind):
            rows[item.name] = (" or ".join(item.metadata["env"]), item.metadata["doc"])
    return rows


def _default_port(settings: Settings, name: str, default: int) -> None:
    """Fill in a port that was left at 0, and refuse one that is none."""
    port = getattr(settings, name) or default
    if not 1 <= port <= 65535:
        raise ConfigError(f"{name}={port}: a port from 1 to 65535")
    object.__setattr__(settings, name, port)
