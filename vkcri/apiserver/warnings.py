"""What is stored all the same but is not what its writer may think: the texts of Warning headers. Pure.

Called by strategy once an object was found valid. Pods, which have most, are in warnings_pod.py, and are looked at when
they are created only, as in Kubernetes; statuses never are. Sources: pkg/api/*/warnings.go and the strategies.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver import warnings_pod
from vkcri.apiserver.resources import Resource

Object = Mapping[str, Any]
Texts = Iterator[str]


def on_create(resource: Resource, obj: Object) -> list[str]:
    """What to tell the writer of a new object."""
    if resource.key == "/pods":
        return list(warnings_pod.texts(obj))
    return on_update(resource, obj)


def on_update(resource: Resource, obj: Object) -> list[str]:
    """What to tell the writer of a changed one."""
    rule = _RULES.get(resource.key)
    return [] if rule is None else list(rule(obj))


def _service(obj: Object) -> Texts:
    spec = obj.get("spec") or {}
    kind, external = spec.get("type"), spec.get("externalIPs")
    headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    if headless:
        for field, given in (("loadBalancerIP", spec.get("loadBalancerIP")), ("externalIPs", external)):
            if given:
                yield f"spec.{field} is ignored for headless services"
        if spec.get("sessionAffinity") != "None":
            yield "spec.SessionAffinity is ignored for headless services"
    if external and not headless and kind != "ExternalName":
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if external and kind == "ExternalName":
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if spec.get("externalName") and kind != "ExternalName":
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def _secret(obj: Object) -> Texts:
    if obj.get("type") != "kubernetes.io/tls":
        return
    data = obj.get("data") or {}
    certificate, key = (base64.b64decode(data.get(name) or "") for name in ("tls.crt", "tls.key"))
    problem = _pair_problem(certificate, key)
    if problem:
        yield f"tls: {problem}"


def _pair_problem(certificate: bytes, key: bytes) -> str:
    """Why the two are no pair, empty where they are."""
    for what, pem in (("certificate", certificate), ("key", key)):
        if b"-----BEGIN " not in pem:
            return f"failed to find any PEM data in {what} input"
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        held = x509.load_pem_x509_certificate(certificate).public_key()
        mine = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError) as error:
        return str(error)
    return "" if held == mine else "private key does not match public key"


def _node(obj: Object) -> Texts:
    spec = obj.get("spec") or {}
    if spec.get("configSource") is not None:
        yield "spec.configSource: the feature is removed"
    if spec.get("externalID"):
        yield "spec.externalID: this field is deprecated, and is unused by Kubernetes"


def _slice(obj: Object) -> Texts:
    if obj.get("addressType") == "FQDN":
        yield "spec.addressType: FQDN endpoints are deprecated"


def _runtime_class(obj: Object) -> Texts:
    for key in (obj.get("scheduling") or {}).get("nodeSelector") or {}:
        if key in warnings_pod.OLD_LABELS:
            yield f"scheduling.nodeSelector: {warnings_pod.OLD_LABELS[key]}"


_RULES: Final[dict[str, Callable[[Object], Texts]]] = {
    "/nodes": _node,
    "/secrets": _secret,
    "/services": _service,
    "discovery.k8s.io/endpointslices": _slice,
    "node.k8s.io/runtimeclasses": _runtime_class,
}
