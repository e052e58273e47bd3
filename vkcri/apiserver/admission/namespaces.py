"""NamespaceLifecycle: objects only in namespaces that exist and stay; the server's own namespaces are not deleted."""

from collections.abc import Mapping
from typing import Any, Final

from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError

SYSTEM_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
_IMMORTAL: Final = frozenset({"default", "kube-system", "kube-public"})
FINALIZER: Final = "kubernetes"


def admit_create(resource: Resource, obj: dict[str, Any], ctx: RequestContext) -> None:
    """Give a new namespace its finalizer and phase; look after everything else's namespace. Raises 403, 404."""
    if resource.key == "/namespaces":
        finalizers = obj.setdefault("spec", {}).setdefault("finalizers", [])
        if FINALIZER not in finalizers:
            finalizers.append(FINALIZER)
        obj["status"] = {"phase": "Active"}
        return
    if not resource.namespaced:
        return
    name = obj["metadata"].get("namespace") or ""
    namespace = ctx.store.get("/namespaces", "", name)
    if namespace is None:
        raise StatusError.not_found("namespaces", name)
    if namespace["metadata"].get("deletionTimestamp"):
        object_name = str(obj["metadata"].get("name") or "")
        text = f"unable to create new content in namespace {name} because it is being terminated"
        error = StatusError.forbidden(resource.qualified, object_name, text)
        cause = {"reason": "NamespaceTerminating", "message": f"namespace {name} is being terminated"}
        error.details = {**(error.details or {}), "causes": [{**cause, "field": "metadata.namespace"}]}
        raise error


def admit_delete(resource: Resource, obj: Mapping[str, Any]) -> None:
    """Raise 403 for the namespaces that always are."""
    name = obj["metadata"]["name"]
    if resource.key == "/namespaces" and name in _IMMORTAL:
        raise StatusError.forbidden("namespaces", name, "this namespace may not be deleted")
