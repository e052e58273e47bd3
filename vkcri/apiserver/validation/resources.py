"""Resource requirements: known names, amounts that are amounts, no request above its limit. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.api import quantities
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_STANDARD: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_HUGE_PAGES: Final = re.compile(r"hugepages-[0-9]+(Ki|Mi|Gi)")


def validate(path: str, given: Mapping[str, Any]) -> Errors:
    """limits and requests of a container, or of a pod."""
    limits, requests = given.get("limits") or {}, given.get("requests") or {}
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            where = f"{path}.{part}[{name}]" if "." in name or "/" in name else f"{path}.{part}.{name}"
            yield from _name(f"{path}.{part}", name)
            yield from fields.quantity(where, amount, whole="/" in name)
    for name, amount in requests.items():
        where = f"{path}.requests"
        limit = limits.get(name)
        if limit is None:
            if not overcommittable(name):
                yield fields.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        elif not overcommittable(name) and quantities.parse(amount) != quantities.parse(limit):
            yield fields.invalid(where, amount, f"must be equal to {name} limit of {limit}")
        elif quantities.parse(amount) > quantities.parse(limit):
            yield fields.invalid(where, amount, f"must be less than or equal to {name} limit of {limit}")


def validate_pod(path: str, spec: Mapping[str, Any]) -> Errors:
    """A pod's own resources: cpu, memory and huge pages, and no less than its containers ask for together."""
    given = spec.get("resources") or {}
    yield from validate(path, given)
    for part in ("limits", "requests"):
        for name in given.get(part) or {}:
            if name not in ("cpu", "memory") and not _HUGE_PAGES.fullmatch(name):
                text = 'supported values: "cpu", "memory", "hugepages-"'
                yield FieldError("FieldValueNotSupported", f"{path}.{part}.{name}", text, name)
    for name, amount in (given.get("requests") or {}).items():
        asked = [(item.get("resources") or {}).get("requests") or {} for item in spec.get("containers") or []]
        total = sum(quantities.parse(item[name]) for item in asked if name in item)
        if quantities.parse(amount) < total:
            text = f"must be greater than or equal to aggregate container requests of {quantities.format(total)}"
            yield fields.invalid(f"{path}.requests.{name}", amount, text)


def overcommittable(name: str) -> bool:
    """Whether a request may stay below its limit: not for huge pages and extended resources."""
    return not name.startswith("hugepages-") and ("/" not in name or name.partition("/")[0].endswith("kubernetes.io"))


def _name(path: str, name: str) -> Errors:
    yield from fields.qualified_name(path, name)
    if "/" not in name and name not in _STANDARD and not _HUGE_PAGES.fullmatch(name):
        yield fields.invalid(path, name, "must be a standard resource type or fully qualified")
