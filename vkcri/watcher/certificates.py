"""CertificateSigningRequests at the API server: one for each request of ours, and what became of it.

The object's name is made from the request itself, which is kept with its key until it is answered (vkcri.signing): so a
restart, or an answer that was lost, finds the one that is there, and no second one is made. A node may not delete them;
the cluster's own cleaner does, a pending one after a day. Runs on the caller's thread and holds nothing. Sources:
client-go's util/certificate/csr, the kubelet's pkg/kubelet/certificate and certificate/bootstrap.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vkcri.errors import Conflict, Invalid, NotFound
from vkcri.kube.client import TIMEOUT, Client

COLLECTION = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


@dataclass(frozen=True)
class Signer:
    """Who signs, and what the certificate may be used for (with an ECDSA key: no key encipherment)."""

    name: str
    usages: tuple[str, ...]


CLIENT = Signer("kubernetes.io/kube-apiserver-client-kubelet", ("digital signature", "client auth"))
SERVING = Signer("kubernetes.io/kubelet-serving", ("digital signature", "server auth"))


@dataclass(frozen=True)
class Progress:
    """state: pending, approved (and not issued yet), issued, denied or failed; certificate: PEM once it is issued;
    message: the reason and the words of whoever denied it, or of the signer that failed."""

    name: str
    state: str
    certificate: str = ""
    message: str = ""


def look(client: Client, signer: Signer, request: bytes, *, timeout: float = TIMEOUT) -> Progress:
    """What became of a request (PEM), which is made where the API server has none. Raises NotFound where it has no
    such API, and what Client.request raises."""
    name = object_name(signer, request)
    try:
        found = client.get(f"{COLLECTION}/{name}", timeout=timeout)
    except NotFound:
        try:
            found = client.create(COLLECTION, signing_request(signer, request), timeout=timeout)
        except Conflict:  # made between the two: by a copy of us that has ended since
            found = client.get(f"{COLLECTION}/{name}", timeout=timeout)
    return progress(found)


def object_name(signer: Signer, request: bytes) -> str:
    """As the kubelet's: node-csr- and a digest of what is asked for."""
    return f"node-csr-{hashlib.sha256(signer.name.encode() + request).hexdigest()[:24]}"


def signing_request(signer: Signer, request: bytes) -> dict[str, Any]:
    """The object to create; the API server fills in who asks."""
    return {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": object_name(signer, request)},
        "spec": {
            "request": base64.b64encode(request).decode("ascii"),
            "signerName": signer.name,
            "usages": list(signer.usages),
        },
    }


def progress(found: Mapping[str, Any]) -> Progress:
    """What the object's status says. Denied and Failed are final, whatever else is there. Raises Invalid for a
    certificate that is no base64."""
    name = str(found["metadata"]["name"])
    status = found.get("status") or {}
    conditions = {item.get("type"): item for item in status.get("conditions") or [] if item.get("status") != "False"}
    for kind in ("Denied", "Failed"):
        if kind in conditions:
            words = (conditions[kind].get("reason"), conditions[kind].get("message"))
            return Progress(name, kind.lower(), message=": ".join(filter(None, words)))
    if "Approved" not in conditions:
        return Progress(name, "pending")
    if not status.get("certificate"):
        return Progress(name, "approved")
    try:
        return Progress(name, "issued", base64.b64decode(status["certificate"], validate=True).decode("ascii"))
    except ValueError as error:
        raise Invalid(f"{name}: its certificate is no base64 of PEM: {error}") from error
