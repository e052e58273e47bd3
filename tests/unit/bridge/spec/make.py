"""Pods and contexts for the tests of bridge.spec."""

import base64
import dataclasses
import json
from typing import Any

from bridge.spec import ImageRef, PodContext
from vkcri.instance import Instance

INSTANCE = Instance("spec-50")


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "uid": "u-1"}
    return {"metadata": metadata, "spec": {"containers": list(containers) or [container()], **spec}}


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "app", "image": "busybox", **fields}


def config_map(**data: str) -> bytes:
    return json.dumps({"metadata": {"name": "x"}, "data": data}).encode()


def secret(**data: bytes) -> bytes:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    return json.dumps({"metadata": {"name": "x"}, "data": encoded}).encode()


def service(
    service_name: str, namespace: str = "shop", address: str | None = "10.0.0.1", **port: Any
) -> dict[str, Any]:
    ports = [{"port": 80, **port}]
    return {"metadata": {"name": service_name, "namespace": namespace}, "spec": {"clusterIP": address, "ports": ports}}


def context(objects: dict[str, bytes] | None = None, **fields: Any) -> PodContext:
    """A context whose node has 8 GiB and 4 CPUs; objects not named are absent."""
    known = objects or {}
    node = {
        "metadata": {"name": "node-1"},
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi"},
            "allocatable": {"cpu": "3500m", "memory": "6Gi", "ephemeral-storage": "10Gi"},
        },
    }
    base = PodContext(
        instance=INSTANCE,
        node=node,
        host_ip="192.168.0.5",
        objects=lambda key: known.get(key, b"absent"),
        pod_ips=("10.244.0.7",),
        image=ImageRef("busybox", "sha256:abc"),
    )
    return dataclasses.replace(base, **fields)
