"""Where a pod may run: node selectors, affinity, tolerations, spread. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.api import selectors
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields
from vkcri.errors import Invalid

Errors = Iterator[FieldError]
_EFFECTS: Final = ("NoExecute", "NoSchedule", "PreferNoSchedule")
_NODE_OPERATORS: Final = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def validate(spec: Mapping[str, Any]) -> Errors:
    yield from fields.labels("spec.nodeSelector", spec.get("nodeSelector"))
    yield from tolerations("spec.tolerations", spec.get("tolerations") or [])
    affinity, path = spec.get("affinity") or {}, "spec.affinity"
    if affinity.get("nodeAffinity") is not None:
        yield from _node_affinity(f"{path}.nodeAffinity", affinity["nodeAffinity"])
    for name in ("podAffinity", "podAntiAffinity"):
        if affinity.get(name) is not None:
            yield from _pod_affinity(f"{path}.{name}", affinity[name])
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or []):
        yield from _spread(f"spec.topologySpreadConstraints[{index}]", constraint)


def tolerations(path: str, given: list[Mapping[str, Any]]) -> Errors:
    for index, toleration in enumerate(given):
        where = f"{path}[{index}]"
        key, operator = toleration.get("key") or "", toleration.get("operator") or ""
        if key:
            yield from fields.qualified_name(f"{where}.key", key)
        elif operator != "Exists":
            text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            yield fields.invalid(f"{where}.operator", operator, text)
        if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
            text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            yield fields.invalid(f"{where}.effect", toleration.get("effect") or "", text)
        if operator == "Exists" and toleration.get("value"):
            yield fields.invalid(
                f"{where}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'"
            )
        elif operator in ("", "Equal"):
            yield from fields.label_value(f"{where}.operator", toleration.get("value") or "")
        yield from fields.one_of(f"{where}.operator", operator, ("Equal", "Exists"), optional=True)
        yield from fields.one_of(f"{where}.effect", toleration.get("effect") or "", _EFFECTS, optional=True)


def _node_affinity(path: str, affinity: Mapping[str, Any]) -> Errors:
    required = affinity.get(_REQUIRED)
    if required is not None:
        where = f"{path}.{_REQUIRED}.nodeSelectorTerms"
        if not required.get("nodeSelectorTerms"):
            yield fields.required(where, "must have at least one node selector term")
        for index, term in enumerate(required.get("nodeSelectorTerms") or []):
            yield from _node_term(f"{where}[{index}]", term)
    for index, preferred in enumerate(affinity.get(_PREFERRED) or []):
        where = f"{path}.{_PREFERRED}[{index}]"
        yield from _weight(where, preferred)
        yield from _node_term(f"{where}.preference", preferred.get("preference") or {})


def _weight(path: str, preferred: Mapping[str, Any]) -> Errors:
    weight = preferred.get("weight", 0)
    if not 1 <= weight <= 100:
        yield fields.invalid(f"{path}.weight", weight, "must be in the range 1-100")


def _node_term(path: str, term: Mapping[str, Any]) -> Errors:
    for index, expression in enumerate(term.get("matchExpressions") or []):
        yield from _node_requirement(f"{path}.matchExpressions[{index}]", expression)
    for index, expression in enumerate(term.get("matchFields") or []):
        where = f"{path}.matchFields[{index}]"
        if expression.get("key") != "metadata.name":
            yield fields.invalid(f"{where}.key", expression.get("key"), "not a valid field selector key")
        if len(expression.get("values") or []) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            yield fields.required(f"{where}.values", text)
        yield from fields.one_of(f"{where}.operator", expression.get("operator"), ("In", "NotIn"))


def _node_requirement(path: str, expression: Mapping[str, Any]) -> Errors:
    operator, values = expression.get("operator") or "", expression.get("values") or []
    yield from fields.qualified_name(f"{path}.key", expression.get("key") or "")
    yield from fields.one_of(f"{path}.operator", operator, _NODE_OPERATORS)
    if operator in ("In", "NotIn") and not values:
        yield fields.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        yield fields.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt") and len(values) != 1:
        yield fields.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")


def _pod_affinity(path: str, affinity: Mapping[str, Any]) -> Errors:
    for index, term in enumerate(affinity.get(_REQUIRED) or []):
        yield from _pod_term(f"{path}.{_REQUIRED}[{index}]", term)
    for index, preferred in enumerate(affinity.get(_PREFERRED) or []):
        where = f"{path}.{_PREFERRED}[{index}]"
        yield from _weight(where, preferred)
        yield from _pod_term(f"{where}.podAffinityTerm", preferred.get("podAffinityTerm") or {})


def _pod_term(path: str, term: Mapping[str, Any]) -> Errors:
    if not term.get("topologyKey"):
        yield fields.required(f"{path}.topologyKey", "can not be empty")
    else:
        yield from fields.qualified_name(f"{path}.topologyKey", term["topologyKey"])
    for name in ("labelSelector", "namespaceSelector"):
        if term.get(name) is not None:
            yield from label_selector(f"{path}.{name}", term[name])


def label_selector(path: str, selector: Mapping[str, Any]) -> Errors:
    """A metav1.LabelSelector."""
    try:
        selectors.from_object(selector)
    except Invalid as error:
        yield fields.invalid(path, selector, str(error))


def _spread(path: str, constraint: Mapping[str, Any]) -> Errors:
    skew = constraint.get("maxSkew", 0)
    if skew <= 0:
        yield fields.invalid(f"{path}.maxSkew", skew, "must be greater than zero")
    if not constraint.get("topologyKey"):
        yield fields.required(f"{path}.topologyKey", "can not be empty")
    actions = ("DoNotSchedule", "ScheduleAnyway")
    yield from fields.one_of(f"{path}.whenUnsatisfiable", constraint.get("whenUnsatisfiable"), actions)
    if constraint.get("labelSelector") is not None:
        yield from label_selector(f"{path}.labelSelector", constraint["labelSelector"])
