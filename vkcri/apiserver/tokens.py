"""Service-account tokens: JWTs signed with ES256 by the server's own key, made and checked without a JWT library.

Any thread; the key is read once. What a token may be bound to and who may have one is token_requests'; whether what it
names still exists is authn's. Token values are never logged.
"""

import base64
import binascii
import hashlib
import json
from functools import cache
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from vkcri.api import times
from vkcri.errors import Unavailable
from vkcri.instance import Instance

ISSUER: Final = "https://kubernetes.default.svc.cluster.local"
API_AUDIENCE: Final = ISSUER
KEY_FILE: Final = "sa.key"
_WIDTH: Final = 32  # bytes of r and of s on P-256


class Signer:
    """Signs and verifies with one P-256 key; `kid` tells which, so that tokens of a replaced key are refused."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._kid = _encode(hashlib.sha256(public).digest())

    def sign(self, claims: dict[str, Any]) -> str:
        """The compact JWT of `claims`."""
        header = {"alg": "ES256", "kid": self._kid}
        signed = f"{_encode(_json(header))}.{_encode(_json(claims))}"
        der = self._key.sign(signed.encode("ascii"), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(der)
        return f"{signed}.{_encode(r.to_bytes(_WIDTH, 'big') + s.to_bytes(_WIDTH, 'big'))}"

    def verify(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that this key signed, `aud` always a list; None for any other text. Times are not
        looked at."""
        parts = token.split(".")
        if len(parts) != 3:
            return None
        try:
            header, claims, signature = json.loads(_decode(parts[0])), json.loads(_decode(parts[1])), _decode(parts[2])
            if header["alg"] != "ES256" or header.get("kid") != self._kid or len(signature) != 2 * _WIDTH:
                return None
            r, s = int.from_bytes(signature[:_WIDTH], "big"), int.from_bytes(signature[_WIDTH:], "big")
            signed = f"{parts[0]}.{parts[1]}".encode("ascii")
            self._key.public_key().verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
        except (ValueError, TypeError, KeyError, binascii.Error, InvalidSignature):
            return None
        if not isinstance(claims, dict):
            return None
        audience = claims.get("aud") or []
        return {**claims, "aud": audience if isinstance(audience, list) else [audience]}


def new_key() -> bytes:
    """A new signing key as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signer_of(pem: bytes) -> Signer:
    """The signer of a PEM key. Raises ValueError for anything but a P-256 private key."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a P-256 private key")
    return Signer(key)


@cache
def signer(instance: Instance) -> Signer:
    """The instance's signer, from the key that bootstrap wrote. Raises Unavailable where there is none."""
    path = instance.certificates_dir / KEY_FILE
    try:
        return signer_of(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unavailable(f"{path}: {error}") from error


def epoch(stamp: str) -> float:
    """Seconds since the epoch of an RFC 3339 time."""
    return times.to_epoch(stamp)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
