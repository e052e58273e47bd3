"""Strategic merge patch: what kubectl apply, edit, patch and label send for built-in kinds.

Pure. Maps merge, lists merge by the merge key that schema.py knows and are replaced where it knows none. Directives
inside the patch say more: `$patch` (replace, delete, merge), `$deleteFromPrimitiveList/FIELD`,
`$setElementOrder/FIELD`, `$retainKeys`. The semantics are those of Kubernetes' strategicpatch; a directive that makes
no sense is an error.
"""

import copy
from collections.abc import Callable
from typing import Any

from vkcri.apiserver import schema
from vkcri.errors import Invalid

Object = dict[str, Any]
_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def merge(kind: str, original: Object, patch: Object) -> Object:
    """`original` (an object of the definition `kind`) with `patch` merged in; neither is changed. Raises Invalid."""
    directive = patch.get(_PATCH)
    if directive is not None:
        if directive == "replace":
            return _clean(kind, {key: value for key, value in patch.items() if key != _PATCH})
        if directive == "delete":
            return {}
        if directive != "merge":
            raise Invalid(f"unknown patch type {directive!r} in a map: replace, delete or merge")
    result = _retained(copy.deepcopy(original), patch)
    for name in _list_fields(patch):
        _merge_list_field(kind, name, result, patch)
    for name, value in patch.items():
        if name.startswith("$") or _is_merged_list(kind, name, value):
            continue
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            below = result.get(name)
            result[name] = merge(_type_of(kind, name), below if isinstance(below, dict) else {}, value)
            if value.get(_PATCH) == "delete":
                result.pop(name)
        else:
            result[name] = _clean_items(kind, name, value)
    return result


def _type_of(kind: str, field: str) -> str:
    """The definition of a field's values; "" for a map or anything without fields of its own."""
    found = schema.fields(kind).get(field)
    return found.type if found is not None and found.nested and found.container != "map" else ""


def _is_merged_list(kind: str, field: str, value: Any) -> bool:
    return isinstance(value, list) and schema.merge_key(kind, field) is not None


def _clean(kind: str, value: Object) -> Object:
    """A map that is new as a whole: without directives and nulls."""
    return merge(kind, {}, value)


def _clean_items(kind: str, field: str, value: Any) -> Any:
    if not isinstance(value, list):
        return copy.deepcopy(value)
    return [_clean(_type_of(kind, field), item) if isinstance(item, dict) else item for item in value]


def _retained(original: Object, patch: Object) -> Object:
    """What `$retainKeys` leaves of the original: only keys that it names."""
    if _RETAIN not in patch:
        return original
    keep = patch[_RETAIN]
    if not isinstance(keep, list):
        raise Invalid(f"{_RETAIN} wants a list")
    stray = [key for key, value in patch.items() if not key.startswith("$") and value is not None and key not in keep]
    if stray:
        raise Invalid(f"{_RETAIN} does not name {stray[0]!r}, which the patch sets")
    return {key: value for key, value in original.items() if key in keep}


def _list_fields(patch: Object) -> list[str]:
    """The fields that a list or a list directive of this patch is about, each once."""
    found: dict[str, None] = {}
    for name, value in patch.items():
        for prefix in (_DELETE_FROM, _ORDER):
            if name.startswith(prefix):
                found[name.removeprefix(prefix)] = None
        if isinstance(value, list) and not name.startswith("$"):
            found[name] = None
        elif name.startswith("$") and name not in (_PATCH, _RETAIN) and not name.startswith((_DELETE_FROM, _ORDER)):
            raise Invalid(f"unknown directive {name!r}")
    return list(found)


def _merge_list_field(kind: str, field: str, result: Object, patch: Object) -> None:
    """Merge one list field and its directives into `result`; a list that is replaced is left to the caller."""
    key = schema.merge_key(kind, field)
    order, gone = patch.get(_ORDER + field), patch.get(_DELETE_FROM + field)
    if key is None:
        if order is not None or gone is not None:
            raise Invalid(f"{field}: a directive for a list that is replaced, not merged")
        return
    for directive in (order, gone):
        if directive is not None and not isinstance(directive, list):
            raise Invalid(f"{field}: a list directive wants a list")
    given = patch.get(field)
    if given is None and field in patch:
        result.pop(field, None)
        return
    before = result.get(field) or []
    if key == "":
        merged = _merge_values(before, given or [], gone or [])
        identity: Callable[[Any], Any] = lambda item: item  # noqa: E731
    else:
        merged = _merge_items(_type_of(kind, field), key, before, given or [])
        identity = lambda item: item.get(key) if isinstance(item, dict) else item  # noqa: E731
    merged = _ordered(merged, before, (given or []) if order is None else order, identity)
    if merged or given is not None or before:
        result[field] = merged


def _merge_values(before: list[Any], given: list[Any], gone: list[Any]) -> list[Any]:
    kept = [item for item in before if item not in gone]
    return kept + [item for index, item in enumerate(given) if item not in kept and item not in given[:index]]


def _merge_items(kind: str, key: str, before: list[Any], given: list[Any]) -> list[Any]:
    """Items of `before` with those of `given` merged in by key."""
    for item in given:
        if not isinstance(item, dict):
            raise Invalid(f"a list merged by {key!r} holds objects, not {item!r}")
    if any(item.get(_PATCH) == "replace" for item in given):
        return [_clean(kind, item) for item in given if item.get(_PATCH) != "replace"]
    merged = list(before)
    for item in given:
        if key not in item:
            raise Invalid(f"an item of the patch lacks the merge key {key!r}")
        same = [index for index, one in enumerate(merged) if isinstance(one, dict) and one.get(key) == item[key]]
        if item.get(_PATCH) == "delete":
            merged = [one for index, one in enumerate(merged) if index not in same]
        elif same:
            merged[same[0]] = merge(kind, merged[same[0]], item)
        else:
            merged.append(_clean(kind, item))
    return merged


def _ordered(merged: list[Any], before: list[Any], order: list[Any], identity: Callable[[Any], Any]) -> list[Any]:
    """`merged` in the order that the patch asks for; what the patch does not know keeps its place among the others
    that were there before."""
    wanted = [identity(item) for item in order]
    places = {_hashable(identity(item)): index for index, item in reversed(list(enumerate(before)))}
    known = sorted((item for item in merged if identity(item) in wanted), key=lambda item: wanted.index(identity(item)))
    others = [item for item in merged if identity(item) not in wanted]
    result: list[Any] = []
    while known and others:
        place = places.get(_hashable(identity(known[0])))
        first = others if place is not None and places.get(_hashable(identity(others[0])), -1) < place else known
        result.append(first.pop(0))
    return result + known + others


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
