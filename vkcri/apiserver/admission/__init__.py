"""What the server adds to an object, or refuses, because of other objects or of who asks: the admission chain.

Runs in the request's thread inside its store transaction; reads the store, writes nothing. A module a plugin, named
for what it looks at; the order here is the order in which they run.
"""

from collections.abc import Mapping
from typing import Any

from vkcri.apiserver.admission import (
    addresses,
    namespaces,
    node_restriction,
    pod_resize,
    podspec,
    runtime_classes,
    secretdata,
    service_accounts,
)
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import Resource

Object = dict[str, Any]


def admit_create(resource: Resource, obj: Object, ctx: RequestContext) -> None:
    """Change `obj` in place, or raise StatusError 403, 404, 422."""
    namespaces.admit_create(resource, obj, ctx)
    node_restriction.admit_write(resource, obj, None, ctx)
    if resource.key == "/pods":
        podspec.set_priority(obj)
        service_accounts.admit(obj, ctx)
        podspec.add_tolerations(obj)
        runtime_classes.admit(obj, ctx)
        podspec.set_status(obj, ctx)
    elif resource.key == "/services":
        addresses.allocate(obj, None, ctx)
    elif resource.key == "/secrets":
        secretdata.merge(obj)
    elif resource.key == "/nodes":
        podspec.set_pod_cidr(obj, ctx)
        podspec.add_not_ready_taint(obj)


def admit_update(
    resource: Resource, obj: Object, old: Mapping[str, Any], ctx: RequestContext, subresource: str | None
) -> None:
    """Change `obj` in place, or raise StatusError 403, 422."""
    node_restriction.admit_write(resource, obj, old, ctx, subresource)
    if resource.key == "/services" and subresource is None:
        addresses.allocate(obj, old, ctx)
    elif resource.key == "/secrets":
        secretdata.merge(obj)
    elif resource.key == "/pods":
        podspec.keep_on_update(obj, old)
        if subresource is None:
            podspec.add_tolerations(obj)
        if subresource == "resize":
            pod_resize.admit(obj, old, ctx)


def admit_delete(resource: Resource, obj: Mapping[str, Any], ctx: RequestContext) -> None:
    """Raise StatusError 403 where the object may not be deleted."""
    namespaces.admit_delete(resource, obj)
    node_restriction.admit_delete(resource, obj, ctx)
