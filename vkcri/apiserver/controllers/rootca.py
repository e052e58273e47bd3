"""Every namespace has a ConfigMap `kube-root-ca.crt` with the server's CA, which kube-api-access-* volumes mount."""

from collections.abc import Iterable, Mapping
from typing import Any

from vkcri.apiserver import internal
from vkcri.apiserver.admission.service_accounts import ROOT_CA
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf
from vkcri.apiserver.controllers.serviceaccounts import live_namespace, namespace_names

Object = dict[str, Any]
_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc."
)


def ensure_root_ca(ctx: RequestContext, namespace: str, authority: str) -> None:
    """Create the ConfigMap, or set its data right. `authority`: the CA as PEM."""
    annotations = {"kubernetes.io/description": _DESCRIPTION}
    metadata = {"name": ROOT_CA, "namespace": namespace, "annotations": annotations}
    data = {"ca.crt": authority}
    found = internal.ensure(ctx, "/configmaps", {"metadata": metadata, "data": data})
    if found.get("data") != data:
        internal.update(ctx, "/configmaps", namespace, ROOT_CA, lambda obj: {**obj, "data": data})


class RootCaController:
    """Key: a namespace."""

    name = "root-ca"

    def __init__(self, ctx: RequestContext, authority: str) -> None:
        self._ctx = ctx
        self._authority = authority
        self.sources: Mapping[str, KeysOf] = {
            "/namespaces": lambda obj, _gone: [obj["metadata"]["name"]],
            "/configmaps": lambda obj, _gone: (
                [obj["metadata"]["namespace"]] if obj["metadata"]["name"] == ROOT_CA else []
            ),
        }

    def all_keys(self) -> Iterable[str]:
        return namespace_names(self._ctx)

    def reconcile(self, key: str) -> float | None:
        if live_namespace(self._ctx, key):
            ensure_root_ca(self._ctx, key, self._authority)
        return None
