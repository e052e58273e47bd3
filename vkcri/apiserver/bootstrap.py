"""What must be there before the first request: the server's files and its first objects.

Runs once at start, before any thread; idempotent, so that a crash anywhere in it is mended by the next start. What may
have changed since (addresses, the port, the CA) is brought up to date.
"""

import ipaddress
import logging
from typing import Any, Final

from vkcri.apiserver import internal, pki
from vkcri.apiserver.admission.namespaces import SYSTEM_NAMESPACES
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers import rootca, serviceaccounts
from vkcri.apiserver.pki import KUBELET_CLIENT as KUBELET_CLIENT
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings

log = logging.getLogger(__name__)
_SERVICE: Final = "kubernetes"
_LABELS: Final = {"component": "apiserver", "provider": "kubernetes"}


def ensure(settings: ApiServerSettings, store: Store) -> None:
    """Make or keep files and objects. Raises ConfigError for a file that cannot be read or written."""
    authority = pki.ensure(settings)
    ctx = internal.context(store, settings)
    for name in SYSTEM_NAMESPACES:
        internal.ensure(ctx, "/namespaces", {"metadata": {"name": name}})
        serviceaccounts.ensure_default(ctx, name)
        rootca.ensure_root_ca(ctx, name, authority)
    _service(ctx)
    _endpoints(ctx)


def _service(ctx: RequestContext) -> None:
    """default/kubernetes at the first address of the range, whoever may have it."""
    settings = ctx.settings
    address = str(settings.instance.service_range[1])
    found = ctx.store.get("/services", "default", _SERVICE)
    if found is not None and found["spec"].get("clusterIP") != address:
        internal.delete(ctx, "/services", "default", _SERVICE)
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": settings.apiserver_port}
    spec: dict[str, Any] = {"type": "ClusterIP", "clusterIP": address, "ports": [port]}
    metadata = {"name": _SERVICE, "namespace": "default", "labels": _LABELS}
    internal.ensure(ctx, "/services", {"metadata": metadata, "spec": spec})

    def change(service: dict[str, Any]) -> dict[str, Any]:
        service["spec"]["ports"] = [port]
        return service

    internal.update(ctx, "/services", "default", _SERVICE, change)


def _endpoints(ctx: RequestContext) -> None:
    """The server itself behind that service; not for an address that no pod could reach."""
    address = ipaddress.ip_address(ctx.settings.address)
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        log.warning("default/kubernetes gets no endpoints: pods cannot reach %s", address)
        return
    port = {"name": "https", "port": ctx.settings.apiserver_port, "protocol": "TCP"}
    subset = {"addresses": [{"ip": str(address)}], "ports": [port]}
    _put(ctx, "/endpoints", {"endpointslice.kubernetes.io/skip-mirror": "true"}, {"subsets": [subset]})
    endpoint = {"addresses": [str(address)], "conditions": {"ready": True}}
    body: dict[str, Any] = {"addressType": f"IPv{address.version}", "endpoints": [endpoint], "ports": [port]}
    _put(ctx, "discovery.k8s.io/endpointslices", {"kubernetes.io/service-name": _SERVICE}, body)


def _put(ctx: RequestContext, key: str, labels: dict[str, str], body: dict[str, Any]) -> None:
    found = ctx.store.get(key, "default", _SERVICE)
    if found is not None and found.get("addressType") != body.get("addressType"):
        internal.delete(ctx, key, "default", _SERVICE)
    metadata = {"name": _SERVICE, "namespace": "default", "labels": labels}
    internal.ensure(ctx, key, {"metadata": metadata, **body})
    internal.update(ctx, key, "default", _SERVICE, lambda obj: {**obj, **body})
