"""Each program's arguments, as kubeadm gives them, for one node's worth of load. Pure.

Leader election is off (there is one of each). `extra` adds flags or replaces them by name: a test that needs short
certificates says {"kube-controller-manager": {"cluster-signing-duration": "1h"}}.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.pki import DOMAIN
from tests.cluster.place import Place

Flags = Mapping[str, str]


def etcd(place: Place, program: Path) -> Sequence[str]:
    """One member on loopback. It has no fsync switch in this version, so its folder's disk sets the pace."""
    client = f"https://127.0.0.1:{place.port('etcd')}"
    peer = f"http://127.0.0.1:{place.port('etcd-peer')}"
    return _command(
        program,
        {
            "name": place.name,
            "data-dir": str(place.folder / "etcd"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"{place.name}={peer}",
            "client-cert-auth": "true",
            "trusted-ca-file": _pki(place, "etcd-ca.crt"),
            "cert-file": _pki(place, "etcd.crt"),
            "key-file": _pki(place, "etcd.key"),
            "enable-grpc-gateway": "false",  # it would use the serving certificate as a client's
            "logger": "zap",
            "log-level": "warn",
        },
    )


def apiserver(place: Place, program: Path, extra: Flags) -> Sequence[str]:
    """Listens on the node's address alone, which pods reach, and so default/kubernetes needs no help."""
    return _command(
        program,
        {
            "advertise-address": place.address,
            "bind-address": place.address,
            "secure-port": str(place.port("kube-apiserver")),
            "service-cluster-ip-range": str(place.service_range),
            "etcd-servers": f"https://127.0.0.1:{place.port('etcd')}",
            "etcd-cafile": _pki(place, "etcd-ca.crt"),
            "etcd-certfile": _pki(place, "apiserver-etcd-client.crt"),
            "etcd-keyfile": _pki(place, "apiserver-etcd-client.key"),
            "client-ca-file": _pki(place, "ca.crt"),
            "tls-cert-file": _pki(place, "apiserver.crt"),
            "tls-private-key-file": _pki(place, "apiserver.key"),
            "kubelet-client-certificate": _pki(place, "apiserver-kubelet-client.crt"),
            "kubelet-client-key": _pki(place, "apiserver-kubelet-client.key"),
            "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
            "service-account-issuer": f"https://kubernetes.default.svc.{DOMAIN}",
            "service-account-key-file": _pki(place, "sa.pub"),
            "service-account-signing-key-file": _pki(place, "sa.key"),
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "enable-bootstrap-token-auth": "true",
            "allow-privileged": "true",
            "requestheader-client-ca-file": _pki(place, "front-proxy-ca.crt"),
            "requestheader-allowed-names": "front-proxy-client",
            "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group",
            "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "proxy-client-cert-file": _pki(place, "front-proxy-client.crt"),
            "proxy-client-key-file": _pki(place, "front-proxy-client.key"),
        }
        | dict(extra),
    )


def controller_manager(place: Place, program: Path, extra: Flags) -> Sequence[str]:
    """All controllers, and those of the bootstrap tokens; it signs and approves as a kubeadm cluster does."""
    return _command(
        program,
        {
            **_client_of_the_apiserver(place, "kube-controller-manager"),
            "client-ca-file": _pki(place, "ca.crt"),
            "requestheader-client-ca-file": _pki(place, "front-proxy-ca.crt"),
            "root-ca-file": _pki(place, "ca.crt"),
            "cluster-signing-cert-file": _pki(place, "ca.crt"),
            "cluster-signing-key-file": _pki(place, "ca.key"),
            "service-account-private-key-file": _pki(place, "sa.key"),
            "use-service-account-credentials": "true",
            "controllers": "*,bootstrapsigner,tokencleaner",
            "service-cluster-ip-range": str(place.service_range),
            "allocate-node-cidrs": "true",
            "cluster-cidr": str(place.pod_range),
            "cluster-name": place.name,
        }
        | dict(extra),
    )


def scheduler(place: Place, program: Path, extra: Flags) -> Sequence[str]:
    return _command(program, _client_of_the_apiserver(place, "kube-scheduler") | dict(extra))


def coredns(place: Place, program: Path) -> Sequence[str]:
    return [str(program), "-conf", str(place.folder / "Corefile")]


def corefile(place: Place) -> str:
    """CoreDNS on the node's address; its port is the target of kube-system/kube-dns (objects)."""
    port = place.port("coredns")
    return f"""{DOMAIN}:{port} in-addr.arpa:{port} ip6.arpa:{port} {{
    bind {place.address}
    errors
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {place.kubeconfig("coredns")}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    forward . /etc/resolv.conf
}}
.:{port} {{
    bind {place.address}
    errors
    forward . /etc/resolv.conf
}}
"""


def _client_of_the_apiserver(place: Place, program: str) -> dict[str, str]:
    kubeconfig = str(place.kubeconfig(program))
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "secure-port": str(place.port(program)),
        "leader-elect": "false",
    }


def _pki(place: Place, name: str) -> str:
    return str(place.pki / name)


def _command(program: Path, flags: Flags) -> Sequence[str]:
    return [str(program), *(f"--{name}={value}" for name, value in flags.items())]
