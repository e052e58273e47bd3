"""Certificates that somebody else's CA signs for us: the key, the request, the issued pair, and when it is renewed.

A key is ECDSA P-256, as the kubelet's, and never leaves this guest. Runs on any thread; the files are the only state.
`cryptography` is imported on first use, or never where a Pair is given another process to use it in (vkcri.apart).
Whom to ask, and what the answer means, is the caller's. Sources: client-go's util/certificate (certificate_manager,
certificate_store), the kubelet's pkg/kubelet/certificate.
"""

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from vkcri import certs
from vkcri.backoff import Backoff
from vkcri.errors import Invalid

if TYPE_CHECKING:
    from cryptography import x509

STANDS = Backoff(first=300.0, factor=2.0, most=3600.0)  # the cluster's cleaner takes refused requests after an hour
ORGANIZATION = "system:nodes"
_FIRST, _SPAN = 0.7, 0.2  # of its life: a certificate is renewed at some moment from 70 to 90 %
_REQUEST = b"-----BEGIN CERTIFICATE REQUEST-----"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Subject:
    """What a certificate is to say: the user and group that Kubernetes reads, and for a server what it is called."""

    common_name: str
    organizations: tuple[str, ...] = (ORGANIZATION,)
    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    @classmethod
    def of_node(cls, name: str, addresses: Iterable[Mapping[str, Any]] = ()) -> Self:
        """A node, and for its serving certificate the Node's `status.addresses`, as the kubelet sorts them: host names
        that are no addresses, and DNS names, by name; everything else that is an address, by address."""
        names: set[str] = set()
        found: set[str] = set()
        for item in addresses:
            kind, text = item.get("type"), str(item.get("address") or "")
            address = _address(text)
            if address and kind in ("Hostname", "ExternalIP", "InternalIP"):
                found.add(address)
            elif text and kind in ("Hostname", "ExternalDNS", "InternalDNS"):
                names.add(text)
        return cls(f"system:node:{name}", names=frozenset(names), addresses=frozenset(found))


@dataclass(frozen=True)
class Certificate:
    """What an issued certificate says. Times are Unix seconds; `key`: its public key, DER."""

    subject: Subject
    not_before: float
    not_after: float
    key: bytes
    fingerprint: bytes

    @property
    def renewal(self) -> float:
        """When to ask for the next one: 70 to 90 % of its life, as client-go's jitteryDuration. The certificate itself
        is the dice, so that a restart throws none anew, and nodes that were made together do not ask together."""
        dice = int.from_bytes(self.fingerprint[:4], "big") / 2**32
        return self.not_before + (self.not_after - self.not_before) * (_FIRST + _SPAN * dice)

    def satisfies(self, wanted: Subject) -> bool:
        """Whether it says all that is wanted; more does no harm."""
        held = self.subject
        return (
            held.common_name == wanted.common_name
            and set(held.organizations) >= set(wanted.organizations)
            and held.names >= wanted.names
            and held.addresses >= wanted.addresses
        )


class Patience:
    """How long a request that was denied, or that its signer failed, stands before the next one is made with a new key.
    Meanwhile it may be deleted at the API server: then it is made again at once, under its old name."""

    def __init__(self, backoff: Backoff = STANDS) -> None:
        self._backoff = backoff
        self._name = ""
        self._until = 0.0
        self._times = 0

    def left(self, name: str, now: float) -> float:
        """Seconds that this refused request stands yet; 0: give it up."""
        if name != self._name:
            self._name, self._until = name, now + self._backoff.delay(self._times)
            self._times += 1
        return max(0.0, self._until - now)

    def reset(self) -> None:
        """A request was answered well."""
        self._name, self._times = "", 0


class Run(Protocol):
    """Calls a function with its arguments, here or elsewhere."""

    def __call__(self, function: Callable[..., _T], *arguments: Any) -> _T: ...


def here(function: Callable[..., _T], *arguments: Any) -> _T:
    """The Run that only calls it."""
    return function(*arguments)


class Pair:
    """One certificate of ours in a folder: `NAME-current.pem`, the issued one and its key, and while a request for the
    next one is out `NAME-pending.pem`, that request and its key. Both 0600, each replaced at once. run: where what
    wants `cryptography` is called; it is asked once for each text."""

    def __init__(self, folder: Path, name: str, run: Run = here) -> None:
        self.current = folder / f"{name}-current.pem"
        self._pending = folder / f"{name}-pending.pem"
        self._run = run
        self._said: dict[Callable[[bytes], Any], tuple[bytes, Any]] = {}

    def _says(self, function: Callable[[bytes], _T], pem: bytes) -> _T:
        """What `read` or `requested` says of a text; that of the last text is remembered."""
        digest = hashlib.sha256(pem).digest()  # there is a key in the text
        held = self._said.get(function)
        if held is None or held[0] != digest:
            held = self._said[function] = (digest, self._run(function, pem))
        said: _T = held[1]
        return said

    def issued(self) -> Certificate | None:
        """The certificate that is there; None for none, or for one that cannot be used."""
        try:
            return self._says(read, self.current.read_bytes())
        except (OSError, Invalid):
            return None

    def note(self) -> str:
        """What `accept` was given to remember with the certificate that is there."""
        try:
            first = self.current.read_text(encoding="ascii").partition("\n")[0]
        except (OSError, ValueError):
            return ""
        return "" if first.startswith("-----") else first

    def request(self, wanted: Subject) -> bytes:
        """The request that is out, as PEM; a new one, with a new key, where there is none or it wants something else.
        So it is the same again after a restart. Raises OSError where it cannot be kept."""
        try:
            held = self._pending.read_bytes()
            if self._says(requested, held) == wanted:
                return held[held.index(_REQUEST) :]
        except (OSError, Invalid, ValueError):
            pass  # none, or none that can be used
        key, request = self._run(
            certs.signing_request,
            *(wanted.common_name, wanted.organizations, sorted(wanted.names), sorted(wanted.addresses)),
        )
        certs.write_private(self._pending, key + request)
        return request

    def accept(self, pem: bytes, now: float, note: str = "") -> Certificate:
        """Put the issued certificate (PEM, its chain behind it) in its place, with the key of the request that is out.
        Raises Invalid, and changes nothing, where it is not the one that was asked for or has ended; OSError."""
        held = self._pending.read_bytes()
        made = self._run(answering, pem, held)
        if made.not_after <= now:
            raise Invalid("the issued certificate has ended already")
        head = f"{note}\n".encode("ascii") if note else b""
        certs.write_private(self.current, head + pem.strip() + b"\n" + held[: held.index(_REQUEST)])
        self.forget()
        return made

    def forget(self) -> None:
        """Give up the request that is out: the next one has a new key. Harmless where none is."""
        self._pending.unlink(missing_ok=True)


def read(pem: bytes) -> Certificate:
    """The first certificate of a PEM text. Raises Invalid where there is none."""
    found = certs.parse(pem)
    subject = Subject(*_named(found.subject), *_alternatives(found.extensions))
    return Certificate(
        subject=subject,
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
        key=certs.encoded(found.public_key()),
        fingerprint=hashlib.sha256(found.tbs_certificate_bytes).digest(),
    )


def answering(pem: bytes, request: bytes) -> Certificate:
    """The first certificate of a PEM text, where it is what was asked for. request: PEM, with its key before it. Raises
    Invalid where it is not."""
    made = read(pem)
    if made.key != certs.public_key(request) or not made.satisfies(requested(request)):
        raise Invalid("the issued certificate is not the one that was asked for")
    return made


def requested(pem: bytes) -> Subject:
    """What the request in a PEM text asks for. Raises Invalid."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_csr(pem[pem.index(_REQUEST) :])
    except ValueError as error:
        raise Invalid(f"not a PEM certificate request: {error}") from error
    return Subject(*_named(found.subject), *_alternatives(found.extensions))


def approval(name: str) -> str:
    """What an administrator types to approve a CertificateSigningRequest."""
    return f"kubectl certificate approve {name}"


def _named(name: "x509.Name") -> tuple[str, tuple[str, ...]]:
    from cryptography.x509.oid import NameOID

    common = [str(item.value) for item in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    organizations = tuple(str(item.value) for item in name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    return (common[-1] if common else ""), organizations


def _alternatives(extensions: "x509.Extensions") -> tuple[frozenset[str], frozenset[str]]:
    from cryptography import x509

    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset(), frozenset()
    addresses = frozenset(str(ip) for ip in found.get_values_for_type(x509.IPAddress))
    return frozenset(found.get_values_for_type(x509.DNSName)), addresses


def _address(text: str) -> str:
    """An IP address in its one spelling; "" for what is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
