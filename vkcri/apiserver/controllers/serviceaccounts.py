"""Every namespace has a service account `default`, as long as it is not going."""

from collections.abc import Iterable, Mapping
from typing import Any

from vkcri.apiserver import internal
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf

Object = dict[str, Any]


def ensure_default(ctx: RequestContext, namespace: str) -> None:
    """Create the account unless it is there."""
    internal.ensure(ctx, "/serviceaccounts", {"metadata": {"name": "default", "namespace": namespace}})


def live_namespace(ctx: RequestContext, name: str) -> bool:
    """Whether the namespace is there to stay."""
    found = ctx.store.get("/namespaces", "", name)
    return found is not None and not found["metadata"].get("deletionTimestamp")


def namespace_names(ctx: RequestContext) -> list[str]:
    return [item["metadata"]["name"] for item in ctx.store.list("/namespaces")[0]]


class ServiceAccountController:
    """Key: a namespace."""

    name = "serviceaccount"

    def __init__(self, ctx: RequestContext) -> None:
        self._ctx = ctx
        self.sources: Mapping[str, KeysOf] = {
            "/namespaces": lambda obj, _gone: [obj["metadata"]["name"]],
            "/serviceaccounts": lambda obj, _gone: [obj["metadata"]["namespace"]],
        }

    def all_keys(self) -> Iterable[str]:
        return namespace_names(self._ctx)

    def reconcile(self, key: str) -> float | None:
        if live_namespace(self._ctx, key):
            ensure_default(self._ctx, key)
        return None
