"""What each verb does to a kind: read, list, create, update, patch, delete, through strategy and into the store.

Runs in each request's thread, after authentication and authorization (rest.py). Every write prepares and stores in one
transaction, so that what admission saw still holds. A dry run does all of it and rolls back. Watches are stream.py's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from vkcri.apiserver import patch, requestoptions, selection, strategy
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.routing import Target
from vkcri.apiserver.status import FieldError, StatusError, success

Object = dict[str, Any]
_T = TypeVar("_T")
_CREATE_ON_UPDATE: Final = frozenset(
    {
        "/endpoints",
        "/events",
        "coordination.k8s.io/leases",
        "discovery.k8s.io/endpointslices",
        "node.k8s.io/runtimeclasses",
    }
)
_RETURNS_DELETED: Final = frozenset({"/pods", "/services", "/serviceaccounts", "/namespaces"})
_NAME_ATTEMPTS: Final = 8


@dataclass(frozen=True)
class Call:
    """One request: what it is about, its query, its body (decoded where the verb wants an object)."""

    target: Target
    query: Mapping[str, str]
    ctx: RequestContext
    body: Object = field(default_factory=dict)
    data: bytes = b""
    content_type: str = ""

    @property
    def resource(self) -> Resource:
        return self.target.resource

    @property
    def scope(self) -> str | None:
        """The namespace that a list, watch or collection is limited to; None: all."""
        return (self.target.namespace or None) if self.resource.namespaced else None

    @property
    def namespace(self) -> str:
        """The namespace under which one object is stored."""
        return self.target.namespace if self.resource.namespaced else ""


class _RolledBack(Exception):
    """Ends a dry run's transaction with its result."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def get(call: Call) -> tuple[int, Object]:
    """One object."""
    requested_version(call)
    return 200, _existing(call)


def list_(call: Call) -> tuple[int, Object]:
    """A page of objects as KIND's List; items carry no kind and apiVersion, as Kubernetes' typed lists."""
    requestoptions.check(call.query, watch=False)
    wanted = selection.predicate(call.resource, call.query)
    minimum = requested_version(call)
    if call.query.get("resourceVersionMatch") == "Exact" and minimum != call.ctx.store.current_rv():
        raise StatusError.expired(f"the state at resource version {minimum} is not kept: only the newest is")
    items, rv, token, remaining = call.ctx.store.list(
        call.resource.key,
        call.scope,
        predicate=wanted,
        limit=max(0, requestoptions.number(call.query, "limit")),
        continue_=call.query.get("continue") or None,
    )
    metadata: Object = {"resourceVersion": str(rv)}
    if token:
        metadata["continue"] = token
    if remaining is not None:
        metadata["remainingItemCount"] = remaining
    return 200, as_list(call.resource, items, metadata)


def create(call: Call) -> tuple[int, Object]:
    """A new object, a subresource's action, or the answer of a kind that is never stored."""
    target, body = call.target, call.body
    if target.subresource:
        action = lambda: strategy.subresource_create(  # noqa: E731
            call.resource, target.subresource, target.name, call.namespace, body, call.ctx
        )
        return _transaction(call, action)
    body = _placed(call, body)
    if call.resource.virtual:
        return 201, strategy.virtual_create(call.resource, body, call.ctx)
    return 201, _without_rv(call, _transaction(call, lambda: _create_named(call, body)))


def update(call: Call) -> tuple[int, Object]:
    """Replace an object or, by its subresource, a part of it."""
    body = _placed(call, call.body)
    if not body["metadata"].get("name"):
        body["metadata"]["name"] = call.target.name
    if body["metadata"]["name"] != call.target.name:
        given = body["metadata"]["name"]
        raise StatusError.bad_request(
            f"the name of the object ({given}) does not match the name on the URL ({call.target.name})"
        )

    def write() -> tuple[int, Object]:
        old = call.ctx.store.get(call.resource.key, call.namespace, call.target.name)
        if old is None and call.resource.key in _CREATE_ON_UPDATE and not call.target.subresource:
            body["metadata"].pop("resourceVersion", None)
            return 201, _create_named(call, body)
        return 200, _replace(call, body, _existing(call))

    return _transaction(call, write)


def patch_(call: Call) -> tuple[int, Object]:
    """Change an object by one of the three kinds of patch."""
    patch.media_type(call.content_type)

    def write() -> tuple[int, Object]:
        old = _existing(call)
        new, duplicates = patch.apply(call.content_type, call.resource, old, call.data)
        refuse_duplicates(call.ctx, duplicates)
        _check_patched(call, new, old)
        try:
            return 200, _replace(call, new, old)
        except strategy.Unreadable as error:
            text = json.dumps(new, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
            wrong = FieldError("FieldValueInvalid", "patch", error.why, text)
            raise StatusError.invalid("", "", [wrong]) from error

    return _transaction(call, write)


def delete(call: Call) -> tuple[int, Object]:
    """Delete one object: at once, or marked and left to whoever must let go of it first."""
    options = delete_options(call)

    def write() -> tuple[Object, bool]:
        return _delete_one(call, _existing(call), options)

    obj, gone = _transaction(call, write)
    if call.resource.key not in _RETURNS_DELETED and gone:
        details = {"name": call.target.name, "group": call.resource.group, "kind": call.resource.plural}
        details["uid"] = obj["metadata"].get("uid", "")
        return 200, success({key: value for key, value in details.items() if value})
    later = not gone and options.get("orphanDependents") is False
    return 202 if later else 200, obj


def delete_collection(call: Call) -> tuple[int, Object]:
    """Delete each object that the selectors want; the answer lists them as they were."""
    options = delete_options(call)
    requestoptions.check(call.query, watch=False)
    wanted = selection.predicate(call.resource, call.query)

    def write() -> list[Object]:
        found = call.ctx.store.list(call.resource.key, call.scope, predicate=wanted)[0]
        for obj in found:
            _delete_one(call, obj, options)
        return found

    items = _transaction(call, write)
    return 200, as_list(call.resource, items, {"resourceVersion": str(call.ctx.store.current_rv())})


def as_list(resource: Resource, items: list[Object], metadata: Object) -> Object:
    """KIND's List of objects."""
    plain = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
    return {"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata, "items": plain}


def delete_options(call: Call) -> Object:
    """The request's DeleteOptions: the body's, else those of the query. Raises StatusError 400, 422."""
    kind = call.body.get("kind", "DeleteOptions")
    if kind != "DeleteOptions":
        version = call.body.get("apiVersion", "")
        raise StatusError.bad_request(
            f'no kind "{kind}" is registered for version "{version}": DeleteOptions is wanted'
        )
    options: Object = {key: value for key, value in call.body.items() if key not in ("kind", "apiVersion")}
    if not options:
        if "gracePeriodSeconds" in call.query:
            options["gracePeriodSeconds"] = requestoptions.number(call.query, "gracePeriodSeconds")
        if call.query.get("propagationPolicy"):
            options["propagationPolicy"] = call.query["propagationPolicy"]
        if call.query.get("orphanDependents"):
            options["orphanDependents"] = flag(call.query, "orphanDependents")
    return strategy.read_delete_options(options, call.ctx)


def requested_version(call: Call) -> int | None:
    """`resourceVersion` of a read, None for none or 0. Raises StatusError 400, 504 for one of the future."""
    text = call.query.get("resourceVersion", "")
    if text in ("", "0"):
        return None
    if not (text.isascii() and text.isdigit()):
        raise StatusError.bad_request(f'resourceVersion: Invalid value: "{text}": not a version of this server')
    if int(text) > call.ctx.store.current_rv():
        raise StatusError.too_large_version(int(text), call.ctx.store.current_rv())
    return int(text)


def flag(query: Mapping[str, str], name: str) -> bool:
    """A yes or no of the query, as Go's API machinery reads it: anything but 0 and false is yes, "" too."""
    return name in query and query[name].lower() not in ("0", "false")


def refuse_duplicates(ctx: RequestContext, duplicates: list[str]) -> None:
    """A field given twice: 400 under Strict, a warning under Warn."""
    texts = [f'duplicate field "{name}"' for name in dict.fromkeys(duplicates)]
    if texts and ctx.field_validation == "Strict":
        raise StatusError.bad_request(f"strict decoding error: {', '.join(texts)}")
    if ctx.field_validation == "Warn":
        ctx.warnings.extend(texts)


def _transaction(call: Call, action: Callable[[], _T]) -> _T:
    """Run prepare-and-store as one; of a dry run nothing is kept."""
    try:
        with call.ctx.store.transaction():
            result = action()
            if call.ctx.dry_run:
                raise _RolledBack(result)
            return result
    except _RolledBack as done:
        kept: _T = done.result
        return kept


def _existing(call: Call) -> Object:
    obj = call.ctx.store.get(call.resource.key, call.namespace, call.target.name)
    if obj is None:
        raise StatusError.not_found(call.resource.qualified, call.target.name)
    return obj


def _placed(call: Call, body: Object) -> Object:
    """The body with metadata and the path's namespace. Raises StatusError 400 where they contradict."""
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise StatusError.bad_request("metadata is not an object")
    metadata = dict(metadata or {})
    if call.namespace:
        if metadata.get("namespace") not in (None, "", call.namespace):
            raise StatusError.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        metadata["namespace"] = call.namespace
    return {**body, "metadata": metadata}


def _create_named(call: Call, body: Object) -> Object:
    """Store a new object; a generated name that is taken is generated again."""
    generated = bool(body["metadata"].get("generateName")) and not body["metadata"].get("name")
    for attempt in range(_NAME_ATTEMPTS):
        new = strategy.prepare_create(call.resource, body, call.ctx)
        try:
            return call.ctx.store.create(call.resource.key, new)
        except StatusError as error:
            if error.reason != "AlreadyExists" or not generated or attempt == _NAME_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _replace(call: Call, new: Object, old: Object) -> Object:
    """Store `new` in the place of `old`, and remove it where that was all that its deletion waited for."""
    expected = new["metadata"].get("resourceVersion") or None
    if expected is not None and expected != old["metadata"]["resourceVersion"]:
        raise StatusError.conflict(call.resource.qualified, call.target.name)
    ready = strategy.prepare_update(call.resource, new, old, call.ctx, subresource=call.target.subresource or None)
    if strategy.finished(ready):  # what was all that its deletion waited for: watches see the deletion alone
        call.ctx.store.delete(call.resource.key, call.namespace, call.target.name)
        return ready
    return call.ctx.store.update(call.resource.key, ready, expected=expected)


def _check_patched(call: Call, new: Object, old: Object) -> None:
    """Raises StatusError 400, 422 for a patch that makes another object of this one."""
    metadata, kept = new.get("metadata"), old["metadata"]
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise StatusError.bad_request(
            f"the name of the object ({kept['name']} based on URL) was undeterminable: name must be provided"
        )
    if metadata["name"] != kept["name"]:
        raise StatusError.bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({kept['name']})"
        )
    if metadata.get("namespace") != kept.get("namespace"):
        raise StatusError.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if metadata.get("uid") not in (None, "", kept["uid"]):
        wrong = strategy.immutable("metadata.uid", metadata["uid"])
        raise StatusError.invalid(call.resource.kind, kept["name"], [wrong], group=call.resource.group)


def _delete_one(call: Call, old: Object, options: Object) -> tuple[Object, bool]:
    """(the object as it was left, whether it is gone)."""
    decided = strategy.prepare_delete(call.resource, old, options, call.ctx)
    namespace, name = old["metadata"].get("namespace") or "", old["metadata"]["name"]
    kept = call.ctx.store.update(call.resource.key, decided.obj, expected=None)
    return (call.ctx.store.delete(call.resource.key, namespace, name), True) if decided.gone else (kept, False)


def _without_rv(call: Call, obj: Object) -> Object:
    """A dry run's new object has no version, for it was never stored."""
    if call.ctx.dry_run:
        obj["metadata"].pop("resourceVersion", None)
    return obj
