"""The downward API: a pod's fields and resources as text, for environment variables and downwardAPI volumes. Pure."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from bridge.spec.context import PodContext
from vkcri.api import pods, quantities
from vkcri.errors import Invalid

_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['([^']*)'\]")
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_ESCAPES |= {'"': '\\"', "\\": "\\\\"}
_RESOURCES = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)")


def env_value(pod: pods.Pod, field_path: str, ctx: PodContext) -> str:
    """fieldRef of an environment variable. Raises Invalid for a path that is not supported there."""
    simple = {
        "spec.nodeName": lambda: str(pods.spec(pod).get("nodeName") or ""),
        "spec.host": lambda: str(pods.spec(pod).get("nodeName") or ""),
        "spec.serviceAccountName": lambda: str(pods.spec(pod).get("serviceAccountName") or ""),
        "status.hostIP": lambda: ctx.all_host_ips[0] if ctx.all_host_ips else "",
        "status.hostIPs": lambda: ",".join(ctx.all_host_ips),
        "status.podIP": lambda: ctx.pod_ips[0] if ctx.pod_ips else "",
        "status.podIPs": lambda: ",".join(ctx.pod_ips),
    }.get(field_path)
    return simple() if simple else metadata_value(pod, field_path)


def metadata_value(pod: pods.Pod, field_path: str) -> str:
    """fieldRef of a downwardAPI volume: metadata's name, namespace, uid, labels and annotations, whole or one of them.
    Raises Invalid for any other path."""
    accessors = {"metadata.name": pods.name, "metadata.namespace": pods.namespace, "metadata.uid": pods.uid}
    if field_path in accessors:
        return accessors[field_path](pod)
    maps = {"metadata.labels": pods.labels, "metadata.annotations": pods.annotations}
    if field_path in maps:
        entries = maps[field_path](pod)
        return "\n".join(f"{key}={quote(str(entries[key]))}" for key in sorted(entries))
    found = _SUBSCRIPT.fullmatch(field_path)
    if not found:
        raise Invalid(f"unsupported fieldPath: {field_path}")
    return str(maps[found.group(1)](pod).get(found.group(2), ""))


def resource_value(
    pod: pods.Pod, reference: Mapping[str, Any], default_container: str, allocatable: Mapping[str, Any]
) -> str:
    """resourceFieldRef: the amount over the divisor, rounded up. A limit left out is the node's allocatable, a request
    left out is 0. Raises Invalid for an unknown container, resource or divisor."""
    name = reference.get("containerName") or default_container
    found = pods.container(pod, name)
    if found is None:
        raise Invalid(f"container {name} not found")
    wanted = _RESOURCES.fullmatch(reference.get("resource", ""))
    if not wanted:
        raise Invalid(f"unsupported container resource : {reference.get('resource')}")
    resources = found[1].get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    kind, resource = wanted.groups()
    if kind == "limits":
        amount = limits.get(resource) or _limit_default(pod, resource, allocatable)
    else:
        amount = requests.get(resource, limits.get(resource, "0"))
    return str(_divided(quantities.parse(amount), str(reference.get("divisor") or "0"), resource))


def quote(text: str) -> str:
    """Go's strconv.Quote, by which labels and annotations stand in a downwardAPI file."""
    return '"' + "".join(_quoted(character) for character in text) + '"'


def _quoted(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _limit_default(pod: pods.Pod, resource: str, allocatable: Mapping[str, Any]) -> Any:
    if resource.startswith("hugepages-"):
        return "0"
    level = (pods.spec(pod).get("resources") or {}).get("limits") or {}
    return level.get(resource) or allocatable.get(resource, "0")


def _divided(amount: Fraction, divisor: str, resource: str) -> int:
    """CPU is counted in thousandths of both before dividing, as the kubelet does; all rounding is up."""
    by = quantities.parse(divisor)
    if by == 0:
        by = Fraction(1)
    if resource == "cpu":
        return -(-_ceil(amount * 1000) // _ceil(by * 1000))
    return -(-_ceil(amount) // _ceil(by))


def _ceil(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)
