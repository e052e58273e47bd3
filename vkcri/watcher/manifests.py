"""A static pod's manifest read as the kubelet reads it: YAML or JSON in, the Pod that the node runs out. Pure.

Source: pkg/kubelet/config/common.go. The kubelet links the API server's own decoder, defaults and validation into
itself, and so does this module: the only one of api-watcher that imports the embedded API server's, and of it only
what is pure. Unknown fields are dropped, as that decoder drops them; of several documents the first one counts.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from vkcri.api import pods, standalone
from vkcri.errors import Invalid
from vkcri.watcher import podhash

MOST_BYTES = 3 << 19  # what an API server's store takes of one object; the kubelet reads up to 10 MiB, and faster
HASH_ANNOTATION = "kubernetes.io/config.hash"
SEEN_ANNOTATION = "kubernetes.io/config.seen"
CRITICAL_CLASS, CRITICAL_PRIORITY = "system-node-critical", 2_000_001_000
_TRUE = frozenset({"true", "yes", "on", "y"})
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
_TOLERATION = {"operator": "Exists", "effect": "NoExecute"}


class Manifest(NamedTuple):
    """pod: as it is run, without config.seen; warnings: what the kubelet logs of a manifest that it takes."""

    pod: dict[str, Any]
    warnings: tuple[str, ...]


def read(data: bytes, file: str, node_name: str) -> Manifest:
    """The pod of a manifest; file: its absolute path, which goes into the UID. Raises Invalid with the kubelet's
    message."""
    from vkcri.apiserver import defaults, schema, validation
    from vkcri.apiserver.resources import by_key

    found, several = _document(data, file)
    try:
        pod, _ = schema.decode("Pod", found)
    except schema.TypeMismatch as error:
        raise _unparsed(file, str(error)) from error
    defaults.pod(pod)
    if not (pod.get("metadata") or {}).get("name"):
        raise Invalid("invalid pod: name is needed for the pod")
    _settle(pod, found, file, node_name)
    errors = validation.on_create(by_key("/pods"), pod)
    if errors:
        raise Invalid(f"invalid pod: {', '.join(map(str, errors))}")
    kind = standalone.api_reference(pod)
    if kind:
        raise Invalid(f"static pods may not reference {kind}")
    said = [f"{file} has several documents: the first one counts"] if several else []
    return Manifest(pod, tuple(said + [text for text in (_priority_warning(pods.spec(pod)),) if text]))


def _document(data: bytes, file: str) -> tuple[dict[str, Any], bool]:
    """The first document, and whether more follow. Raises Invalid."""
    import yaml

    try:
        documents = yaml.load_all(data, Loader=_loader())
        found = next(documents, None)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _unparsed(file, " ".join(str(error).split())) from error
    try:
        several = next(documents, None) is not None
    except (yaml.YAMLError, ValueError, RecursionError):
        several = True
    if not isinstance(found, dict):
        raise _unparsed(file, "Object 'Kind' is missing")
    kind, version = found.get("kind"), found.get("apiVersion")
    for field, value in (("Kind", kind), ("apiVersion", version)):
        if not value:
            raise _unparsed(file, f"Object '{field}' is missing in '{json.dumps(found, default=repr)[:200]}'")
    if (kind, version) != ("Pod", "v1"):
        raise _unparsed(file, f'a static pod is of kind "Pod", version "v1", not "{kind}" of "{version}"')
    return found, several


def _loader() -> Any:
    """YAML to what JSON can say, as sigs.k8s.io/yaml does it: no dates, every key a string, no numbers of base 60; 1e3
    is a number, and y and n are booleans."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Its resolvers are a copy: SafeLoader itself stays as it is."""

    def mapping(loader: Any, node: Any) -> dict[str, Any]:
        loader.flatten_mapping(node)
        pairs = [(loader.construct_object(key, deep=True), value) for key, value in node.value]
        return {_key(key): loader.construct_object(value, deep=True) for key, value in pairs}

    tags = {f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", "int", "float")}
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rows if tag not in tags]
        for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))
    Loader.add_constructor("tag:yaml.org,2002:bool", lambda _loader, node: node.value.lower() in _TRUE)
    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    return Loader


def _key(key: object) -> str:
    """A mapping's key as JSON has it."""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str | int | float):
        return str(key)
    raise ValueError(f"a mapping's key is a {type(key).__name__}")


def _unparsed(file: str, why: str) -> Invalid:
    return Invalid(f"{file}: couldn't parse as pod({why}), please check config file")


def _settle(pod: dict[str, Any], written: dict[str, Any], file: str, node_name: str) -> None:
    """What the kubelet fills in, in its order: the UID is of the manifest as it was, defaults included."""
    metadata, spec = pod["metadata"], pod["spec"]
    pod.pop("status", None)
    metadata["uid"] = metadata.get("uid") or podhash.uid(pod, written, node_name, file)
    metadata["name"] = f"{metadata['name']}-{node_name.lower()}"
    metadata["namespace"] = metadata.get("namespace") or "default"
    spec["nodeName"] = node_name
    own = {HASH_ANNOTATION: metadata["uid"], pods.SOURCE_ANNOTATION: "file"}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **own}
    metadata["annotations"].pop(pods.MIRROR_ANNOTATION, None)
    tolerations = [dict(_TOLERATION) if _is_own(item) else item for item in spec.get("tolerations") or []]
    spec["tolerations"] = tolerations if _TOLERATION in tolerations else [*tolerations, dict(_TOLERATION)]
    pod.update(kind="Pod", apiVersion="v1", status={"phase": "Pending"})


def _is_own(item: Mapping[str, Any]) -> bool:
    """Whether the toleration that every static pod gets takes this one's place (Toleration.MatchToleration)."""
    own = {"key": "", "value": "", **_TOLERATION}
    return all((item.get(field) or "") == value for field, value in own.items())


def _priority_warning(spec: Mapping[str, Any]) -> str:
    priority, name = spec.get("priority"), spec.get("priorityClassName")
    if priority is None and name:
        return (
            "Static pod has priorityClassName and nil priority. Kubelet will not use priorityClassName, and mirror pod "
            "creation may fail."
        )
    if priority is not None and not name:
        return (
            "Static pod has priority without priorityClassName. Mirror pod creation may fail if the default priority "
            "class doesn't match the given priority."
        )
    if priority is not None and (priority, name) != (CRITICAL_PRIORITY, CRITICAL_CLASS):
        return (
            f"Static pod has a priority other than {CRITICAL_PRIORITY} or a priorityClassName other than "
            f"{CRITICAL_CLASS}. Mirror pod may be attempted to be evicted from the node ineffectively."
        )
    return ""
