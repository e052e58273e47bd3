"""A namespace that is being deleted is emptied, then let go.

Pods go first, with their grace, while what they mount is still there; then everything else at once. What has
finalizers of its own keeps the namespace, and its status says so.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from vkcri.apiserver import internal
from vkcri.apiserver.admission.namespaces import FINALIZER
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf
from vkcri.apiserver.controllers.serviceaccounts import namespace_names
from vkcri.apiserver.resources import RESOURCES

Object = dict[str, Any]
_AGAIN = 5.0  # seconds; the last pod's deletion marks the namespace anyway
_KINDS = tuple(resource for resource in RESOURCES if resource.namespaced and not resource.virtual)


class NamespaceController:
    """Key: a namespace."""

    name = "namespace"

    def __init__(self, ctx: RequestContext) -> None:
        self._ctx = ctx
        self.sources: Mapping[str, KeysOf] = {
            "/namespaces": lambda obj, _gone: [obj["metadata"]["name"]],
            "/pods": self._of_pod,
        }

    def all_keys(self) -> Iterable[str]:
        return namespace_names(self._ctx)

    def _of_pod(self, pod: Object, gone: bool) -> Iterable[str]:
        return [pod["metadata"]["namespace"]] if gone else []

    def reconcile(self, key: str) -> float | None:
        """Empty a namespace that is going; returns when to look again while something is left."""
        ctx = self._ctx
        found = ctx.store.get("/namespaces", "", key)
        if found is None or not found["metadata"].get("deletionTimestamp"):
            return None
        self._delete_all("/pods", key)
        remaining = {"pods": len(ctx.store.list("/pods", key)[0])}
        if not remaining["pods"]:
            for resource in _KINDS:
                self._delete_all(resource.key, key)
                remaining[resource.qualified] = len(ctx.store.list(resource.key, key)[0])
        left = {name: count for name, count in remaining.items() if count}
        if left:
            self._tell(key, left)
            return _AGAIN
        self._let_go(key)
        return None

    def _delete_all(self, kind: str, namespace: str) -> None:
        for obj in self._ctx.store.list(kind, namespace)[0]:
            if not obj["metadata"].get("deletionTimestamp"):
                internal.delete(self._ctx, kind, namespace, obj["metadata"]["name"])

    def _tell(self, name: str, left: Mapping[str, int]) -> None:
        """Put what is left into the status, as `kubectl describe namespace` shows it."""
        counts = ", ".join(f"{kind} has {count} resource instances" for kind, count in sorted(left.items()))
        message = f"Some resources are remaining: {counts}"

        def change(obj: Object) -> Object | None:
            status = obj.setdefault("status", {"phase": "Terminating"})
            old: Object = next(iter(status.get("conditions") or []), {})
            if old.get("message") == message:
                return None
            condition = {"type": "NamespaceContentRemaining", "status": "True", "reason": "SomeResourcesRemain"}
            since = old.get("lastTransitionTime") or self._ctx.now()
            status["conditions"] = [{**condition, "message": message, "lastTransitionTime": since}]
            return obj

        internal.update(self._ctx, "/namespaces", "", name, change, subresource="status")

    def _let_go(self, name: str) -> None:
        def change(obj: Object) -> Object:
            finalizers = (obj.get("spec") or {}).get("finalizers") or []
            obj["spec"] = {"finalizers": [item for item in finalizers if item != FINALIZER]}
            return obj

        internal.update(self._ctx, "/namespaces", "", name, change, subresource="finalize")
