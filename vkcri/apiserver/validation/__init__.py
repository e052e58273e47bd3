"""What makes an object invalid: each wrong field with its path, in the API server's words. Pure, no store, no clock.

`on_create` and `on_update` are all that strategy calls. Objects come here after strict reading and defaults, so that
every field has its type and the defaulted ones are there. A module a family of kinds.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import (
    cluster,
    data,
    metadata,
    pods,
    pods_ephemeral,
    pods_resize,
    pods_update,
    services,
)

Object = dict[str, Any]
Errors = Iterator[FieldError]


def on_create(resource: Resource, obj: Mapping[str, Any]) -> list[FieldError]:
    """Everything that is wrong with a new object; empty when it is valid."""
    errors = list(metadata.validate(resource, obj))
    rule = _RULES.get(resource.key)
    if rule is not None:
        errors += rule(obj)
    return errors


def on_update(
    resource: Resource, new: Mapping[str, Any], old: Mapping[str, Any], subresource: str | None
) -> list[FieldError]:
    """Everything that is wrong with `new` in the place of `old`."""
    errors = list(metadata.validate_update(resource, new, old))
    if subresource == "status":
        rule = _STATUS_RULES.get(resource.key)
    elif subresource == "resize":
        rule = pods_resize.validate
    elif subresource == "ephemeralcontainers":
        rule = pods_ephemeral.validate
    else:
        rule = _UPDATE_RULES.get(resource.key)
        if resource.key in _RULES and resource.key != "/pods":
            errors += _RULES[resource.key](new)
    if rule is not None:
        errors += rule(new, old)
    return errors


_RULES: Final[dict[str, Callable[[Mapping[str, Any]], Errors]]] = {
    "/configmaps": data.config_map,
    "/endpoints": services.endpoints,
    "/events": cluster.event,
    "/namespaces": cluster.namespace,
    "/nodes": cluster.node,
    "/pods": pods.validate,
    "/secrets": data.secret,
    "/services": services.service,
    "coordination.k8s.io/leases": cluster.lease,
    "discovery.k8s.io/endpointslices": services.endpoint_slice,
    "node.k8s.io/runtimeclasses": cluster.runtime_class,
}
_UPDATE_RULES: Final[dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Errors]]] = {
    "/configmaps": data.config_map_update,
    "/nodes": cluster.node_update,
    "/pods": pods_update.validate,
    "/secrets": data.secret_update,
    "/services": services.service_update,
    "discovery.k8s.io/endpointslices": services.endpoint_slice_update,
    "node.k8s.io/runtimeclasses": cluster.runtime_class_update,
}
_STATUS_RULES: Final[dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Errors]]] = {
    "/nodes": cluster.node_status,
    "/pods": pods_update.validate_status,
}
