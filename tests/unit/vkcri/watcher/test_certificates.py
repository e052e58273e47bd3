"""What a CertificateSigningRequest's status means, and what its name is."""

import base64
from typing import Any

import pytest

from tests.unit.vkcri import signer
from tests.unit.vkcri.watcher.conftest import Surroundings
from vkcri.errors import Invalid, NotFound
from vkcri.watcher.certificates import CLIENT, COLLECTION, SERVING, Progress, look, object_name, progress

CERTIFICATE = base64.b64encode(b"PEM").decode()


def found(*kinds: str, certificate: str = "", status: str = "True") -> dict[str, Any]:
    conditions = [{"type": kind, "status": status, "reason": "Because", "message": "so"} for kind in kinds]
    return {"metadata": {"name": "a"}, "status": {"conditions": conditions, "certificate": certificate}}


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"metadata": {"name": "a"}}, Progress("a", "pending")),
        (found(), Progress("a", "pending")),
        (found("Approved"), Progress("a", "approved")),
        (found("Approved", status="False"), Progress("a", "pending")),
        (found("Approved", certificate=CERTIFICATE), Progress("a", "issued", "PEM")),
        (found(certificate=CERTIFICATE), Progress("a", "pending")),
        (found("Denied"), Progress("a", "denied", message="Because: so")),
        (found("Approved", "Failed"), Progress("a", "failed", message="Because: so")),
        (found("Approved", "Denied", certificate=CERTIFICATE), Progress("a", "denied", message="Because: so")),
    ],
    ids=str,
)
def test_a_status_means(item: dict[str, Any], expected: Progress) -> None:
    assert progress(item) == expected


def test_a_certificate_that_is_no_base64_is_invalid() -> None:
    with pytest.raises(Invalid):
        progress(found("Approved", certificate="%"))


def test_a_name_tells_requests_and_signers_apart_and_stays() -> None:
    assert object_name(CLIENT, b"a") == object_name(CLIENT, b"a")
    assert len({object_name(CLIENT, b"a"), object_name(CLIENT, b"b"), object_name(SERVING, b"a")}) == 3
    assert object_name(CLIENT, b"a").startswith("node-csr-")


def test_a_request_is_made_once_and_looked_at_from_then_on(around: Surroundings) -> None:
    first = look(around.client, SERVING, b"request")
    path = f"{COLLECTION}/{first.name}"
    assert first == look(around.client, SERVING, b"request") == Progress(first.name, "pending")
    made = around.api.objects[path]
    assert made["spec"] == {
        "request": base64.b64encode(b"request").decode(),
        "signerName": "kubernetes.io/kubelet-serving",
        "usages": ["digital signature", "server auth"],
    }
    around.api.change(path, signer.deny)
    assert look(around.client, SERVING, b"request").state == "denied"
    around.api.remove(path)
    assert look(around.client, SERVING, b"request").state == "pending"
    assert len(around.api.calls("POST", COLLECTION)) == 2


def test_a_server_without_the_api_says_not_found(around: Surroundings) -> None:
    around.api.refuse("POST", COLLECTION, 404)
    with pytest.raises(NotFound):
        look(around.client, SERVING, b"request")
