"""Just as much OpenAPI as kubectl needs to create, apply and edit.

Pure. v3: each group's paths whose POST, PUT and PATCH declare `fieldValidation`, by which kubectl knows that the server
checks fields itself and sends no schema of its own. No schemas: without one kubectl takes the types that it was built
with, merge keys included, which are the right ones. v2: an empty document of the protobuf type that kubectl asks for.
"""

import hashlib
import json
from functools import cache
from typing import Any, Final

from vkcri.apiserver.resources import RESOURCES, Resource
from vkcri.apiserver.routing import group_versions

V2_TYPE: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2_BODY: Final = b""
_BODY_METHODS: Final = {"post": "create", "put": "update", "patch": "patch"}


def v2_json() -> dict[str, Any]:
    """/openapi/v2 for who asks for JSON."""
    return {"swagger": "2.0", "info": {"title": "vkcri", "version": "unversioned"}, "paths": {}, "definitions": {}}


def index() -> dict[str, Any]:
    """/openapi/v3: where each group's document is, its hash in the address so that clients may keep it."""
    paths = {}
    for group, version in group_versions():
        path = _path(group, version)
        text = json.dumps(document(group, version), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest().upper()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


@cache
def document(group: str, version: str) -> dict[str, Any] | None:
    """/openapi/v3/api/v1 or /openapi/v3/apis/GROUP/VERSION, None where it is not served. Not to be changed."""
    if (group, version) not in group_versions():
        return None
    paths: dict[str, Any] = {}
    for resource in RESOURCES:
        if (resource.group, resource.version) == (group, version):
            paths |= _paths(resource)
    return {"openapi": "3.0.0", "info": {"title": "vkcri", "version": "unversioned"}, "paths": paths}


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def _paths(resource: Resource) -> dict[str, Any]:
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


def _operation(resource: Resource, method: str) -> dict[str, Any]:
    names = ("dryRun", "fieldManager", "fieldValidation")
    parameters = [{"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}} for name in names]
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    return {
        "operationId": f"{_BODY_METHODS[method]}{resource.group}{resource.version}{resource.kind}",
        "parameters": parameters,
        "x-kubernetes-group-version-kind": kind,
        "responses": {"200": {"description": "OK"}},
    }
