"""The server's files: CA, serving and client certificates, the token key, the two kubeconfigs; all 0600.

Runs once at start, before any thread. A file that is good is kept: clients hold on to the CA and to their tokens. A
pair is made anew when it lacks a name of today, nears its end, was signed by another CA, or does not fit its key; so a
crash between two files is mended by the next start.
"""

import base64
import datetime
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from vkcri import certs
from vkcri.apiserver import tokens
from vkcri.apiserver.authn import MASTERS, NODES
from vkcri.config import ApiServerSettings
from vkcri.errors import ConfigError, Invalid

log = logging.getLogger(__name__)
CA: Final = "ca"
SERVING: Final = "apiserver"
KUBELET_CLIENT: Final = "apiserver-kubelet-client"
_CLUSTER: Final = "vkcri"
_NAMES: Final = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


def certificate(settings: ApiServerSettings, name: str) -> Path:
    """The certificate of CA, SERVING or KUBELET_CLIENT."""
    return settings.instance.certificates_dir / f"{name}.crt"


def key(settings: ApiServerSettings, name: str) -> Path:
    """Its key."""
    return settings.instance.certificates_dir / f"{name}.key"


def ensure(settings: ApiServerSettings) -> str:
    """Make or keep every file; returns the CA's certificate as PEM text. Raises ConfigError naming a file that cannot
    be read or written."""
    try:
        authority = _authority(settings)
        names, addresses = serving_names(settings)
        _pair(settings, SERVING, authority, lambda: authority.issue_server(names, addresses), names, addresses)
        for name, user, group in (
            (KUBELET_CLIENT, "kube-apiserver-kubelet-client", MASTERS),
            ("admin", "kubernetes-admin", MASTERS),
            ("node", f"system:node:{settings.node_name}", NODES),
        ):
            _pair(settings, name, authority, _issuer(authority, user, group), user=user)
        _token_key(settings.instance.certificates_dir / tokens.KEY_FILE)
        instance = settings.instance
        _kubeconfig(settings, instance.admin_kubeconfig, "admin", "kubernetes-admin")
        _kubeconfig(settings, instance.node_kubeconfig, "node", f"system:node:{settings.node_name}")
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from error
    return authority.certificate.decode("ascii")


def serving_names(settings: ApiServerSettings) -> tuple[list[str], list[str]]:
    """The DNS names and addresses that the serving certificate must hold."""
    names = [*_NAMES, "localhost", settings.node_name, socket.gethostname().lower()]
    addresses = ["127.0.0.1", "::1", settings.address, str(settings.instance.service_range[1])]
    return list(dict.fromkeys(names)), list(dict.fromkeys(addresses))


def server_url(settings: ApiServerSettings) -> str:
    """Where clients find the server."""
    address = settings.address
    host = f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    return f"https://{host}:{settings.apiserver_port}"


def _authority(settings: ApiServerSettings) -> certs.CertificateAuthority:
    """The CA that is there. A half-written one (no certificate, or no key) has signed nothing yet and is made anew."""
    files = certificate(settings, CA), key(settings, CA)
    if all(path.exists() for path in files):
        kept = certs.CertificateAuthority.load(*files)
        if _days_left(kept.certificate) > certs.RENEW_DAYS:
            return kept
        log.warning("the CA %s ends soon: a new one is made, and everything that it signed", files[0])
    made = certs.CertificateAuthority.create(f"{_CLUSTER}-ca")
    certs.write_private(files[1], made.key)
    certs.write_private(files[0], made.certificate)
    return made


def _issuer(authority: certs.CertificateAuthority, user: str, group: str) -> Callable[[], tuple[bytes, bytes]]:
    return lambda: authority.issue_client(user, [group])


def _pair(
    settings: ApiServerSettings,
    name: str,
    authority: certs.CertificateAuthority,
    issue: Callable[[], tuple[bytes, bytes]],
    names: Sequence[str] = (),
    addresses: Sequence[str] = (),
    *,
    user: str = "",
) -> None:
    """Keep a pair that is good for all this, or write a new one."""
    paths = certificate(settings, name), key(settings, name)
    if _good(paths, authority, names, addresses, user):
        return
    made = issue()
    certs.write_private(paths[1], made[1])
    certs.write_private(paths[0], made[0])
    log.info("certificate made: %s", paths[0])


def _good(
    paths: tuple[Path, Path],
    authority: certs.CertificateAuthority,
    names: Sequence[str],
    addresses: Sequence[str],
    user: str,
) -> bool:
    try:
        held, private = paths[0].read_bytes(), paths[1].read_bytes()
    except FileNotFoundError:
        return False
    try:
        parsed = x509.load_pem_x509_certificate(held)
        parsed.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
        if serialization.load_pem_private_key(private, None).public_key() != parsed.public_key():
            return False
        der = parsed.public_bytes(serialization.Encoding.DER)
        if user and certs.peer_identity(der)[0] != user:
            return False
        if names and not certs.covers(held, names, addresses, datetime.datetime.now(datetime.UTC)):
            return False
    except (ValueError, TypeError, InvalidSignature, Invalid) as error:
        log.warning("%s is made anew: %s", paths[0], error or type(error).__name__)
        return False
    return _days_left(held) > certs.RENEW_DAYS


def _days_left(pem: bytes) -> float:
    end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    return (end - datetime.datetime.now(datetime.UTC)) / datetime.timedelta(days=1)


def _token_key(path: Path) -> None:
    """A key that is there and does not parse is an error, not replaced: tokens of it may be out."""
    if not path.exists():
        certs.write_private(path, tokens.new_key())
        return
    try:
        tokens.signer_of(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; remove it to have a new one, which ends every token") from error


def _kubeconfig(settings: ApiServerSettings, path: Path, pair: str, user: str) -> None:
    """Write a kubeconfig with everything in it, unless the file says just that already."""
    authority, cert, private = (
        base64.b64encode(file.read_bytes()).decode("ascii")
        for file in (certificate(settings, CA), certificate(settings, pair), key(settings, pair))
    )
    text = f"""apiVersion: v1
kind: Config
clusters:
- name: {_CLUSTER}
  cluster:
    certificate-authority-data: {authority}
    server: {server_url(settings)}
users:
- name: {user}
  user:
    client-certificate-data: {cert}
    client-key-data: {private}
contexts:
- name: {user}@{_CLUSTER}
  context:
    cluster: {_CLUSTER}
    user: {user}
current-context: {user}@{_CLUSTER}
"""
    try:
        if path.read_text(encoding="ascii") == text:
            return
    except (FileNotFoundError, UnicodeDecodeError):
        log.info("kubeconfig made: %s", path)
    certs.write_private(path, text.encode("ascii"))
