"""A cluster's signer and its approver, as far as tests of certificates need them: what kube-controller-manager does."""

import base64
import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vkcri import certs

Object = dict[str, Any]


class Signer:
    """A CA that signs requests for `seconds` of life, of which `age` seconds are over."""

    def __init__(self, name: str = "cluster-ca") -> None:
        self.ca = certs.CertificateAuthority.create(name)

    def sign(self, request: bytes, seconds: float = 3600.0, age: float = 0.0) -> bytes:
        """The certificate, PEM, with the request's subject and alternative names."""
        asked = x509.load_pem_x509_csr(request)
        key = serialization.load_pem_private_key(self.ca.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
        builder = x509.CertificateBuilder(
            issuer_name=certs.parse(self.ca.certificate).subject,
            subject_name=asked.subject,
            public_key=asked.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=begin,
            not_valid_after=begin + datetime.timedelta(seconds=seconds),
        )
        for extension in asked.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, found: Object, seconds: float = 3600.0, age: float = 0.0) -> None:
        """Approve and sign a CertificateSigningRequest, in place."""
        approve(found)
        pem = self.sign(base64.b64decode(found["spec"]["request"]), seconds, age)
        found["status"]["certificate"] = base64.b64encode(pem).decode("ascii")


def approve(found: Object) -> None:
    _condition(found, "Approved", "KubectlApprove", "This CSR was approved by kubectl certificate approve.")


def deny(found: Object) -> None:
    _condition(found, "Denied", "KubectlDeny", "This CSR was denied by kubectl certificate deny.")


def fail(found: Object) -> None:
    _condition(found, "Failed", "SignerValidationFailure", "usages did not match")


def _condition(found: Object, kind: str, reason: str, message: str) -> None:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    found.setdefault("status", {}).setdefault("conditions", []).append(condition)
