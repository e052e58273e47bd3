"""Writes schema.json at build time: what fields the served kinds have, read from the pinned kubernetes package.

The only module here that imports the kubernetes package, and only inside a function: the server reads schema.json and
never loads the package (40 MiB). protos/generate.py calls `write_schema`. What the package does not say (merge keys,
list types, quantities) stands in schema.py.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

# Every object that may arrive in a request's body, by the name its kind has here.
ROOTS: Final = {
    "Binding": "V1Binding",
    "ConfigMap": "V1ConfigMap",
    "DeleteOptions": "V1DeleteOptions",
    "EndpointSlice": "V1EndpointSlice",
    "Endpoints": "V1Endpoints",
    "Event": "CoreV1Event",
    "Eviction": "V1Eviction",
    "Lease": "V1Lease",
    "LocalSubjectAccessReview": "V1LocalSubjectAccessReview",
    "Namespace": "V1Namespace",
    "Node": "V1Node",
    "Pod": "V1Pod",
    "RuntimeClass": "V1RuntimeClass",
    "Secret": "V1Secret",
    "SelfSubjectAccessReview": "V1SelfSubjectAccessReview",
    "SelfSubjectReview": "V1SelfSubjectReview",
    "SelfSubjectRulesReview": "V1SelfSubjectRulesReview",
    "Service": "V1Service",
    "ServiceAccount": "V1ServiceAccount",
    "SubjectAccessReview": "V1SubjectAccessReview",
    "TokenRequest": "AuthenticationV1TokenRequest",
    "TokenReview": "V1TokenReview",
}
_PRIMITIVES: Final = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "bytes": "bytes",
    "datetime": "time",
    "object": "any",
}
_LIST = re.compile(r"List\[(.+)\]")
_MAP = re.compile(r"Dict\[str, (.+)\]")


def write_schema(path: Path) -> None:
    """Write `{definition: {json name: [type, container, required]}}`: type is a primitive's name or a definition's,
    container "", "list", "map" or "map of list". Raises KeyError for a type that no class of the package has."""
    from kubernetes.client import models

    definitions: dict[str, Any] = {}
    waiting = [(name, class_name) for name, class_name in ROOTS.items()]
    named = {class_name: name for name, class_name in ROOTS.items()}
    while waiting:
        name, class_name = waiting.pop()
        if name in definitions:
            continue
        fields = _fields(getattr(models, class_name))
        for field in fields.values():
            if field[0] in _PRIMITIVES:
                field[0] = _PRIMITIVES[field[0]]
                continue
            nested = named.setdefault(field[0], re.sub(r"^V1(?=[A-Z])", "", field[0]))
            waiting.append((nested, field[0]))
            field[0] = nested
        definitions[name] = fields
    lines = (f"  {json.dumps(name)}: {json.dumps(definitions[name], sort_keys=True)}" for name in sorted(definitions))
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _fields(model: Any) -> dict[str, list[Any]]:
    """One class' fields by JSON name, with the package's own type names."""
    fields: dict[str, list[Any]] = {}
    for attribute, written in model.openapi_types.items():
        container, element = "", written
        if found := _MAP.fullmatch(element):
            container, element = "map", found.group(1)
        if found := _LIST.fullmatch(element):
            container, element = ("map of list" if container else "list"), found.group(1)
        fields[model.attribute_map[attribute]] = [element, container, _required(model, attribute)]
    return fields


def _required(model: Any, attribute: str) -> bool:
    described = model.model_fields.get(attribute) or model.model_fields.get(attribute.lstrip("_") + "_")
    return bool(described is not None and described.is_required())
