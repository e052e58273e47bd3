"""PATCH: the three kinds of patch that change a stored object, by their media type.

Pure. JSON patch is the jsonpatch package's, merge patch is RFC 7386, strategic merge is strategic.py. Server-side apply
is refused: it needs field ownership that this server does not keep, and a partial one would lose other owners' fields.
"""

import copy
from typing import Any, Final

import jsonpatch
import jsonpointer

from vkcri.apiserver import negotiate, strategic
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError
from vkcri.errors import Invalid

Object = dict[str, Any]
JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC: Final = "application/strategic-merge-patch+json"
APPLY: Final = ("application/apply-patch+yaml", "application/apply-patch+cbor")
MOST_OPERATIONS: Final = 10000


def media_type(content_type: str) -> str:
    """Which kind of patch a Content-Type announces. Raises StatusError 415."""
    media = content_type.partition(";")[0].strip().lower()
    if media not in (JSON_PATCH, MERGE_PATCH, STRATEGIC):
        raise _unsupported(media)
    return media


def apply(content_type: str, resource: Resource, old: Object, data: bytes) -> tuple[Object, list[str]]:
    """(the patched object, fields that the patch gives twice); `old` is not changed. Raises StatusError 400, 413, 415,
    422."""
    media = media_type(content_type)
    if len(data) > negotiate.LARGEST_BODY:
        raise StatusError.too_large(f"the patch has more than {negotiate.LARGEST_BODY} bytes")
    value, duplicates = negotiate.parse_json(data)
    if media == JSON_PATCH:
        return _json_patch(old, value), duplicates
    if not isinstance(value, dict):
        raise StatusError.bad_request("a merge patch is an object")
    if media == MERGE_PATCH:
        return merge(old, value), duplicates
    try:
        return strategic.merge(resource.kind, old, value), duplicates
    except Invalid as error:
        raise StatusError.bad_request(f"the strategic merge patch cannot be applied: {error}") from error


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def _json_patch(old: Object, operations: Any) -> Object:
    if not isinstance(operations, list) or not all(isinstance(item, dict) for item in operations):
        raise StatusError.bad_request("a JSON patch is a list of operations")
    if len(operations) > MOST_OPERATIONS:
        raise StatusError.too_large(f"a JSON patch has at most {MOST_OPERATIONS} operations")
    result: Any = copy.deepcopy(old)
    try:
        for operation in operations:
            usual = _usual(result, operation)
            if usual is not None:
                result = jsonpatch.JsonPatch([usual]).apply(result, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError, KeyError) as error:
        raise StatusError(422, "Invalid", f"the JSON patch cannot be applied: {error}") from error
    if not isinstance(result, dict):
        raise StatusError(422, "Invalid", "the JSON patch leaves no object")
    return result


def _usual(obj: Any, operation: Object) -> Object | None:
    """The operation as RFC 6902 has it, or None where it holds. Kubernetes' library is milder with an object's members:
    one that is not there is null to a test, and is added by a replacement; a value that is not given is null."""
    kind, path = operation.get("op"), operation.get("path")
    if not isinstance(path, str) or kind not in ("add", "replace", "test"):
        return operation
    usual = {"value": None, **operation}
    if kind == "add":
        return usual
    holder, name = jsonpointer.JsonPointer(path).to_last(obj)
    if not isinstance(holder, dict) or name is None or name in holder:
        return usual
    if kind == "replace":
        return {**usual, "op": "add"}
    return None if usual["value"] is None else usual


def _unsupported(media: str) -> StatusError:
    accepted = ", ".join((JSON_PATCH, MERGE_PATCH, STRATEGIC))
    if media in APPLY:
        return StatusError.unsupported_media_type(
            "server-side apply is not served here: use client-side apply (kubectl apply without --server-side); "
            f"accepted patch types: {accepted}"
        )
    return StatusError.unsupported_media_type(
        f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    )
