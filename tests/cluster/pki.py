"""A cluster's certificates, keys and kubeconfigs, as kubeadm lays them out: four CAs, each for one purpose.

A file that is there is kept, since running programs and joined nodes hold on to it; all of them are 0600 and go with
the folder. A pair's key is written before its certificate, so a certificate that is there has its key.
"""

import base64
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cluster.place import Place
from vkcri.certs import CertificateAuthority, write_private

MASTERS = "system:masters"
NODES = "system:nodes"
KUBELET_CLIENT = "kube-apiserver-kubelet-client"
COREDNS = "system:coredns"
DOMAIN = "cluster.local"
TOKEN_ID = "vkcri0"
_CLUSTER = "vkcri-cluster"


def ensure(place: Place) -> None:
    """Every file that the control plane reads, and the kubeconfigs of people and programs."""
    root, front, etcd = (authority(place, name) for name in ("ca", "front-proxy-ca", "etcd-ca"))
    _pair(place, "apiserver", lambda: root.issue_server(*_serving_names(place)))
    _pair(place, "apiserver-kubelet-client", lambda: root.issue_client(KUBELET_CLIENT))
    _pair(place, "front-proxy-client", lambda: front.issue_client("front-proxy-client"))
    _pair(place, "etcd", lambda: etcd.issue_server(["localhost"], ["127.0.0.1"]))
    _pair(place, "apiserver-etcd-client", lambda: etcd.issue_client("kube-apiserver-etcd-client"))
    _token_pair(place)
    for name, user, groups in (
        ("admin", "kubernetes-admin", [MASTERS]),
        ("kube-controller-manager", "system:kube-controller-manager", []),
        ("kube-scheduler", "system:kube-scheduler", []),
        ("coredns", COREDNS, []),
    ):
        client_kubeconfig(place, place.kubeconfig(name), user, groups)
    if not place.kubeconfig("bootstrap").exists():
        text = kubeconfig(place, "kubelet-bootstrap", f"    token: {TOKEN_ID}.{token_secret(place)}\n")
        write_private(place.kubeconfig("bootstrap"), text.encode("ascii"))


def authority(place: Place, name: str) -> CertificateAuthority:
    """The CA in pki/NAME.crt and .key, made where it is missing."""
    files = place.pki / f"{name}.crt", place.pki / f"{name}.key"
    if not files[0].exists():
        made = CertificateAuthority.create(f"{place.name}-{name}")
        write_private(files[1], made.key)
        write_private(files[0], made.certificate)
    return CertificateAuthority.load(*files)


def token_secret(place: Place) -> str:
    """The secret half of the bootstrap token TOKEN_ID, made where it is missing: sixteen characters."""
    path = place.pki / "bootstrap-token"
    if not path.exists():
        write_private(path, secrets.token_hex(8).encode("ascii"))
    return path.read_text()


def node_kubeconfig(place: Place, node: str) -> Path:
    """A kubeconfig of the identity system:node:NODE in the group system:nodes."""
    return client_kubeconfig(place, place.node_kubeconfig(node), f"system:node:{node}", [NODES])


def client_kubeconfig(place: Place, path: Path, user: str, groups: Sequence[str] = ()) -> Path:
    """A kubeconfig with a client certificate of the cluster's CA in it, made where it is missing."""
    if not path.exists():
        certificate, key = authority(place, "ca").issue_client(user, groups)
        credentials = f"    client-certificate-data: {_encoded(certificate)}\n    client-key-data: {_encoded(key)}\n"
        write_private(path, kubeconfig(place, user, credentials).encode("ascii"))
    return path


def kubeconfig(place: Place, user: str, credentials: str) -> str:
    """A kubeconfig's text; `credentials` is the user's part, indented by four spaces."""
    root = _encoded((place.pki / "ca.crt").read_bytes())
    return f"""apiVersion: v1
kind: Config
clusters:
- name: {_CLUSTER}
  cluster:
    certificate-authority-data: {root}
    server: {place.server}
users:
- name: {user}
  user:
{credentials}contexts:
- name: {user}@{_CLUSTER}
  context:
    cluster: {_CLUSTER}
    user: {user}
current-context: {user}@{_CLUSTER}
"""


def _serving_names(place: Place) -> tuple[list[str], list[str]]:
    service = [f"kubernetes{part}" for part in ("", ".default", ".default.svc", f".default.svc.{DOMAIN}")]
    names = [*service, "localhost", socket.gethostname().lower()]
    return names, list(dict.fromkeys([place.address, str(place.service_range[1]), "127.0.0.1"]))


def _pair(place: Place, name: str, issue: Callable[[], tuple[bytes, bytes]]) -> None:
    if not (place.pki / f"{name}.crt").exists():
        certificate, key = issue()
        write_private(place.pki / f"{name}.key", key)
        write_private(place.pki / f"{name}.crt", certificate)


def _token_pair(place: Place) -> None:
    """What service-account tokens are signed with: sa.key and its public half, sa.pub."""
    if not (place.pki / "sa.pub").exists():
        form, key = serialization, ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        write_private(place.pki / "sa.key", private)
        public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        write_private(place.pki / "sa.pub", public)


def _encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode("ascii")
