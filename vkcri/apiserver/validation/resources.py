"""Resource requirements: known names, amounts that are amounts, no request above its limit. Pure.

Source: core/validation's validateResourceRequirements and validatePodResources.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.api import quantities, resources
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_CONTAINERS: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_PODS: Final = frozenset({"cpu", "memory"})
_OBJECTS: Final = frozenset({"configmaps", "persistentvolumeclaims", "pods", "replicationcontrollers", "secrets"})
_COUNTED: Final = _OBJECTS | {"resourcequotas", "services", "services.loadbalancers", "services.nodeports"}
_STANDARD: Final = (
    _CONTAINERS
    | _COUNTED
    | {"storage", "requests.storage"}
    | {f"{part}.{name}" for part in ("limits", "requests") for name in _CONTAINERS}
)
_HUGE: Final = "hugepages-"
_NATIVE: Final = "kubernetes.io/"
_Names = Callable[[str, str], Errors]


def validate(path: str, given: Mapping[str, Any], claims: Collection[str] = ()) -> Errors:
    """limits, requests and claims of a container; `claims`: what the pod calls the devices that it claims."""
    yield from _requirements(path, given, _container_name)
    yield from _claims(f"{path}.claims", given.get("claims") or [], claims)


def _requirements(path: str, given: Mapping[str, Any], named: _Names) -> Errors:
    limits, requests = given.get("limits") or {}, given.get("requests") or {}
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            where = f"{path}.{part}[{name}]"
            yield from named(where, name)
            yield from amount_of(where, name, amount)
            if part == "requests":
                yield from _within_limit(path, name, amount, limits.get(name))
            if name.startswith(_HUGE):
                yield from _huge_pages(where, name, amount)
    used = limits.keys() | requests.keys()
    if any(name.startswith(_HUGE) for name in used) and not used & _PODS:
        yield fields.forbidden(path, "HugePages require cpu or memory")


def amount_of(path: str, name: str, amount: str) -> Errors:
    """An amount that is not negative, and a whole number of what is counted in pieces."""
    if quantities.parse(amount) < 0:
        yield fields.invalid(path, amount, "must be greater than or equal to 0")
    if (name in _COUNTED or resources.is_extended(name)) and not quantities.is_whole(amount):
        yield fields.invalid(path, amount, "must be an integer")


def _within_limit(path: str, name: str, amount: str, limit: str | None) -> Errors:
    if limit is None:
        if not overcommittable(name):
            yield fields.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
    elif not overcommittable(name) and quantities.parse(amount) != quantities.parse(limit):
        yield fields.invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limit}")
    elif quantities.parse(amount) > quantities.parse(limit):
        yield fields.invalid(f"{path}.requests", amount, f"must be less than or equal to {name} limit of {limit}")


def _huge_pages(path: str, name: str, amount: str) -> Errors:
    size = name.removeprefix(_HUGE)
    if re.fullmatch(r"[0-9]+(Ki|Mi|Gi)?", size) and quantities.parse(size) > 0:
        pages = quantities.parse(amount) / quantities.parse(size)
        if pages > 0 and pages.denominator == 1:
            return
    yield fields.invalid(path, amount, f"{amount} is not positive integer multiple of {name}")


def _claims(path: str, claims: Sequence[Mapping[str, Any]], known: Collection[str]) -> Errors:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        where, name, request = f"{path}[{index}]", claim.get("name") or "", claim.get("request") or ""
        if not name:
            yield fields.required(where)
            continue
        key = f"{name}/{request}" if request else name
        if request:
            yield from fields.dns_label(f"{where}.request", request)
        if name in seen or key in seen or (not request and any(item.startswith(f"{name}/") for item in seen)):
            yield fields.duplicate(where, name if name in seen or not request else key)
        seen.add(key)
        if name not in known:
            listed = f": {', '.join(sorted(known))}" if known else " which is empty"
            text = f"must be one of the names in pod.spec.resourceClaims{listed}"
            yield FieldError("FieldValueNotFound", where, text, name)


def validate_pod(path: str, spec: Mapping[str, Any]) -> Errors:
    """A pod's own resources: cpu, memory and huge pages, and no less than its containers ask for together."""
    given = spec.get("resources")
    if given is None:
        return
    if given.get("claims"):
        yield fields.forbidden(f"{path}.claims", "claims may not be set for Resources at pod-level")
    yield from _requirements(path, given, _pod_name)
    asked = {"spec": {key: spec.get(key) for key in ("containers", "initContainers")}}
    for name, total in resources.pod_requests(asked, overhead=False).items():
        amount = (given.get("requests") or {}).get(name)
        if amount is not None and quantities.parse(amount) < total:
            told = quantities.format(total, binary=name != "cpu")
            text = f"must be greater than or equal to aggregate container requests of {told}"
            yield fields.invalid(f"{path}.requests[{name}]", amount, text)
    for index, container in enumerate(spec.get("containers") or []):
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            most = (given.get("limits") or {}).get(name)
            if most is not None and quantities.parse(amount) > quantities.parse(most):
                text = f"must be less than or equal to pod limits of {most}"
                yield fields.invalid(f"{path}.containers[{index}][{name}].limits", amount, text)


def overcommittable(name: str) -> bool:
    """Whether a request may stay below its limit: not for huge pages and extended resources."""
    return _is_native(name) and not name.startswith(_HUGE)


def _is_native(name: str) -> bool:
    return "/" not in name or _NATIVE in name


def _name(path: str, name: str) -> Errors:
    wrong = list(fields.qualified_name(path, name))
    yield from wrong
    if not wrong and "/" not in name and name not in _STANDARD and not name.startswith(_HUGE):
        yield fields.invalid(path, name, "must be a standard resource type or fully qualified")


def _container_name(path: str, name: str) -> Errors:
    yield from _name(path, name)
    if "/" not in name and name not in _CONTAINERS and not name.startswith(_HUGE):
        yield fields.invalid(path, name, "must be a standard resource for containers")
    elif not _is_native(name) and not resources.is_extended(name):
        yield fields.invalid(path, name, "doesn't follow extended resource name standard")


def _pod_name(path: str, name: str) -> Errors:
    wrong = list(_name(path, name))
    yield from wrong
    if not wrong and name not in _PODS and not name.startswith(_HUGE):
        yield FieldError("FieldValueNotSupported", path, 'supported values: "cpu", "hugepages-", "memory"', name)
