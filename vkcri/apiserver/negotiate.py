"""What a client sends and what it wants back: media types, the `as=` forms, bodies to dicts and dicts to bytes.

Pure, any thread. JSON is this server's own tongue: YAML is for people, protobuf (protobuf.py) is read because kubectl's
typed commands send it, and written only for a client that accepts nothing else. Must not know verbs or kinds.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import yaml

from vkcri.apiserver import protobuf
from vkcri.apiserver.status import StatusError

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
LARGEST_BODY = 3 << 20  # bytes, as kube-apiserver's limit
_META = "meta.k8s.io"
_DISCOVERY = "apidiscovery.k8s.io"
_TRANSFORMS = frozenset(
    {
        ("Table", _META, "v1"),
        ("Table", _META, "v1beta1"),
        ("PartialObjectMetadata", _META, "v1"),
        ("PartialObjectMetadataList", _META, "v1"),
        ("APIGroupDiscoveryList", _DISCOVERY, "v2"),
    }
)


@dataclass(frozen=True)
class Form:
    """How an answer is to look: its media type, and what it is transformed into (`transform` "": the object itself)."""

    media: str = JSON
    transform: str = ""
    group: str = ""
    version: str = ""

    @property
    def content_type(self) -> str:
        """The Content-Type header; aggregated discovery is recognised by its parameters."""
        if self.transform == "APIGroupDiscoveryList":
            return f"{self.media};g={self.group};v={self.version};as={self.transform}"
        return self.media


def choose(accept: str, *, transforms: frozenset[str] = frozenset()) -> Form:
    """The best form that the Accept header allows, with only the named transforms on offer. Raises StatusError 406."""
    ranges = _ranges(accept or "*/*")
    for protobuf_too in (False, True):
        for media, parameters in ranges:
            form = _form(media, parameters, transforms)
            if form is not None and (protobuf_too or form.media != PROTOBUF):
                return form
    raise StatusError.not_acceptable(
        f"only the following media types are accepted: {', '.join((JSON, YAML, PROTOBUF))}"
    )


def encode(form: Form, obj: dict[str, Any], *, pretty: bool = False) -> bytes:
    """The answer's body. Raises StatusError 406 where protobuf is wanted of a kind that has no definition here."""
    if form.media == YAML:
        return yaml.safe_dump(obj, sort_keys=True, allow_unicode=True).encode()
    if form.media == PROTOBUF:
        return protobuf.encode(obj)
    separators = None if pretty else (",", ":")
    text = json.dumps(obj, ensure_ascii=False, separators=separators, indent=2 if pretty else None)
    return text.encode() + b"\n"


def decode(content_type: str, data: bytes) -> tuple[dict[str, Any], list[str]]:
    """A request's body as an object, and the names of fields that it gives twice. Raises StatusError 400, 413, 415."""
    if len(data) > LARGEST_BODY:
        raise StatusError.too_large(f"the request's body has more than {LARGEST_BODY} bytes")
    media = content_type.partition(";")[0].strip().lower() or JSON
    if media == PROTOBUF:
        return protobuf.decode(data), []
    if media == JSON or media.endswith("+json"):
        return _from_json(data)
    if media in (YAML, "application/x-yaml", "text/yaml") or media.endswith("+yaml"):
        return _from_yaml(data)
    raise StatusError.unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: "
        f"{', '.join((JSON, YAML, PROTOBUF))}"
    )


def parse_json(data: bytes) -> tuple[Any, list[str]]:
    """Any JSON value, and the fields given twice. Raises StatusError 400."""
    duplicates: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) != len(items):
            seen: set[str] = set()
            duplicates.extend(name for name, _ in items if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        return found

    try:
        value = json.loads(data, object_pairs_hook=pairs, parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in data:
            value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
        return value, duplicates
    except (ValueError, RecursionError) as error:
        raise StatusError.bad_request(f"the request's body is not valid JSON: {error}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _from_json(data: bytes) -> tuple[dict[str, Any], list[str]]:
    value, duplicates = parse_json(data)
    return _object(value), duplicates


def _from_yaml(data: bytes) -> tuple[dict[str, Any], list[str]]:
    try:
        value = yaml.load(data, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise StatusError.bad_request(f"the request's body is not valid YAML: {error}") from error
    return _object(value), []


class _Loader(yaml.SafeLoader):
    """YAML with JSON's types alone: timestamps stay text, keys are text, and what could not be JSON (a key given twice)
    or could grow beyond all bounds (an alias) is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base class declares it so
        first: [(tag, pattern) for tag, pattern in rows if tag != "tag:yaml.org,2002:timestamp"]
        for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            raise yaml.YAMLError(f"a key is given twice in {node.start_mark}")
        found = super().construct_mapping(node, deep)
        return {key if isinstance(key, str) else json.dumps(key): value for key, value in found.items()}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken here: write the value out")
        return super().compose_node(parent, index)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StatusError.bad_request(f"the request's body is not an object but {type(value).__name__}")
    return value


def _ranges(accept: str) -> list[tuple[str, dict[str, str]]]:
    """The header's media ranges with their parameters, best first."""
    found: list[tuple[float, str, dict[str, str]]] = []
    for part in accept.split(","):
        media, *rest = (piece.strip() for piece in part.split(";"))
        parameters = {name.strip().lower(): value.strip() for name, _, value in (item.partition("=") for item in rest)}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            found.append((-quality, media.lower(), parameters))
    return [(media, parameters) for _, media, parameters in sorted(found, key=lambda item: item[0])]


def _form(media: str, parameters: dict[str, str], transforms: frozenset[str]) -> Form | None:
    """The form of one media range, or None where it cannot be served."""
    media = {"*/*": JSON, "application/*": JSON, "application/x-yaml": YAML}.get(media, media)
    if media not in (JSON, YAML, PROTOBUF):
        return None
    wanted = (parameters.get("as", ""), parameters.get("g", ""), parameters.get("v", ""))
    if not wanted[0]:
        return Form(media)
    if wanted not in _TRANSFORMS or wanted[0] not in transforms or media == PROTOBUF:
        return None
    return Form(media, *wanted)
