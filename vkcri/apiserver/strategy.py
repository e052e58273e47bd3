"""What happens to an object between a request and the store: strict reading, defaults, admission, metadata, validation.

Runs in each request's thread; rest.py calls it inside `store.transaction()`, from the preparation to the write, so that
what admission read (the namespace, free addresses, the pod to bind) still holds when the object is written. Nothing
here writes but `subresource_create`. Order and wording follow apiserver/pkg/registry/rest.
"""

import copy
import secrets
import uuid
from collections.abc import Mapping
from typing import Any, Final

from vkcri.apiserver import (
    admission,
    apparmor,
    defaults,
    deletion,
    labelkeys,
    pod_actions,
    pod_ephemeral,
    pod_resize,
    requestoptions,
    reviews,
    schema,
    token_requests,
    validation,
    warnings,
)
from vkcri.apiserver.context import RequestContext as RequestContext
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import FieldError, StatusError
from vkcri.apiserver.storage import check_preconditions

Object = dict[str, Any]
_SUFFIX_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_PREFIX: Final = 58
_WITH_GENERATION: Final = frozenset({"/pods", "discovery.k8s.io/endpointslices"})
_WITHOUT_STATUS_SUBRESOURCE: Final = frozenset({"/nodes"})  # a kubelet registers with its status
_KEPT_METADATA: Final = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp")
_KEPT_METADATA_MORE: Final = ("deletionGracePeriodSeconds", "generateName", "generation")


class Unreadable(StatusError):
    """400: a body that is not of its kind; `why` without the kind's name."""

    def __init__(self, prefix: str, why: str) -> None:
        super().__init__(400, "BadRequest", f"{prefix}{why}")
        self.why = why


def prepare_create(resource: Resource, obj: Mapping[str, Any], ctx: RequestContext) -> Object:
    """The object to store. `metadata.namespace` is already the request's. Raises StatusError 400, 403, 409, 422."""
    new = _decoded(resource, obj, ctx)
    _new_metadata(resource, new, ctx)
    if "status" in schema.fields(resource.kind) and resource.key not in _WITHOUT_STATUS_SUBRESOURCE:
        new.pop("status", None)
    defaults.apply(resource, new)
    if resource.key == "/pods":
        labelkeys.apply(new)
        ctx.warnings.extend(apparmor.apply(new))
    admission.admit_create(resource, new, ctx)
    if resource.key in _WITH_GENERATION:
        new["metadata"]["generation"] = 1
    _refuse(resource, new, validation.on_create(resource, new))
    ctx.warnings.extend(warnings.on_create(resource, new))
    return new


def prepare_update(
    resource: Resource, new: Mapping[str, Any], old: Mapping[str, Any], ctx: RequestContext, *, subresource: str | None
) -> Object:
    """The object to store in the place of `old`. `subresource`: None, "status", "finalize" (namespaces), "resize" or
    "ephemeralcontainers" (pods).

    An equal object comes back equal to `old`, so that the store writes nothing. Raises StatusError 400, 403, 409, 422.
    """
    result = _decoded(resource, new, ctx)
    _kept_metadata(resource, result, old)
    _scope_of_update(resource, result, old, subresource)
    defaults.apply(resource, result)
    admission.admit_update(resource, result, old, ctx, subresource)
    if resource.key in _WITH_GENERATION and _content(resource, result) != _content(resource, old):
        result["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
    _refuse(resource, result, validation.on_update(resource, result, old, subresource))
    if subresource is None:
        ctx.warnings.extend(warnings.on_update(resource, result))
    return result


def finished(obj: Mapping[str, Any]) -> bool:
    """Whether an object that was just updated is to be removed now: it is being deleted, its grace is over and its
    last finalizer is gone."""
    metadata = obj["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if obj.get("kind") == "Namespace":
        return not (obj.get("spec") or {}).get("finalizers")
    return not metadata.get("deletionGracePeriodSeconds")


def prepare_delete(
    resource: Resource, obj: Mapping[str, Any], options: Mapping[str, Any], ctx: RequestContext
) -> deletion.Decision:
    """What is to become of the object. `options` is a DeleteOptions that was checked. Raises StatusError 400, 403,
    409."""
    deletion.check_preconditions(resource, obj, options.get("preconditions"))
    admission.admit_delete(resource, obj, ctx)
    return deletion.decide(resource, copy.deepcopy(dict(obj)), dict(options), ctx.now())


def read_delete_options(options: Mapping[str, Any], ctx: RequestContext) -> Object:
    """A DeleteOptions as its typed reading. Raises StatusError 400, 422."""
    read = _read("DeleteOptions", "meta.k8s.io/v1", {**options, "kind": "DeleteOptions"}, ctx)
    requestoptions.check_delete(read)
    return read


def subresource_create(
    resource: Resource, sub: str, name: str, ns: str, body: Mapping[str, Any], ctx: RequestContext
) -> tuple[int, Object]:
    """(HTTP status, answer) of a POST to pods/binding, pods/eviction or serviceaccounts/token. Writes for itself."""
    found = resource.subresource(sub)
    action = {
        ("/pods", "binding"): pod_actions.bind,
        ("/pods", "eviction"): pod_actions.evict,
        ("/serviceaccounts", "token"): token_requests.create,
    }.get((resource.key, sub))
    if found is None or action is None:
        raise StatusError.method_not_allowed()
    version = found.version or resource.version
    api_version = f"{found.group}/{version}" if found.group else version
    return action(ns, name, _read(found.kind, api_version, body, ctx), ctx)


def virtual_create(resource: Resource, body: Mapping[str, Any], ctx: RequestContext) -> Object:
    """The answer to a POST of a kind that is never stored: token and access reviews."""
    return reviews.answer(resource, _read(resource.kind, resource.api_version, body, ctx), ctx)


def immutable(field: str, value: Any) -> FieldError:
    """A field of the metadata that nobody may change."""
    return FieldError("FieldValueInvalid", field, "field is immutable", value)


def copied(obj: Mapping[str, Any]) -> Object:
    """A deep copy, for who changes an object and needs the old one too."""
    return copy.deepcopy(dict(obj))


def _decoded(resource: Resource, obj: Mapping[str, Any], ctx: RequestContext) -> Object:
    for field, wanted in (("kind", resource.kind), ("apiVersion", resource.api_version)):
        given = obj.get(field)
        if given and given != wanted:
            what = "kind" if field == "kind" else "API version"
            raise Unreadable("", f"the {what} in the data ({given}) does not match the expected {what} ({wanted})")
    new = _read(resource.kind, resource.api_version, obj, ctx)
    new["kind"], new["apiVersion"] = resource.kind, resource.api_version
    if "metadata" not in new:
        new["metadata"] = {}
    return new


def _read(kind: str, api_version: str, obj: Mapping[str, Any], ctx: RequestContext) -> Object:
    """The body as its typed reading; unknown fields as the request's fieldValidation wants. Raises StatusError 400."""
    prefix = f'{kind} in version "{api_version.rpartition("/")[2]}" cannot be handled as a {kind}: '
    try:
        new, unknown = schema.decode(kind, obj)
    except schema.TypeMismatch as error:
        raise Unreadable(prefix, str(error)) from error
    texts = [f'unknown field "{path}"' for path in unknown]
    if texts and ctx.field_validation == "Strict":
        raise Unreadable(prefix, f"strict decoding error: {', '.join(texts)}")
    if ctx.field_validation == "Warn":
        ctx.warnings.extend(texts)
    return new


def _new_metadata(resource: Resource, obj: Object, ctx: RequestContext) -> None:
    metadata = obj["metadata"]
    if metadata.get("resourceVersion"):
        raise StatusError.bad_request("resourceVersion should not be set on objects to be created")
    if not resource.namespaced:
        metadata.pop("namespace", None)
    for field in ("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "managedFields", "generation"):
        metadata.pop(field, None)
    prefix = metadata.get("generateName")
    if prefix and not metadata.get("name"):
        suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
        metadata["name"] = prefix[:_LONGEST_PREFIX] + suffix
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = ctx.now()


def _kept_metadata(resource: Resource, new: Object, old: Mapping[str, Any]) -> None:
    """What an update never changes is taken from the stored object; another UID means another object: 409."""
    metadata, kept = new["metadata"], old["metadata"]
    if metadata.get("uid") and metadata["uid"] != kept["uid"]:
        check_preconditions(resource.key, dict(old), {"uid": metadata["uid"]})
    if metadata.get("deletionTimestamp") and not kept.get("deletionTimestamp"):
        _refuse(resource, new, [immutable("metadata.deletionTimestamp", metadata["deletionTimestamp"])])
    metadata.pop("managedFields", None)
    metadata.pop("selfLink", None)
    for field in _KEPT_METADATA + _KEPT_METADATA_MORE:
        if field in kept:
            metadata[field] = kept[field]
        else:
            metadata.pop(field, None)


def _scope_of_update(resource: Resource, new: Object, old: Mapping[str, Any], subresource: str | None) -> None:
    """A write through `status` changes the status and nothing of the spec; any other leaves the status. One through
    `resize` changes resources only, one through `ephemeralcontainers` those."""
    if subresource == "resize":
        pod_resize.keep(new, old)
    elif subresource == "ephemeralcontainers":
        pod_ephemeral.keep(new, old)
    kept = "spec" if subresource == "status" else "status"
    if kept in schema.fields(resource.kind):
        _restore(new, old, kept)
    if subresource == "status":
        _restore(new["metadata"], old["metadata"], "ownerReferences")
        _restore(new["metadata"], old["metadata"], "finalizers")
    if resource.key == "/namespaces" and subresource != "finalize":
        _restore(new, old, "spec")


def _restore(holder: Object, old: Mapping[str, Any], field: str) -> None:
    if field in old:
        holder[field] = copy.deepcopy(old[field])
    else:
        holder.pop(field, None)


def _content(resource: Resource, obj: Mapping[str, Any]) -> Any:
    """What a generation counts the versions of: the spec, or all but the metadata where there is none."""
    if "spec" in schema.fields(resource.kind):
        return obj.get("spec")
    return {key: value for key, value in obj.items() if key != "metadata"}


def _refuse(resource: Resource, obj: Mapping[str, Any], errors: list[FieldError]) -> None:
    if errors:
        name = str(obj["metadata"].get("name") or obj["metadata"].get("generateName") or "")
        raise StatusError.invalid(resource.kind, name, errors, group=resource.group)
