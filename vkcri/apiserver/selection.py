"""Which objects a list or watch wants: label and field selectors from the query, and each kind's selectable fields.

Pure. The selectable fields are those that Kubernetes declares for the kind; any other is a 400, for a selector that is
ignored would show or delete what nobody asked for.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from vkcri.api import selectors
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.watch import Predicate
from vkcri.errors import Invalid

_COMMON: Final = ("metadata.name", "metadata.namespace")
_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "/pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ),
    "/nodes": ("spec.unschedulable",),
    "/namespaces": ("status.phase",),
    "/secrets": ("type",),
    "/services": ("spec.clusterIP", "spec.type"),
    "/events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
}


def parse_fields(resource: Resource, text: str) -> selectors.FieldSelector:
    """The field selector. Raises StatusError 400 for bad text or a field that the kind does not offer."""
    try:
        selector = selectors.parse_fields(text)
    except Invalid as error:
        raise StatusError.bad_request(str(error)) from error
    for path in selector.paths:
        if path not in _COMMON and path not in _FIELDS.get(resource.key, ()):
            if resource.key in _FIELDS:
                raise StatusError.bad_request(f"field label not supported: {path}")
            known = ", ".join(f'"{name}"' for name in _COMMON)
            raise StatusError.bad_request(f'"{path}" is not a known field selector: only {known}')
    return selector


def predicate(resource: Resource, query: Mapping[str, str]) -> Predicate | None:
    """The test that `labelSelector` and `fieldSelector` of a query make; None where everything is wanted."""
    try:
        labels = selectors.parse_labels(query.get("labelSelector"))
    except Invalid as error:
        raise StatusError.bad_request(str(error)) from error
    fields = parse_fields(resource, query.get("fieldSelector", ""))
    tests: list[Callable[[dict[str, Any]], bool]] = []
    if not labels.empty:
        tests.append(lambda obj: labels.matches(obj["metadata"].get("labels")))
    if fields.terms:
        tests.append(lambda obj: fields.matches({path: field_value(obj, path) for path in fields.paths}))
    if not tests:
        return None
    return lambda obj: all(test(obj) for test in tests)


def field_value(obj: dict[str, Any], path: str) -> str:
    """A selectable field as text; "" where the object lacks it."""
    if path == "source":
        return str((obj.get("source") or {}).get("component") or obj.get("reportingComponent") or "")
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if path == "status.podIPs":
        return ",".join(item.get("ip", "") for item in value or [])
    if path in ("spec.unschedulable", "spec.hostNetwork"):
        return "true" if value else "false"
    return "" if value is None else str(value)
