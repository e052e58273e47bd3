"""The server's own writes: bootstrap and controllers go the way of any request, as the server's own user.

Any thread. Each write is one transaction over `strategy`, so that an object that a controller makes is as whole as one
that a client makes.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from vkcri.api import times
from vkcri.apiserver import strategy
from vkcri.apiserver.authn import AUTHENTICATED, MASTERS, User
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings

Object = dict[str, Any]
SERVER: Final = User("system:apiserver", groups=(MASTERS, AUTHENTICATED))


def rfc3339_now() -> str:
    """The time now, in seconds."""
    return times.seconds(times.of(time.time()))


def context(
    store: Store, settings: ApiServerSettings, *, now: Callable[[], str] = rfc3339_now, user: User = SERVER
) -> RequestContext:
    """A request's context for the server itself."""
    return RequestContext(store, user, now, settings)


def create(ctx: RequestContext, key: str, obj: Mapping[str, Any]) -> Object:
    """Create an object as a client would. Raises StatusError."""
    with ctx.store.transaction():
        return ctx.store.create(key, strategy.prepare_create(by_key(key), obj, ctx))


def ensure(ctx: RequestContext, key: str, obj: Mapping[str, Any]) -> Object:
    """Create an object unless one of its name is there, and return what is stored. Raises StatusError."""
    metadata = obj["metadata"]
    with ctx.store.transaction():
        found = ctx.store.get(key, metadata.get("namespace") or "", metadata["name"])
        return create(ctx, key, obj) if found is None else found


def update(
    ctx: RequestContext,
    key: str,
    namespace: str,
    name: str,
    change: Callable[[Object], Object | None],
    *,
    subresource: str | None = None,
) -> Object:
    """Read, change and write in one transaction; None from `change` leaves the object. Raises StatusError."""

    def prepared(obj: Object) -> Object | None:
        old = strategy.copied(obj)
        new = change(obj)
        return None if new is None else strategy.prepare_update(by_key(key), new, old, ctx, subresource=subresource)

    with ctx.store.transaction():
        stored = ctx.store.modify(key, namespace, name, prepared)
        if strategy.finished(stored):
            return ctx.store.delete(key, namespace, name)
        return stored


def delete(ctx: RequestContext, key: str, namespace: str, name: str, options: Mapping[str, Any] | None = None) -> None:
    """Delete as a client would, gracefully where the kind is; an object that is not there is well deleted."""
    with ctx.store.transaction():
        found = ctx.store.get(key, namespace, name)
        if found is None:
            return
        decided = strategy.prepare_delete(by_key(key), found, strategy.read_delete_options(options or {}, ctx), ctx)
        ctx.store.update(key, decided.obj, expected=None)
        if decided.gone:
            ctx.store.delete(key, namespace, name)


def absent(error: StatusError) -> bool:
    """Whether an error means that somebody else was there first, so that there is nothing to do."""
    return error.code in (404, 409)
