"""EndpointSlices and Endpoints of each Service, from the pods that it selects.

Key: NAMESPACE/NAME of a service. What a service should have is computed (slices.py, pure) and compared with what there
is; only a difference is written. Slices of somebody else's (no managed-by label of ours) are left alone. A service
without a selector has the slices that mirror its hand-written Endpoints.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from vkcri.api import pods, selectors
from vkcri.apiserver import internal
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers import slices
from vkcri.apiserver.controllers.loop import KeysOf

Object = dict[str, Any]
_SLICES: Final = "discovery.k8s.io/endpointslices"


class EndpointsController:
    """Keys as above."""

    name = "endpoints"

    def __init__(self, ctx: RequestContext) -> None:
        self._ctx = ctx
        self._relevant: dict[str, Any] = {}
        self.sources: Mapping[str, KeysOf] = {
            "/services": lambda obj, _gone: [pods.full_name(obj)],
            "/endpoints": lambda obj, _gone: [pods.full_name(obj)],
            "/pods": self._of_pod,
            _SLICES: _of_slice,
        }

    def all_keys(self) -> Iterable[str]:
        found = {pods.full_name(service) for service in self._ctx.store.list("/services")[0]}
        found |= {key for item in self._ctx.store.list(_SLICES)[0] for key in _of_slice(item)}
        return sorted(found)

    def _of_pod(self, pod: Object, gone: bool) -> Iterable[str]:
        """Every service of the namespace with a selector, once something changed that endpoints show: labels that a
        pod had before may have been selected too."""
        now = slices.relevant(pod)
        if not gone and self._relevant.get(pods.uid(pod)) == now:
            return []
        if gone:
            self._relevant.pop(pods.uid(pod), None)
        else:
            self._relevant[pods.uid(pod)] = now
        found = self._ctx.store.list("/services", pods.namespace(pod))[0]
        return [pods.full_name(service) for service in found if service["spec"].get("selector")]

    def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        service = self._ctx.store.get("/services", namespace, name)
        if service is None or service["spec"].get("type") == "ExternalName":
            self._write_slices(namespace, name, None, [])
            self._remove_endpoints(namespace, name)
            return None
        if service["metadata"].get("deletionTimestamp"):
            return None
        selector = service["spec"].get("selector")
        if selector:
            wanted = selectors.from_map(selector)
            chosen = self._ctx.store.list("/pods", namespace, predicate=lambda pod: wanted.matches(pods.labels(pod)))[0]
            self._write_slices(namespace, name, service, slices.of_pods(service, chosen))
            self._write_endpoints(service, slices.legacy(service, chosen))
        else:
            written = self._ctx.store.get("/endpoints", namespace, name)
            self._write_slices(namespace, name, service, slices.of_endpoints(written))
        return None

    def _write_slices(self, namespace: str, name: str, service: Object | None, wanted: list[Object]) -> None:
        """Make the service's own slices be `wanted` (addressType, endpoints, ports): a slice that is right is kept,
        then one of the same ports is changed, then one is made or removed."""
        present = self._ctx.store.list(_SLICES, namespace, predicate=lambda item: slices.is_ours(item, name))[0]
        labels = {} if service is None else slices.labels(service)
        open_wanted = []
        for content in wanted:
            same = next((item for item in present if slices.equal(item, content, labels)), None)
            if same is None:
                open_wanted.append(content)
            else:
                present.remove(same)
        for content in open_wanted:
            match = next((item for item in present if slices.replaceable(item, content)), None)
            if match is not None:
                present.remove(match)
                self._change(_SLICES, match, {**content}, labels)
            elif service is not None:
                self._create_slice(service, content, labels)
        for left in present:
            internal.delete(self._ctx, _SLICES, namespace, left["metadata"]["name"])

    def _create_slice(self, service: Object, content: Object, labels: Mapping[str, str]) -> None:
        owner = {"apiVersion": "v1", "kind": "Service", "name": pods.name(service), "uid": pods.uid(service)}
        metadata = {
            "generateName": f"{pods.name(service)}-",
            "namespace": pods.namespace(service),
            "labels": dict(labels),
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        }
        internal.create(self._ctx, _SLICES, {"metadata": metadata, **content})

    def _change(self, kind: str, obj: Object, content: Object, labels: Mapping[str, str]) -> None:
        def change(current: Object) -> Object:
            current["metadata"]["labels"] = dict(labels)
            return {**current, **content}

        internal.update(self._ctx, kind, pods.namespace(obj), pods.name(obj), change)

    def _write_endpoints(self, service: Object, subsets: list[Object]) -> None:
        labels = slices.legacy_labels(service)
        metadata = {"name": pods.name(service), "namespace": pods.namespace(service), "labels": labels}
        body = {"subsets": subsets}
        found = internal.ensure(self._ctx, "/endpoints", {"metadata": metadata, **body})
        if (found.get("subsets") or []) != subsets or found["metadata"].get("labels") != labels:
            self._change("/endpoints", found, body, labels)

    def _remove_endpoints(self, namespace: str, name: str) -> None:
        """The Endpoints that were written here go with their service."""
        found = self._ctx.store.get("/endpoints", namespace, name)
        if found is not None and (found["metadata"].get("labels") or {}).get(slices.MANAGED_ENDPOINTS):
            internal.delete(self._ctx, "/endpoints", namespace, name)


def _of_slice(obj: Object, _gone: bool = False) -> Iterable[str]:
    labels = obj["metadata"].get("labels") or {}
    if labels.get(slices.MANAGED_BY) not in slices.MANAGERS or not labels.get(slices.SERVICE):
        return []
    return [f"{pods.namespace(obj)}/{labels[slices.SERVICE]}"]
