"""ObjectMeta: names by kind, labels, annotations, finalizers, owners; what an update may not touch. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_STANDARD_FINALIZERS: Final = frozenset({"orphan", "foregroundDeletion", "kubernetes"})


# A Service's name becomes a host's; from Kubernetes 1.37 on it may begin with a digit. Most others are subdomains.
_NAME_RULES: Final[dict[str, Callable[[str, str], Errors]]] = {
    "/namespaces": fields.dns_label,
    "/services": fields.dns_label,
}


def validate(resource: Resource, obj: Mapping[str, Any]) -> Errors:
    """A new object's metadata."""
    metadata = obj["metadata"]
    name = metadata.get("name")
    rule = _NAME_RULES.get(resource.key, fields.dns_subdomain)
    if metadata.get("generateName"):
        # The random suffix makes a name that ends well, whatever the prefix ends in.
        trimmed = metadata["generateName"].rstrip("-.") + "a" * (metadata["generateName"][-1] in "-.")
        yield from rule("metadata.generateName", trimmed)
    if not name:
        yield fields.required("metadata.name", "name or generateName is required")
    else:
        yield from rule("metadata.name", name)
    if resource.namespaced:
        if not metadata.get("namespace"):
            yield fields.required("metadata.namespace")
        else:
            yield from fields.dns_label("metadata.namespace", metadata["namespace"])
    yield from _common(metadata)


def validate_update(resource: Resource, new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """Metadata after an update; names and UIDs are kept by strategy and need no look."""
    metadata, before = new["metadata"], old["metadata"]
    yield from _common(metadata)
    if resource.key == "/namespaces" and metadata.get("labels", {}).get(_NAME_LABEL) != before["name"]:
        yield fields.invalid(f"metadata.labels[{_NAME_LABEL}]", None, "must match the namespace's name")
    if metadata.get("deletionTimestamp"):
        added = [item for item in metadata.get("finalizers") or [] if item not in (before.get("finalizers") or [])]
        if added:
            names = ", ".join(f'"{name}"' for name in added)
            text = "no new finalizers can be added if the object is being deleted, found new finalizers "
            yield fields.forbidden("metadata.finalizers", f"{text}[]string{{{names}}}")


_NAME_LABEL: Final = "kubernetes.io/metadata.name"


def _common(metadata: Mapping[str, Any]) -> Errors:
    yield from fields.labels("metadata.labels", metadata.get("labels"))
    yield from fields.annotations("metadata.annotations", metadata.get("annotations"))
    for index, finalizer in enumerate(metadata.get("finalizers") or []):
        path = f"metadata.finalizers[{index}]"
        yield from fields.qualified_name(path, finalizer)
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            yield fields.invalid(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified")
    controllers, owners = 0, metadata.get("ownerReferences") or []
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield fields.required(f"{path}.{field}", "must not be empty")
        controllers += bool(owner.get("controller"))
    if controllers > 1:
        found = [f"{item.get('kind')}/{item.get('name')}" for item in owners if item.get("controller")]
        text = "Only one reference can have Controller set to true. "
        text += f'Found "true" in references for {found[0]} and {found[1]}'
        yield fields.invalid("metadata.ownerReferences", metadata["ownerReferences"], text)
