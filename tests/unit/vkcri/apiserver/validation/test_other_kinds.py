"""Services, slices, data, nodes, leases, events, namespaces: one wrong field a row."""

import base64
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import House, node
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
SLICES = "discovery.k8s.io/endpointslices"
LEASES = "coordination.k8s.io/leases"
CLASSES = "node.k8s.io/runtimeclasses"


def named(name: str = "x", **fields: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, **fields}


def service(**spec: Any) -> Object:
    return named(spec={"ports": [{"port": 80}], **spec})


def secret(type_: str, **data: str) -> Object:
    return named(type=type_, stringData={key.replace("_", "."): value for key, value in data.items()})


def slice_of(*addresses: str, **fields: Any) -> Object:
    return named(addressType="IPv4", endpoints=[{"addresses": list(addresses)}], **fields)


def runtime_class(handler: str = "runc", **fields: Any) -> Object:
    return {"metadata": {"name": "x"}, "handler": handler, **fields}


BAD: list[tuple[str, Object, str, str]] = [
    (CLASSES, runtime_class(""), "handler", "Required value"),
    (CLASSES, runtime_class("a.b"), "handler", "a lowercase RFC 1123 label"),
    (
        CLASSES,
        runtime_class(overhead={"podFixed": {"cpu": "-1"}}),
        "overhead.limits[cpu]",
        "greater than or equal to 0",
    ),
    (
        CLASSES,
        runtime_class(overhead={"podFixed": {"nonsense": "1"}}),
        "overhead.limits[nonsense]",
        "standard resource type",
    ),
    (CLASSES, runtime_class(scheduling={"nodeSelector": {"a b": "c"}}), "scheduling.nodeSelector", "name part"),
    (
        CLASSES,
        runtime_class(scheduling={"tolerations": [{"key": "a"}, {"key": "a"}]}),
        "scheduling.tolerations[1]",
        "Duplicate value",
    ),
    (CLASSES, runtime_class(scheduling={"tolerations": [{}]}), "scheduling.tolerations[0].operator", "must be Exists"),
    ("/namespaces", {"metadata": {"name": "A.b"}}, "metadata.name", "a lowercase RFC 1123 label"),
    ("/services", named("a.b", spec={"ports": [{"port": 1}]}), "metadata.name", "a lowercase RFC 1123 label"),
    ("/services", named(spec={}), "spec.ports", "Required value"),
    ("/services", service(type="x"), "spec.type", "Unsupported value"),
    ("/services", service(sessionAffinity="x"), "spec.sessionAffinity", "Unsupported value"),
    ("/services", service(ports=[{"port": 0}]), "spec.ports[0].port", "must be between 1 and 65535"),
    ("/services", service(ports=[{"port": 1}, {"port": 2}]), "spec.ports[0].name", "Required value"),
    (
        "/services",
        service(ports=[{"name": "a", "port": 1}, {"name": "a", "port": 2}]),
        "spec.ports[1].name",
        'Duplicate value: "a"',
    ),
    ("/services", service(ports=[{"name": "a", "port": 1}, {"name": "b", "port": 1}]), "spec.ports[1]", "Duplicate"),
    ("/services", service(ports=[{"port": 1, "targetPort": "A"}]), "spec.ports[0].targetPort", "alpha-numeric"),
    ("/services", service(ports=[{"port": 1, "nodePort": 30000}]), "spec.ports[0].nodePort", "may not be used when"),
    ("/services", service(selector={"a": "b c"}), "spec.selector", "a valid label"),
    ("/services", service(clusterIP="x"), "spec.clusterIPs[0]", "must be a valid IP address"),
    ("/services", service(type="ExternalName"), "spec.externalName", "Required value"),
    ("/services", service(clusterIP="None", type="NodePort"), "spec.clusterIPs[0]", "may not be set to 'None'"),
    ("/services", service(internalTrafficPolicy="x"), "spec.internalTrafficPolicy", "Unsupported value"),
    ("/configmaps", named(data={"../x": "a"}), "data[../x]", "a valid config key must consist of"),
    ("/configmaps", named(data={"..x": "a"}), "data[..x]", "must not start with '..'"),
    ("/configmaps", named(data={"a": "b"}, binaryData={"a": "AA=="}), "data[a]", "duplicate of key present in binary"),
    ("/configmaps", named(data={"a": "x" * 1048577}), "", "Too long: may not be more than 1048576 bytes"),
    ("/secrets", named(data={"a": base64.b64encode(b"x" * 1048577).decode()}), "data", "Too long"),
    ("/secrets", secret("kubernetes.io/tls", tls_crt="x"), "data[tls.key]", "Required value"),
    ("/secrets", secret("kubernetes.io/dockerconfigjson", a="b"), "data[.dockerconfigjson]", "Required value"),
    (
        "/secrets",
        secret("kubernetes.io/dockerconfigjson", _dockerconfigjson="{"),
        "data[.dockerconfigjson]",
        "redacted",
    ),
    ("/secrets", secret("kubernetes.io/basic-auth", a="b"), "data[username]", "Required value"),
    (SLICES, slice_of(), "endpoints[0].addresses", "Required value"),
    (SLICES, slice_of("127.0.0.1"), "endpoints[0].addresses[0]", "may not be in the loopback range"),
    (SLICES, slice_of("::5"), "endpoints[0].addresses", "must be an IPv4 address"),
    (SLICES, slice_of("1.2.3.4", ports=[{"port": 1}, {"port": 2}]), "ports[1].name", "Duplicate value"),
    (SLICES, named(addressType="x", endpoints=[]), "addressType", "Unsupported value"),
    ("/endpoints", named(subsets=[{"addresses": [{"ip": "x"}]}]), "subsets[0].addresses[0].ip", "valid IP address"),
    ("/endpoints", named(subsets=[{}]), "subsets[0]", "must specify `addresses` or `notReadyAddresses`"),
    ("/nodes", node(spec={"taints": [{"key": "a", "effect": "x"}]}), "metadata.taints[0].effect", "Unsupported value"),
    ("/nodes", node(capacity={"cpu": "-1"}), "status.capacity.cpu", "greater than or equal to 0"),
    (LEASES, named(spec={"leaseDurationSeconds": 0}), "spec.leaseDurationSeconds", "must be greater than 0"),
    (
        "/events",
        named(involvedObject={"namespace": "other"}),
        "involvedObject.namespace",
        "does not match event.namespace",
    ),
    ("/configmaps", {"metadata": {"namespace": "default"}}, "metadata.name", "name or generateName is required"),
    (
        "/configmaps",
        {"metadata": {"name": "a", "namespace": "default", "finalizers": ["x"]}},
        "metadata.finalizers[0]",
        "name is neither a standard finalizer name nor is it fully qualified",
    ),
    (
        "/configmaps",
        {"metadata": {"name": "a", "namespace": "default", "ownerReferences": [{"kind": "x"}]}},
        "metadata.ownerReferences[0].uid",
        "must not be empty",
    ),
    (
        "/configmaps",
        {"metadata": {"name": "a", "namespace": "default", "annotations": {"a": "x" * 262145}}},
        "metadata.annotations",
        "Too long",
    ),
]


@pytest.mark.parametrize(("key", "obj", "path", "text"), BAD, ids=[f"{row[0]} {row[2]}" for row in BAD])
def test_invalid(house: House, key: str, obj: Object, path: str, text: str) -> None:
    found = house.errors(key, obj)
    assert path in found, found
    assert text in found[path]


@pytest.mark.parametrize(
    ("key", "obj"),
    [
        (CLASSES, runtime_class(overhead={"podFixed": {"cpu": "10m"}}, scheduling={"nodeSelector": {"a": "b"}})),
        ("/configmaps", named(data={"a.b": "", ".hidden": "x"})),
        ("/secrets", secret("kubernetes.io/tls", tls_crt="", tls_key="")),
        ("/secrets", secret("example.com/own", a="b")),
        ("/services", service(type="ExternalName", externalName="example.com", ports=[])),
        ("/services", named(spec={"clusterIP": "None"})),
        (SLICES, slice_of("10.0.0.1", ports=[])),
        (SLICES, named(addressType="FQDN", endpoints=[{"addresses": ["example.com"]}])),
        (LEASES, named(spec={"holderIdentity": "a", "leaseDurationSeconds": 40})),
        ("/events", named(involvedObject={"kind": "Node", "name": "n"}, reason="x", message="y", type="Normal")),
    ],
)
def test_valid(house: House, key: str, obj: Object) -> None:
    assert house.errors(key, obj) == {}


def refusal(house: House, key: str, obj: Object) -> str:
    with pytest.raises(StatusError) as caught:
        house.update(key, obj)
    assert caught.value.code == 422
    return caught.value.message


def test_an_immutable_config_map_keeps_its_data_and_its_word(house: House) -> None:
    obj = house.create("/configmaps", named(data={"a": "b"}, immutable=True))
    assert "data: Forbidden: field is immutable when `immutable` is set" in refusal(
        house, "/configmaps", {**obj, "data": {"a": "c"}}
    )
    assert "immutable: Forbidden" in refusal(house, "/configmaps", {**obj, "immutable": False})
    house.update("/configmaps", {**obj, "metadata": {**obj["metadata"], "labels": {"x": "y"}}})


def test_a_secrets_type_is_for_good(house: House) -> None:
    obj = house.create("/secrets", named(type="a/b"))
    assert "type: Invalid value" in refusal(house, "/secrets", {**obj, "type": "Opaque"})


def test_a_cluster_ip_is_for_good(house: House) -> None:
    obj = house.create("/services", service())
    spec = {**obj["spec"], "clusterIP": "10.181.0.9", "clusterIPs": ["10.181.0.9"]}
    assert "may not change once set" in refusal(house, "/services", {**obj, "spec": spec})


def test_a_pod_range_is_for_good(house: House) -> None:
    obj = house.node()
    spec = {**obj["spec"], "podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}
    assert "spec.podCIDR: Forbidden" in refusal(house, "/nodes", {**obj, "spec": spec})


def test_a_runtime_class_keeps_its_handler(house: House) -> None:
    stored = house.create(CLASSES, runtime_class())
    house.update(CLASSES, {**stored, "overhead": {"podFixed": {"cpu": "1"}}})
    with pytest.raises(StatusError, match="field is immutable"):
        house.update(CLASSES, {**stored, "handler": "kata"})


def test_a_slices_address_type_is_for_good(house: House) -> None:
    obj = house.create(SLICES, slice_of("10.0.0.1"))
    assert "field is immutable" in refusal(house, SLICES, {**obj, "addressType": "FQDN"})


def test_no_finalizer_is_added_to_what_is_being_deleted(house: House) -> None:
    house.create("/configmaps", {"metadata": {"name": "x", "namespace": "default", "finalizers": ["a/b"]}})
    obj = house.delete("/configmaps", "default", "x")
    assert obj is not None
    obj["metadata"]["finalizers"].append("c/d")
    text = 'found new finalizers []string{"c/d"}'
    assert text in refusal(house, "/configmaps", obj)
