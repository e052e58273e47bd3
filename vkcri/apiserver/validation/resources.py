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


def overcommittable(name: str) -> bool:
    """Whether a request may stay below its limit: not for huge pages and extended resources."""
    return not name.startswith("hugepages-") and ("/" not in name or name.partition("/")[0].endswith("kubernetes.io"))


def _name(path: str, name: str) -> Errors:
    yield from fields.qualified_name(path, name)
    if "/" not in name and name not in _STANDARD and not _HUGE_PAGES.fullmatch(name):
        yield fields.invalid(path, name, "must be a standard resource type or fully qualified")
