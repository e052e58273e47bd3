"""Kubernetes' protobuf: bodies as Go clients write them, byte by byte, and both ways for every kind that has one."""

import base64
from typing import Any

import pytest

from vkcri.apiserver import protobuf
from vkcri.apiserver.status import StatusError


def field(number: int, data: bytes) -> bytes:
    """A length-delimited field, as protobuf's wire format has it."""
    return bytes([number << 3 | 2, len(data)]) + data


def body(api_version: str, kind: str, raw: bytes) -> bytes:
    type_meta = field(1, api_version.encode()) + field(2, kind.encode())
    return b"k8s\x00" + field(1, type_meta) + field(2, raw) + field(3, b"") + field(4, b"")


def test_a_namespace_as_kubectl_sends_it() -> None:
    """Go writes every plain field, zero or not, and an empty message for a time that is not set."""
    metadata = field(1, b"team-a") + field(2, b"") + field(3, b"") + field(4, b"") + field(5, b"") + field(6, b"")
    metadata += bytes([7 << 3, 0]) + field(8, b"")
    raw = field(1, metadata) + field(2, b"") + field(3, field(1, b""))
    assert protobuf.decode(body("v1", "Namespace", raw)) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "team-a"},
    }


def test_a_pointer_to_zero_is_kept() -> None:
    """gracePeriodSeconds 0 means at once; leaving it out would mean the default."""
    raw = bytes([1 << 3, 0]) + bytes([3 << 3, 0])
    assert protobuf.decode(body("v1", "DeleteOptions", raw)) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "orphanDependents": False,
    }


def test_secret_data_becomes_base64() -> None:
    entry = field(1, b"key") + field(2, b"\x00\xff")
    decoded = protobuf.decode(body("v1", "Secret", field(1, field(1, b"s")) + field(2, entry)))
    assert decoded["data"] == {"key": base64.b64encode(b"\x00\xff").decode()}


OBJECTS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "b"}}, "data": {"k": "v"}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"}, "automountServiceAccountToken": False},
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "creationTimestamp": "2026-11-23T10:00:00Z", "generation": 3},
        "spec": {
            "ports": [{"port": 80, "targetPort": "http"}, {"port": 81, "targetPort": 8081}],
            "selector": {"a": "b"},
            "allocateLoadBalancerNodePorts": False,
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "ownerReferences": [{"kind": "Pod", "name": "p", "controller": False}]},
        "involvedObject": {"kind": "Pod", "name": "p"},
        "eventTime": "2026-11-23T10:00:00.123456Z",
        "count": 2,
    },
    {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "n"},
        "spec": {"holderIdentity": "n", "renewTime": "2026-11-23T10:00:00.000001Z", "leaseDurationSeconds": 40},
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "s"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": False}}],
        "ports": [{"name": "http", "port": 80}],
    },
    {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": ["a"], "expirationSeconds": 600, "boundObjectRef": {"kind": "Pod", "uid": "u"}},
    },
    {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "t"},
        "status": {"authenticated": True, "user": {"username": "u", "groups": ["g"], "extra": {"k": ["v", "w"]}}},
    },
    {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
        "status": {"allowed": True},
    },
    {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "p"},
        "deleteOptions": {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}},
    },
    {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 404, "details": {"causes": [{"field": "f"}]}},
]


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda obj: obj["kind"])
def test_an_object_survives_the_way_there_and_back(obj: dict[str, Any]) -> None:
    assert protobuf.decode(protobuf.encode(obj)) == obj


def test_a_kind_without_a_definition_is_refused_both_ways() -> None:
    with pytest.raises(StatusError) as caught:
        protobuf.decode(body("v1", "Pod", b""))
    assert caught.value.code == 415
    with pytest.raises(StatusError) as caught:
        protobuf.encode({"apiVersion": "v1", "kind": "Pod"})
    assert caught.value.code == 406


def test_a_field_that_is_not_known_is_refused_not_dropped() -> None:
    unknown = field(1, field(1, b"c")) + bytes([0xFA, 0x06, 1]) + b"x"  # field 111
    with pytest.raises(StatusError, match="field 111") as caught:
        protobuf.decode(body("v1", "ConfigMap", unknown))
    assert caught.value.code == 400


@pytest.mark.parametrize("data", [b"", b"k8s", b"{}", b"k8s\x00\xff\xff", body("v1", "ConfigMap", b"\x0a\x7f")])
def test_what_is_no_such_body_is_a_bad_request(data: bytes) -> None:
    with pytest.raises(StatusError) as caught:
        protobuf.decode(data)
    assert caught.value.code in (400, 415)
