"""What one cluster claims on the guest: its folder, ports and ranges, all from its number. Pure.

Number 0 is `make cluster`; tests claim those of CLAIMED, the rest is a person's. The ranges meet none of an instance's
(vkcri.config: 10.244.N.0/24 for pods, 10.100+N.0.0/20 for Services).
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from vkcri.errors import ConfigError

NUMBERS = range(40)
CLAIMED = range(1, 30)
_PORTS = ("kube-apiserver", "etcd", "etcd-peer", "kube-controller-manager", "kube-scheduler", "coredns", "rival")


@dataclass(frozen=True)
class Place:
    """Cluster `number` on a guest whose pods reach it under `address`."""

    number: int
    address: str

    def __post_init__(self) -> None:
        if self.number not in NUMBERS:
            raise ConfigError(f"cluster number {self.number}: from {NUMBERS[0]} to {NUMBERS[-1]}")

    @property
    def name(self) -> str:
        return "vkcri-cluster" if self.number == 0 else f"vkcri-cluster-{self.number}"

    @property
    def folder(self) -> Path:
        """Everything that the cluster keeps; gone once it is stopped."""
        return Path("/var/lib") / self.name

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def server(self) -> str:
        """The API server's URL, for the guest and its pods alike."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{self.port('kube-apiserver')}"

    @property
    def service_range(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(f"10.{200 + self.number}.0.0/20")

    @property
    def pod_range(self) -> ipaddress.IPv4Network:
        """Each node's podCIDR is a /24 of it."""
        return ipaddress.IPv4Network(f"10.{200 + self.number}.128.0/17")

    @property
    def dns(self) -> str:
        """The tenth service address, where pods expect their name server."""
        return str(self.service_range[10])

    def port(self, program: str) -> int:
        """Where a program listens, or etcd's peer URL."""
        return 16443 + 10 * self.number + _PORTS.index(program)

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def kubeconfig(self, user: str) -> Path:
        """admin, bootstrap, kube-controller-manager, kube-scheduler, coredns."""
        return self.folder / f"{user}.conf"

    def node_kubeconfig(self, node: str) -> Path:
        return self.folder / "nodes" / f"{node}.conf"
