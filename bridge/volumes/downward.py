"""downwardAPI volumes and projections: the pod's own fields and resources as files, in memory as the kubelet has
them."""

from collections.abc import Mapping
from typing import Any

from bridge.spec import fields
from bridge.volumes.atomic import File
from bridge.volumes.source import Surroundings
from vkcri.errors import Invalid

PLUGIN = "kubernetes.io/downward-api"
IN_MEMORY = True


def payload(source: Mapping[str, Any], around: Surroundings, mode: int) -> dict[str, File]:
    """source is the volume's downwardAPI (or a projection's). Raises Invalid for a field that is not offered."""
    files = {}
    for item in source.get("items") or []:
        if item.get("fieldRef"):
            text = fields.metadata_value(around.pod, str(item["fieldRef"].get("fieldPath", "")))
        elif item.get("resourceFieldRef"):
            text = fields.resource_value(around.pod, item["resourceFieldRef"], "", around.allocatable)
        else:
            raise Invalid(f"downwardAPI item {item.get('path')!r} has neither fieldRef nor resourceFieldRef")
        data = text.encode("utf-8", "surrogatepass")
        files[str(item.get("path") or "")] = File(data, mode if item.get("mode") is None else item["mode"])
    return files
