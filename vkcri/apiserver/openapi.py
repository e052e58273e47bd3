"""Just as much OpenAPI as kubectl needs: v3 for create, apply, edit and explain, v2 for old versions.

Pure. v3: each group's paths, whose POST, PUT and PATCH declare `fieldValidation`, by which kubectl knows that the
server checks fields itself; and the schemas of the kinds, from schema.py, for explain. No path says that it takes a
strategic merge patch, so that kubectl computes patches from the types that it was built with. v2: an empty document of
the protobuf type that kubectl asks for.
"""

import hashlib
import json
from functools import cache
from typing import Any, Final

from vkcri.apiserver import schema
from vkcri.apiserver.resources import RESOURCES, Resource
from vkcri.apiserver.routing import group_versions

Object = dict[str, Any]
V2_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2_BODY: Final = b""
_BODY_METHODS: Final = {"post": "create", "put": "update", "patch": "patch"}
_TYPES: Final[dict[str, Object]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "format": "int64"},
    "number": {"type": "number", "format": "double"},
    "boolean": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "time": {"type": "string", "format": "date-time"},
    "microtime": {"type": "string", "format": "date-time"},
    "quantity": {"type": "string"},
    "int-or-string": {"type": "string", "format": "int-or-string"},
    "any": {"type": "object"},
}


def v2_json() -> Object:
    """/openapi/v2 for who asks for JSON."""
    return {"swagger": "2.0", "info": {"title": "vkcri", "version": "unversioned"}, "paths": {}, "definitions": {}}


def index() -> Object:
    """/openapi/v3: where each group's document is, its hash in the address so that clients may keep it."""
    paths = {}
    for group, version in group_versions():
        path = _path(group, version)
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={_digest(group, version)}"}
    return {"paths": paths}


def document(group: str, version: str) -> Object | None:
    """/openapi/v3/api/v1 or /openapi/v3/apis/GROUP/VERSION, None where it is not served. Built anew each time: clients
    keep it by its hash, and a kept copy would cost us a megabyte."""
    if (group, version) not in group_versions():
        return None
    served = [item for item in RESOURCES if (item.group, item.version) == (group, version)]
    paths: Object = {}
    for resource in served:
        paths |= _paths(resource)
    return {
        "openapi": "3.0.0",
        "info": {"title": "vkcri", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": _schemas(served)},
    }


@cache
def _digest(group: str, version: str) -> str:
    text = json.dumps(document(group, version), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest().upper()


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _paths(resource: Resource) -> Object:
    base = f"/{_path(resource.group, resource.version)}/"
    base += "namespaces/{namespace}/" if resource.namespaced else ""
    collection = {"post": _operation(resource, "post")} if "create" in resource.verbs else {}
    single = {
        method: _operation(resource, method)
        for method, verb in _BODY_METHODS.items()
        if method != "post" and verb in resource.verbs
    }
    paths = {base + resource.plural: collection, f"{base}{resource.plural}/{{name}}": single}
    return {path: operations for path, operations in paths.items() if operations}


def _operation(resource: Resource, method: str) -> Object:
    names = ("dryRun", "fieldManager", "fieldValidation")
    parameters = [{"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for name in names]
    return {
        "operationId": f"{_BODY_METHODS[method]}{resource.group}{resource.version}{resource.kind}",
        "parameters": parameters,
        "x-kubernetes-group-version-kind": _identity(resource),
        "responses": {"200": {"description": "OK"}},
    }


def _identity(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _schemas(served: list[Resource]) -> Object:
    """The definitions of these kinds and of all that they are made of."""
    found: Object = {}
    waiting = [item.kind for item in served]
    while waiting:
        kind = waiting.pop()
        if kind not in found:
            found[kind] = _definition(kind)
            waiting += [field.type for field in schema.fields(kind).values() if field.nested]
    for resource in served:
        found[resource.kind]["x-kubernetes-group-version-kind"] = [_identity(resource)]
    return found


def _definition(kind: str) -> Object:
    fields = schema.fields(kind)
    made: Object = {
        "type": "object",
        "properties": {name: _property(kind, name, field) for name, field in sorted(fields.items())},
    }
    required = sorted(name for name, field in fields.items() if field.required)
    return made | ({"required": required} if required else {})


def _property(kind: str, name: str, field: schema.Field) -> Object:
    """One field's schema, with the merge key of a list that a strategic merge patch merges."""
    item = {"$ref": f"#/components/schemas/{field.type}"} if field.nested else dict(_TYPES[field.type])
    if field.container == "map":
        return {"type": "object", "additionalProperties": item}
    if field.container == "map of list":
        return {"type": "object", "additionalProperties": {"type": "array", "items": item}}
    if field.container != "list":
        return item
    made: Object = {"type": "array", "items": item}
    key = schema.merge_key(kind, name)
    if key is not None:
        made["x-kubernetes-patch-strategy"] = ",".join(sorted(schema.patch_strategy(kind, name)))
    if key:
        made["x-kubernetes-patch-merge-key"] = key
    return made
