"""What fields objects have, how lists merge, and an object's strict reading: unknown fields, wrong types, nulls.

Pure lookups over schema.json (models.py writes it at build time) plus the tables below for what the kubernetes package
does not tell: merge keys and patch strategies, quantities, int-or-string. Any thread; the tables are read once.
`kind` is always a definition's name, "Pod" or "PodSpec": nested ones are found through `fields`.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from vkcri.api import quantities, times
from vkcri.apiserver import zeros
from vkcri.errors import Invalid

_FILE: Final = Path(__file__).with_name("schema.json")
_CONTAINER_KEYS: Final = {
    "env": "name",
    "ports": "containerPort",
    "volumeDevices": "devicePath",
    "volumeMounts": "mountPath",
}
# (definition, field) -> merge key; "" is a list of plain values that a patch adds to. Lists without a row are atomic.
_MERGE_KEYS: Final[dict[tuple[str, str], str]] = {
    **{(kind, field): key for kind in ("Container", "EphemeralContainer") for field, key in _CONTAINER_KEYS.items()},
    ("NamespaceStatus", "conditions"): "type",
    ("NodeSpec", "podCIDRs"): "",
    ("NodeStatus", "addresses"): "type",
    ("NodeStatus", "conditions"): "type",
    ("ObjectMeta", "finalizers"): "",
    ("ObjectMeta", "ownerReferences"): "uid",
    ("PodSpec", "containers"): "name",
    ("PodSpec", "ephemeralContainers"): "name",
    ("PodSpec", "hostAliases"): "ip",
    ("PodSpec", "imagePullSecrets"): "name",
    ("PodSpec", "initContainers"): "name",
    ("PodSpec", "resourceClaims"): "name",
    ("PodSpec", "schedulingGates"): "name",
    ("PodSpec", "topologySpreadConstraints"): "topologyKey",
    ("PodSpec", "volumes"): "name",
    ("PodStatus", "conditions"): "type",
    ("PodStatus", "hostIPs"): "ip",
    ("PodStatus", "podIPs"): "ip",
    ("PodStatus", "resourceClaimStatuses"): "name",
    ("ServiceAccount", "secrets"): "name",
    ("ServiceSpec", "ports"): "port",
    ("ServiceStatus", "conditions"): "type",
}
_RETAIN_KEYS: Final = frozenset(
    {("PodSpec", "volumes"), ("PodSpec", "resourceClaims"), ("PodStatus", "resourceClaimStatuses")}
)
_QUANTITIES: Final = frozenset(
    {
        ("ContainerStatus", "allocatedResources"),
        ("EmptyDirVolumeSource", "sizeLimit"),
        ("NodeStatus", "allocatable"),
        ("NodeStatus", "capacity"),
        ("Overhead", "podFixed"),
        ("PodSpec", "overhead"),
        ("PodStatus", "allocatedResources"),
        ("ResourceFieldSelector", "divisor"),
        ("ResourceRequirements", "limits"),
        ("ResourceRequirements", "requests"),
        ("VolumeResourceRequirements", "limits"),
        ("VolumeResourceRequirements", "requests"),
    }
)
_INT_OR_STRING: Final = frozenset(
    {("HTTPGetAction", "port"), ("TCPSocketAction", "port"), ("ServicePort", "targetPort")}
)
_MICRO_TIMES: Final = frozenset(
    {
        ("CoreV1EventSeries", "lastObservedTime"),
        ("Event", "eventTime"),
        ("LeaseSpec", "acquireTime"),
        ("LeaseSpec", "renewTime"),
    }
)
_SIX_DIGITS: Final = re.compile(r":\d\d\.\d{6}([Zz]|[+-])")
_GO_TYPES: Final = {"string": "string", "integer": "int64", "boolean": "bool", "number": "float64", "bytes": "[]uint8"}


@dataclass(frozen=True)
class Field:
    """`type`: string, integer, number, boolean, bytes (base64), time, microtime, quantity, int-or-string, any, or a
    definition's name. `container`: "", "list", "map" or "map of list" of that type."""

    type: str
    container: str
    required: bool

    @property
    def nested(self) -> bool:
        """Whether the type is a definition with fields of its own."""
        return self.type[:1].isupper()


class TypeMismatch(Exception):
    """A value of the wrong JSON type; the message is the decoder's, for a 400."""


@cache
def _definitions() -> dict[str, dict[str, Field]]:
    raw = json.loads(_FILE.read_text(encoding="utf-8"))
    return {kind: {name: _field(kind, name, *row) for name, row in rows.items()} for kind, rows in raw.items()}


def _field(kind: str, name: str, type_: str, container: str, required: bool) -> Field:
    if (kind, name) in _QUANTITIES:
        type_ = "quantity"
    elif (kind, name) in _INT_OR_STRING:
        type_ = "int-or-string"
    elif (kind, name) in _MICRO_TIMES:
        type_ = "microtime"
    return Field(type_, container, required)


def fields(kind: str) -> Mapping[str, Field]:
    """The fields of a definition by JSON name; empty for an unknown definition."""
    return _definitions().get(kind, {})


def kinds() -> tuple[str, ...]:
    """Every definition's name, nested ones too."""
    return tuple(_definitions())


def merge_key(kind: str, field: str) -> str | None:
    """The key by which a strategic merge joins this list's items; "" for a list of plain values that is merged; None
    for an atomic list, which a patch replaces."""
    return _MERGE_KEYS.get((kind, field))


def patch_strategy(kind: str, field: str) -> frozenset[str]:
    """Any of "merge" and "retainKeys"; empty for what a strategic merge replaces (lists) or merges anyway (maps)."""
    strategy = {"merge"} if (kind, field) in _MERGE_KEYS else set()
    if (kind, field) in _RETAIN_KEYS:
        strategy.add("retainKeys")
    return frozenset(strategy)


def unknown_fields(kind: str, obj: Mapping[str, Any]) -> list[str]:
    """Paths such as `spec.containers[0].imagee` that the definition lacks, in the object's order."""
    reading = _Reading()
    reading.definition(kind, obj, "", check=False)
    return reading.unknown


def decode(kind: str, obj: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A deep copy as a typed server would have read it, and the paths of unknown fields, which it lacks.

    What is empty is left out or written as Kubernetes does (zeros); quantities and times are canonical. Raises
    TypeMismatch."""
    reading = _Reading()
    return reading.definition(kind, obj, "", check=True), reading.unknown


class _Reading:
    """One walk over one object."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def definition(self, kind: str, value: Mapping[str, Any], path: str, *, check: bool) -> dict[str, Any]:
        known = fields(kind)
        result: dict[str, Any] = {}
        for name, item in value.items():
            where = f"{path}.{name}" if path else name
            field = known.get(name)
            if field is None:
                self.unknown.append(where)
            elif item is not None:
                read = self._contained(kind, field, item, where, check)
                if not _is_empty(kind, name, field, read):
                    result[name] = read
        if check:
            for name, empty in _written(kind):
                result.setdefault(name, empty() if callable(empty) else empty)
        return result

    def _contained(self, kind: str, field: Field, value: Any, path: str, check: bool) -> Any:
        def element(item: Any, where: str) -> Any:
            return self._element(kind, field, item, where, check)

        if not field.container:
            return element(value, path)
        if field.container == "list" and isinstance(value, list):
            return [element(item, f"{path}[{index}]") for index, item in enumerate(value)]
        if field.container != "list" and isinstance(value, dict):
            return {key: self._entry(field, item, f"{path}.{key}", element) for key, item in value.items()}
        if check:
            go = "[]" if field.container == "list" else "map[string]"
            raise _mismatch(kind, value, path, go + _GO_TYPES.get(field.type, f"v1.{field.type}"))
        return value

    @staticmethod
    def _entry(field: Field, item: Any, path: str, element: Callable[[Any, str], Any]) -> Any:
        if field.container == "map of list":
            return [element(one, path) for one in item] if isinstance(item, list) else element(item, path)
        return "" if item is None and field.type in ("string", "bytes") else element(item, path)

    def _element(self, kind: str, field: Field, value: Any, path: str, check: bool) -> Any:
        if field.nested:
            if isinstance(value, dict):
                return self.definition(field.type, value, path, check=check)
            if value is None and not check:
                return value
            if value is None:
                return {}
            if check:
                raise _mismatch(kind, value, path, f"v1.{field.type}")
            return value
        return _READERS[field.type](kind, value, path) if check else value


def _is_empty(kind: str, name: str, field: Field, value: Any) -> bool:
    """Whether a value says no more than its absence."""
    if field.container:
        return value in ([], {})
    plain = not field.nested and field.type not in ("any", "int-or-string", "quantity")
    return plain and value in ("", 0) and (kind, name) not in zeros.POINTERS


@cache
def _written(kind: str) -> tuple[tuple[str, Any], ...]:
    """The fields that every answer has, each with its empty value or what makes one."""
    rows = ((name, field) for name, field in fields(kind).items())
    return tuple(
        (name, _empty(kind, name, field))
        for name, field in rows
        if zeros.is_written(kind, name, required=field.required)
    )


def _empty(kind: str, name: str, field: Field) -> Any:
    if field.container or zeros.is_null(kind, name):
        return None
    if field.nested:
        return lambda: {inner: empty() if callable(empty) else empty for inner, empty in _written(field.type)}
    return zeros.scalar(kind, name, field.type)


def _mismatch(kind: str, value: Any, path: str, go_type: str) -> TypeMismatch:
    name = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
    plain = "".join(part.partition("]")[2] if index else part for index, part in enumerate(path.split("[")))
    found = name.get(type(value), "null")
    return TypeMismatch(f"json: cannot unmarshal {found} into Go struct field {kind}.{plain} of type {go_type}")


def _typed(expected: type, go_type: str) -> Callable[[str, Any, str], Any]:
    def read(kind: str, value: Any, path: str) -> Any:
        if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
            raise _mismatch(kind, value, path, go_type)
        return value

    return read


def _number(kind: str, value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mismatch(kind, value, path, "float64")
    return value


def _int_or_string(kind: str, value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise _mismatch(kind, value, path, "intstr.IntOrString")
    return value


def _quantity(kind: str, value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _mismatch(kind, value, path, "resource.Quantity")
    try:
        return quantities.canonical(value)
    except Invalid as error:
        raise TypeMismatch(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from error


def _time(kind: str, value: Any, path: str) -> str:
    """metav1.Time: whole seconds in UTC."""
    if not isinstance(value, str):
        raise _mismatch(kind, value, path, "v1.Time")
    try:
        return times.seconds(times.parse(value))
    except Invalid as error:
        raise TypeMismatch(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}"') from error


def _micro_time(kind: str, value: Any, path: str) -> str:
    """metav1.MicroTime: six digits of a second, in UTC; a client must write all six."""
    if not isinstance(value, str):
        raise _mismatch(kind, value, path, "v1.MicroTime")
    try:
        if not _SIX_DIGITS.search(value):
            raise Invalid("not six digits")
        return times.micros(times.parse(value))
    except Invalid as error:
        wrong = value[19:] if len(value) > 19 else value
        text = f'parsing time "{value}" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "{wrong}" as ".000000"'
        raise TypeMismatch(text) from error


def _bytes(kind: str, value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _mismatch(kind, value, path, "[]uint8")
    try:
        base64.b64decode("".join(value.splitlines()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise TypeMismatch(f"illegal base64 data in {path}") from error
    return "".join(value.splitlines())


def _any(_kind: str, value: Any, _path: str) -> Any:
    return value


_READERS: Final[dict[str, Callable[[str, Any, str], Any]]] = {
    "string": _typed(str, "string"),
    "integer": _typed(int, "int64"),
    "boolean": _typed(bool, "bool"),
    "number": _number,
    "int-or-string": _int_or_string,
    "quantity": _quantity,
    "time": _time,
    "microtime": _micro_time,
    "bytes": _bytes,
    "any": _any,
}
