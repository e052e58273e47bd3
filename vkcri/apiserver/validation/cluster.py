"""Namespaces, nodes, leases, events, runtime classes. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields, resources, scheduling

Errors = Iterator[FieldError]
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def namespace(obj: Mapping[str, Any]) -> Errors:
    for finalizer in (obj.get("spec") or {}).get("finalizers") or []:
        path = "spec.finalizers"
        if finalizer != "kubernetes":
            yield from fields.qualified_name(path, finalizer)
            if "/" not in finalizer:
                text = "name is neither a standard finalizer name nor is it fully qualified"
                yield fields.invalid(path, finalizer, text)


def node(obj: Mapping[str, Any]) -> Errors:
    spec = obj.get("spec") or {}
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(spec.get("taints") or []):
        path = f"metadata.taints[{index}]"  # so Kubernetes names it
        key, effect = taint.get("key") or "", taint.get("effect") or ""
        yield from fields.qualified_name(f"{path}.key", key)
        yield from fields.label_value(f"{path}.value", taint.get("value") or "")
        yield from fields.one_of(f"{path}.effect", effect, _EFFECTS)
        if (key, effect) in seen:
            told = {"Key": key, "Value": taint.get("value") or "", "Effect": effect, "TimeAdded": None}
            text = "taints must be unique by key and effect pair"
            yield FieldError("FieldValueDuplicate", path, text, told)
        seen.add((key, effect))
    for index, cidr in enumerate(spec.get("podCIDRs") or []):
        yield from fields.network(f"spec.podCIDRs[{index}]", cidr)
    yield from _node_amounts(obj)


def node_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """Of the spec only unschedulable, taints and a first podCIDR and providerID may change."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        what = "modified" if spec.get("providerID") else "cleared"
        yield fields.invalid("spec.providerID", None, f"field cannot be {what} once set")
    for field in ("podCIDR", "podCIDRs"):
        if before.get(field) and spec.get(field) != before[field]:
            what = f'{field} except from "" to valid'
            yield fields.forbidden(f"spec.{field}", f"node updates may not change {what}")


def node_status(new: Mapping[str, Any], _old: Mapping[str, Any]) -> Errors:
    """Addresses once each, amounts not negative."""
    status = new.get("status") or {}
    seen: set[tuple[Any, Any]] = set()
    for index, address in enumerate(status.get("addresses") or []):
        pair = (address.get("type"), address.get("address"))
        if pair in seen:
            yield fields.duplicate(f"status.addresses[{index}]", address)
        seen.add(pair)
    yield from _node_amounts(new)


def _node_amounts(obj: Mapping[str, Any]) -> Errors:
    for part in ("capacity", "allocatable"):
        for name, amount in ((obj.get("status") or {}).get(part) or {}).items():
            yield from resources.amount_of(f"status.{part}.{name}", name, amount)


def lease(obj: Mapping[str, Any]) -> Errors:
    spec = obj.get("spec") or {}
    for field in ("leaseDurationSeconds", "leaseTransitions"):
        amount = spec.get(field)
        least = 1 if field == "leaseDurationSeconds" else 0
        if amount is not None and amount < least:
            text = "must be greater than 0" if least else "must be greater than or equal to 0"
            yield fields.invalid(f"spec.{field}", amount, text)


def event(obj: Mapping[str, Any]) -> Errors:
    """An event lives where its object lives: in the same namespace, or in default for one without."""
    namespace_, involved = obj["metadata"].get("namespace"), obj.get("involvedObject") or {}
    where = involved.get("namespace") or ""
    if where != namespace_ and not (where == "" and namespace_ in ("default", "kube-system")):
        yield fields.invalid("involvedObject.namespace", where, "does not match event.namespace")
    if not obj.get("eventTime"):
        return
    for field, most in (("reportingComponent", 253), ("reportingInstance", 128), ("action", 128), ("reason", 128)):
        value = obj.get(field) or ""
        if not value:
            yield fields.required(field)
        if field == "reportingComponent":
            yield from fields.qualified_name(field, value)
        if len(value) > most:
            yield fields.invalid(field, "", f"can have at most {most} characters")
    if len(obj.get("message") or "") > 1024:
        yield fields.invalid("message", "", "can have at most 1024 characters")


def runtime_class(obj: Mapping[str, Any]) -> Errors:
    """A handler that CRI can be asked for, an overhead of resources, a place to be scheduled to."""
    handler = obj.get("handler") or ""
    if handler:
        yield from fields.dns_label("handler", handler)
    else:
        yield fields.required("handler")
    yield from resources.validate("overhead", {"limits": (obj.get("overhead") or {}).get("podFixed")})
    wanted = obj.get("scheduling") or {}
    yield from fields.labels("scheduling.nodeSelector", wanted.get("nodeSelector"))
    tolerations = wanted.get("tolerations") or []
    yield from scheduling.tolerations("scheduling.tolerations", tolerations)
    seen: list[tuple[Any, ...]] = []
    for index, toleration in enumerate(tolerations):
        key = tuple(toleration.get(field) or "" for field in ("key", "operator", "value", "effect"))
        if key in seen:
            yield fields.duplicate(f"scheduling.tolerations[{index}]", toleration)
        seen.append(key)


def runtime_class_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    if new.get("handler") != old.get("handler"):
        yield fields.invalid("handler", new.get("handler"), "field is immutable")
