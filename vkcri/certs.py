"""Keys and certificates: a small CA, self-signed serving certificates, who a client certificate names.

ECDSA P-256 throughout. PEM in and out as bytes. `cryptography` is imported on first use, since it costs a process that
only serves an existing pair 10 MiB. Runs on any thread; keeps no state but a CA's own pair. It must not decide where
files go: the caller names the paths.
"""

import datetime
import ipaddress
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vkcri.errors import ConfigError, Invalid

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

CA_DAYS = 3650
LEAF_DAYS = 365
RENEW_DAYS = 30  # a kept certificate with less left is made anew
_BACKDATE = datetime.timedelta(hours=1)  # for clocks that differ


class CertificateAuthority:
    """A CA's certificate and key, and what it issues. `certificate` and `key` are PEM."""

    def __init__(self, certificate: bytes, key: bytes) -> None:
        """Raises Invalid where the two are not a PEM certificate and its ECDSA key."""
        self.certificate, self.key = certificate, key
        self._issuer = parse(certificate)
        self._signer = _private_key(key)
        if self._issuer.public_key() != self._signer.public_key():
            raise Invalid("the CA's key does not belong to its certificate")

    @classmethod
    def create(cls, common_name: str) -> Self:
        """A new CA that may sign certificates for CA_DAYS."""
        from cryptography import x509

        key = _new_key()
        name = _name(common_name, ())
        builder = _builder(name, name, key, CA_DAYS).add_extension(x509.BasicConstraints(True, 0), critical=True)
        builder = builder.add_extension(_key_usage(authority=True), critical=True)
        return cls(_sign(builder, key), _key_pem(key))

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Self:
        """The CA in two files. Raises ConfigError naming the file that is missing or wrong."""
        try:
            return cls(certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error
        except Invalid as error:
            raise ConfigError(f"{certificate}, {key}: {error}") from error

    def issue_server(
        self, names: Iterable[str], ips: Iterable[str], *, common_name: str = "", organizations: Iterable[str] = ()
    ) -> tuple[bytes, bytes]:
        """A serving certificate and its key for DNS names and addresses; the common name defaults to the first."""
        from cryptography.x509.oid import ExtendedKeyUsageOID

        names, ips = list(names), list(ips)
        subject = _name(common_name or (names + ips)[0], organizations)
        return self._issue(subject, ExtendedKeyUsageOID.SERVER_AUTH, _alternative_names(names, ips))

    def issue_client(self, common_name: str, organizations: Iterable[str] = ()) -> tuple[bytes, bytes]:
        """A client certificate and its key: user and groups, as Kubernetes reads them."""
        from cryptography.x509.oid import ExtendedKeyUsageOID

        return self._issue(_name(common_name, organizations), ExtendedKeyUsageOID.CLIENT_AUTH, None)

    def _issue(
        self, subject: "x509.Name", usage: "x509.ObjectIdentifier", names: "x509.SubjectAlternativeName | None"
    ) -> tuple[bytes, bytes]:
        key = _new_key()
        builder = _leaf(_builder(subject, self._issuer.subject, key, LEAF_DAYS, self._signer), [usage], names)
        return _sign(builder, self._signer), _key_pem(key)


def self_signed(common_name: str, names: Iterable[str], ips: Iterable[str]) -> tuple[bytes, bytes]:
    """A serving certificate that vouches for itself, and its key, as PEM: what the kubelet makes without a pair."""
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = _new_key()
    name = _name(common_name, ())
    builder = _builder(name, name, key, LEAF_DAYS)
    builder = _leaf(builder, [ExtendedKeyUsageOID.SERVER_AUTH], _alternative_names(list(names), list(ips)))
    return _sign(builder, key), _key_pem(key)


def signing_request(
    common_name: str, organizations: Iterable[str], names: Iterable[str], ips: Iterable[str]
) -> tuple[bytes, bytes]:
    """A new key and a request for a certificate of it, both PEM; alternative names only where there are some."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key, names, ips = _new_key(), list(names), list(ips)
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name, organizations))
    if names or ips:
        builder = builder.add_extension(_alternative_names(names, ips), critical=False)
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return _key_pem(key), request


def public_key(pem: bytes) -> bytes:
    """The public half of a PEM private key, DER. Raises Invalid."""
    return encoded(_private_key(pem).public_key())


def encoded(key: "CertificatePublicKeyTypes") -> bytes:
    """A public key as DER, by which two are compared."""
    from cryptography.hazmat.primitives import serialization as form

    return key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)


def peer_identity(der: bytes) -> tuple[str, list[str]]:
    """Common name and organizations of a client certificate: Kubernetes' user and groups. Raises Invalid."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        subject = x509.load_der_x509_certificate(der).subject
    except ValueError as error:
        raise Invalid(f"not a certificate: {error}") from error
    common_names = [str(item.value) for item in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    organizations = [str(item.value) for item in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return (common_names[-1] if common_names else ""), organizations


def serves(pem: bytes) -> bool:
    """Whether a certificate names serverAuth (or no extended usage at all, which allows each). Raises Invalid."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usage = parse(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def covers(pem: bytes, names: Iterable[str], ips: Iterable[str], now: datetime.datetime) -> bool:
    """Whether a kept certificate is still good: names them all and has RENEW_DAYS left. Raises Invalid."""
    from cryptography import x509

    certificate = parse(pem)
    try:
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    found = {*held.get_values_for_type(x509.DNSName), *(str(ip) for ip in held.get_values_for_type(x509.IPAddress))}
    left = certificate.not_valid_after_utc - now
    return found >= {*names, *ips} and left > datetime.timedelta(days=RENEW_DAYS)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file by one that only its owner can read, at no moment half written. Creates its folder, 0700."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        scratch.replace(path)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _new_key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization as form

    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())


def _private_key(pem: bytes) -> "EllipticCurvePrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(f"not a PEM private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Invalid("not an ECDSA key")
    return key


def parse(pem: bytes) -> "x509.Certificate":
    """The first certificate of a PEM text. Raises Invalid."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise Invalid(f"not a PEM certificate: {error}") from error


def _name(common_name: str, organizations: Iterable[str]) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_names(names: list[str], ips: list[str]) -> "x509.SubjectAlternativeName":
    from cryptography import x509

    addresses = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
    return x509.SubjectAlternativeName([*(x509.DNSName(name) for name in names), *addresses])


def _builder(
    subject: "x509.Name",
    issuer: "x509.Name",
    key: "EllipticCurvePrivateKey",
    days: int,
    signer: "EllipticCurvePrivateKey | None" = None,
) -> "x509.CertificateBuilder":
    """Names, serial number, validity and the two key identifiers."""
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    signer_public = (signer or key).public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_public), critical=False)
    )


def _leaf(
    builder: "x509.CertificateBuilder",
    usages: "list[x509.ObjectIdentifier]",
    names: "x509.SubjectAlternativeName | None",
) -> "x509.CertificateBuilder":
    """What a certificate that signs no other carries."""
    from cryptography import x509

    builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.add_extension(names, critical=False) if names is not None else builder


def _key_usage(*, authority: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _sign(builder: "x509.CertificateBuilder", signer: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization

    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
