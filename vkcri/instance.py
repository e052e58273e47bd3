"""What an instance of vkcri is called on its guest: the one place that names a path, a port or a range there.

`Instance` derives all of them from the name, so that several instances can live on one guest.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from vkcri.errors import ConfigError

DEFAULT_INSTANCE = "vkcri"
_NAME = re.compile(r"[a-z][a-z0-9]{0,7}-([1-9][0-9]?)")


@dataclass(frozen=True)
class Instance:
    """One node on this guest. The default instance `vkcri` has the documented paths; any other is named `NAME-N`,
    1 <= N <= 99, and N shifts its ports and ranges, so that N must be unique on the guest."""

    name: str = DEFAULT_INSTANCE

    def __post_init__(self) -> None:
        if self.name != DEFAULT_INSTANCE and not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"VKCRI_INSTANCE={self.name!r}: an instance is named '{DEFAULT_INSTANCE}' or NAME-N, with NAME of "
                "at most 8 lower-case letters and digits and N from 1 to 99"
            )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The instance that VKCRI_INSTANCE names; the default one when unset or empty."""
        return cls(environ.get("VKCRI_INSTANCE") or DEFAULT_INSTANCE)

    @property
    def is_default(self) -> bool:
        return self.name == DEFAULT_INSTANCE

    @property
    def index(self) -> int:
        """0 for the default instance, else the number that its name ends in."""
        return 0 if self.is_default else int(self.name.rpartition("-")[2])

    @property
    def folder(self) -> str:
        """The name of this instance's folders under /run, /var/lib, /var/log and /etc."""
        return "vk-cri" if self.is_default else f"vk-cri-{self.name}"

    @property
    def run_dir(self) -> Path:
        """Sockets, locks and pid files: gone after a reboot."""
        return Path("/run") / self.folder

    @property
    def state_dir(self) -> Path:
        """What outlives a reboot: the embedded store, certificates, volumes, our containerd's root."""
        return Path("/var/lib") / self.folder

    @property
    def log_dir(self) -> Path:
        """The programs' logs, and container logs in pods/ below it."""
        return Path("/var/log") / self.folder

    @property
    def config_file(self) -> Path:
        return Path("/etc") / self.folder / "config.toml"

    @property
    def manifests_dir(self) -> Path:
        """Static pods, one a file. Not kubeadm's /etc/kubernetes/manifests: those are another agent's to run."""
        return Path("/etc") / self.folder / "manifests"

    @property
    def queues_dir(self) -> Path:
        """The queue's sockets; mode 0700 is the boundary between root and everybody else."""
        return self.run_dir / "queues"

    @property
    def locks_dir(self) -> Path:
        return self.run_dir / "locks"

    @property
    def supervisor_socket(self) -> Path:
        """In /run itself: supervisord makes no folders, and run_dir is gone after a reboot."""
        return Path("/run") / f"{self.folder}.supervisor.sock"

    @property
    def pod_logs_dir(self) -> Path:
        """Container logs: <namespace>_<pod>_<uid>/<container>/<restartCount>.log below it, CRI's line format."""
        return self.log_dir / "pods"

    @property
    def volumes_dir(self) -> Path:
        """<pod uid>/<plugin>/<volume> below it. run_dir/volumes is a link to it: /run is often noexec and small."""
        return self.state_dir / "volumes"

    @property
    def volumes_link(self) -> Path:
        return self.run_dir / "volumes"

    @property
    def instance_id_file(self) -> Path:
        """A random id made once; the Node's annotation `vkcri/instance` carries it and so says whose Node it is."""
        return self.state_dir / "instance-id"

    @property
    def certificates_dir(self) -> Path:
        return self.state_dir / "pki"

    @property
    def store_file(self) -> Path:
        """The embedded API server's SQLite database."""
        return self.state_dir / "apiserver" / "store.db"

    @property
    def admin_kubeconfig(self) -> Path:
        """The embedded API server's admin.conf, 0600; KUBECONFIG set to it means embedded."""
        return self.state_dir / "admin.conf"

    @property
    def node_kubeconfig(self) -> Path:
        """The embedded API server's kubeconfig for `system:node:<name>`, 0600; api-watcher uses it."""
        return self.state_dir / "node.conf"

    @property
    def kubelet_kubeconfig(self) -> Path:
        """The kubeconfig for `system:node:<name>` that TLS bootstrap writes, 0600; its pair is in certificates_dir."""
        return self.state_dir / "kubelet.conf"

    @property
    def log_api_token_file(self) -> Path:
        """The token that the plain-HTTP log API wants, 0600."""
        return self.state_dir / "log-api-token"

    @property
    def checkpoints_dir(self) -> Path:
        """What /checkpoint wrote: memory of containers, so 0700."""
        return self.state_dir / "checkpoints"

    @property
    def containerd_root(self) -> Path:
        return self.state_dir / "containerd"

    @property
    def containerd_state(self) -> Path:
        return self.run_dir / "containerd"

    @property
    def containerd_cni_dir(self) -> Path:
        """The CNI folder of our own containerd; a user's containerd has its own (asked of CRI's Status)."""
        return self.state_dir / "cni" / "net.d"

    @property
    def runtime_endpoint(self) -> str:
        """The CRI endpoint unless CONTAINER_RUNTIME_ENDPOINT is set."""
        socket_dir = Path("/run/containerd") if self.is_default else self.containerd_state
        return f"unix://{socket_dir}/containerd.sock"

    @property
    def cri_label(self) -> str:
        """The value of the CRI label `vkcri.instance`, by which we know our own sandboxes and containers."""
        return self.name

    @property
    def cgroup_root(self) -> str:
        """The cgroup, below each hierarchy's root, that holds kubepods/."""
        return f"/{self.folder}"

    @property
    def nft_table(self) -> str:
        """Our one nftables table (family inet; ip for nat where a kernel wants it)."""
        return "vkcri" if self.is_default else f"vkcri_{self.name.replace('-', '_')}"

    @property
    def cni_name(self) -> str:
        """The CNI network's name, and the file's: it sorts last, so that any configuration of the user's wins."""
        return f"zzz-{self.folder}"

    @property
    def bridge_name(self) -> str:
        """The Linux bridge of the default network; an interface name has at most 15 characters."""
        return f"vkcri{self.index}"

    @property
    def pod_subnet(self) -> ipaddress.IPv4Network:
        """Where the node has no spec.podCIDR."""
        return ipaddress.IPv4Network(f"10.244.{self.index}.0/24")

    @property
    def service_range(self) -> ipaddress.IPv4Network:
        """The embedded API server's ClusterIPs; the first is default/kubernetes."""
        return ipaddress.IPv4Network(f"10.{100 + self.index}.0.0/20")

    @property
    def kubelet_port(self) -> int:
        return 10250 + 10 * self.index

    @property
    def log_api_port(self) -> int:
        """The plain-HTTP log API for people, on loopback."""
        return 10255 + 10 * self.index

    @property
    def apiserver_port(self) -> int:
        return 6443 + 10 * self.index

    @property
    def programs(self) -> tuple[str, ...]:
        """supervisord's program names, in the order of their start."""
        return ("containerd", "apiserver", "api-watcher", "cri-bridge", "log-server", "kube-proxy")

    def queue_socket(self, role: str) -> Path:
        """The socket of a queue owner: watcher, provider, kubelet or proxy."""
        return self.queues_dir / f"{role}.sock"
