"""What a cluster always has: the four system namespaces, and the Service default/kubernetes with the server behind it.

Bootstrap makes them before the first request; the controller makes them again when somebody deletes or changes them.
"""

import ipaddress
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from vkcri.apiserver import internal
from vkcri.apiserver.admission.namespaces import SYSTEM_NAMESPACES
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf

Object = dict[str, Any]
log = logging.getLogger(__name__)
SERVICE: Final = "kubernetes"
_SLICES: Final = "discovery.k8s.io/endpointslices"
_LABELS: Final = {"component": "apiserver", "provider": "kubernetes"}


def ensure_service(ctx: RequestContext) -> None:
    """default/kubernetes at the first address of the range, whoever may have it."""
    settings = ctx.settings
    address = str(settings.instance.service_range[1])
    found = ctx.store.get("/services", "default", SERVICE)
    if found is not None and found["spec"].get("clusterIP") != address:
        internal.delete(ctx, "/services", "default", SERVICE)
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.apiserver_port}
    spec: Object = {"type": "ClusterIP", "clusterIP": address, "ports": [port]}
    metadata = {"name": SERVICE, "namespace": "default", "labels": _LABELS}
    internal.ensure(ctx, "/services", {"metadata": metadata, "spec": spec})

    def change(service: Object) -> Object:
        service["spec"]["ports"] = [port]
        return service

    internal.update(ctx, "/services", "default", SERVICE, change)


def ensure_endpoints(ctx: RequestContext) -> None:
    """The server itself behind that service; not for an address that no pod could reach."""
    address = ipaddress.ip_address(ctx.settings.address)
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        log.warning("default/kubernetes gets no endpoints: pods cannot reach %s", address)
        return
    port = {"name": "https", "port": ctx.settings.apiserver_port, "protocol": "TCP"}
    subset = {"addresses": [{"ip": str(address)}], "ports": [port]}
    _put(ctx, "/endpoints", {"endpointslice.kubernetes.io/skip-mirror": "true"}, {"subsets": [subset]})
    endpoint = {"addresses": [str(address)], "conditions": {"ready": True}}
    body: Object = {"addressType": f"IPv{address.version}", "endpoints": [endpoint], "ports": [port]}
    _put(ctx, _SLICES, {"kubernetes.io/service-name": SERVICE}, body)


def _put(ctx: RequestContext, key: str, labels: dict[str, str], body: Object) -> None:
    found = ctx.store.get(key, "default", SERVICE)
    if found is not None and found.get("addressType") != body.get("addressType"):
        internal.delete(ctx, key, "default", SERVICE)
    metadata = {"name": SERVICE, "namespace": "default", "labels": labels}
    internal.ensure(ctx, key, {"metadata": metadata, **body})

    def change(obj: Object) -> Object:
        obj["metadata"].setdefault("labels", {}).update(labels)
        return {**obj, **body}

    internal.update(ctx, key, "default", SERVICE, change)


class KubernetesController:
    """Keys: "service", and the names of the system namespaces."""

    name = "kubernetes"

    def __init__(self, ctx: RequestContext) -> None:
        self._ctx = ctx
        self.sources: Mapping[str, KeysOf] = {
            "/namespaces": lambda obj, gone: [obj["metadata"]["name"]] if gone else [],
            "/services": _ours,
            "/endpoints": _ours,
            _SLICES: _ours,
        }

    def all_keys(self) -> Iterable[str]:
        return ["service", *SYSTEM_NAMESPACES]

    def reconcile(self, key: str) -> float | None:
        if key == "service":
            ensure_service(self._ctx)
            ensure_endpoints(self._ctx)
        elif key in SYSTEM_NAMESPACES:
            internal.ensure(self._ctx, "/namespaces", {"metadata": {"name": key}})
        return None


def _ours(obj: Object, _gone: bool) -> Iterable[str]:
    metadata = obj["metadata"]
    return ["service"] if (metadata["namespace"], metadata["name"]) == ("default", SERVICE) else []
