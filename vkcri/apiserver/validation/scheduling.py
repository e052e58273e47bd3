"""Where a pod may run: node selectors, affinity, tolerations, spread. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_NODE_OPERATORS: Final = ("DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn")
_NO_OPERATOR: Final = "not a valid selector operator"
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
    constraints = spec.get("topologySpreadConstraints") or []
    for index, constraint in enumerate(constraints):
        yield from _spread(f"spec.topologySpreadConstraints[{index}]", constraint, constraints[index + 1 :])


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
        if expression.get("operator") not in ("In", "NotIn"):
            yield fields.invalid(f"{where}.operator", expression.get("operator") or "", _NO_OPERATOR)
        elif len(expression.get("values") or []) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            yield fields.required(f"{where}.values", text)
        if expression.get("key") != "metadata.name":
            yield fields.invalid(f"{where}.key", expression.get("key") or "", "not a valid field selector key")


def _node_requirement(path: str, expression: Mapping[str, Any]) -> Errors:
    operator, values = expression.get("operator") or "", expression.get("values") or []
    if operator not in _NODE_OPERATORS:
        yield fields.invalid(f"{path}.operator", operator, _NO_OPERATOR)
    if operator in ("In", "NotIn") and not values:
        yield fields.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        yield fields.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt") and len(values) != 1:
        yield fields.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    yield from fields.qualified_name(f"{path}.key", expression.get("key") or "")


def _pod_affinity(path: str, affinity: Mapping[str, Any]) -> Errors:
    for index, term in enumerate(affinity.get(_REQUIRED) or []):
        yield from _pod_term(f"{path}.{_REQUIRED}[{index}]", term)
    for index, preferred in enumerate(affinity.get(_PREFERRED) or []):
        where = f"{path}.{_PREFERRED}[{index}]"
        yield from _weight(where, preferred)
        yield from _pod_term(f"{where}.podAffinityTerm", preferred.get("podAffinityTerm") or {})


def _pod_term(path: str, term: Mapping[str, Any]) -> Errors:
    for name in ("labelSelector", "namespaceSelector"):
        if term.get(name) is not None:
            yield from label_selector(f"{path}.{name}", term[name])
    for name in term.get("namespaces") or []:
        yield from fields.dns_label(f"{path}.namespace", name)
    if not term.get("topologyKey"):
        yield fields.required(f"{path}.topologyKey", "can not be empty")
    yield from fields.qualified_name(f"{path}.topologyKey", term.get("topologyKey") or "")


def label_selector(path: str, selector: Mapping[str, Any]) -> Errors:
    """A metav1.LabelSelector."""
    yield from fields.labels(f"{path}.matchLabels", selector.get("matchLabels"))
    for index, expression in enumerate(selector.get("matchExpressions") or []):
        where = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator") or "", expression.get("values") or []
        if operator in ("In", "NotIn") and not values:
            yield fields.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield fields.forbidden(f"{where}.values", text)
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield fields.invalid(f"{where}.operator", operator, "not a valid selector operator")
        yield from fields.qualified_name(f"{where}.key", expression.get("key") or "")
        for number, value in enumerate(values):
            yield from fields.label_value(f"{where}.values[{number}]", value)


def _spread(path: str, constraint: Mapping[str, Any], later: Sequence[Mapping[str, Any]]) -> Errors:
    """`later`: the constraints behind this one, each of which must be for another topology or another action."""
    skew = constraint.get("maxSkew", 0)
    if skew <= 0:
        yield fields.invalid(f"{path}.maxSkew", skew, "must be greater than zero")
    if not constraint.get("topologyKey"):
        yield fields.required(f"{path}.topologyKey", "can not be empty")
    actions = ("DoNotSchedule", "ScheduleAnyway")
    yield from fields.one_of(f"{path}.whenUnsatisfiable", constraint.get("whenUnsatisfiable"), actions)
    kind = (constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or "")
    if any(kind == (item.get("topologyKey") or "", item.get("whenUnsatisfiable") or "") for item in later):
        yield fields.duplicate(f"{path}.{{topologyKey, whenUnsatisfiable}}", f"{{{kind[0]}, {kind[1]}}}")
    least = constraint.get("minDomains")
    if least is not None and least <= 0:
        yield fields.invalid(f"{path}.minDomains", least, "must be greater than zero")
    if least is not None and kind[1] != "DoNotSchedule":
        text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {kind[1]}"
        yield fields.invalid(f"{path}.minDomains", least, text)
    for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        yield from fields.one_of(f"{path}.{name}", constraint.get(name), ("Honor", "Ignore"), optional=True)
    if constraint.get("labelSelector") is not None:
        yield from label_selector(f"{path}.labelSelector", constraint["labelSelector"])
