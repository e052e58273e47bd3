"""Services and EndpointSlices as the API server sends them."""

from typing import Any

Object = dict[str, Any]


def service(name: str = "web", ip: str = "10.120.0.5", *, ports: list[Object] | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "ns", "name": name, "uid": f"uid-{name}"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ports": ports or [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            **spec,
        },
    }


def endpoint(address: str, node: str = "n1", **conditions: bool) -> Object:
    return {"addresses": [address], "nodeName": node, "conditions": conditions or {"ready": True}}


def endpoint_slice(
    *endpoints: Object,
    owner: str = "web",
    name: str = "web-1",
    ports: list[Object] | None = None,
    family: str = "IPv4",
) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": owner}},
        "addressType": family,
        "ports": ports if ports is not None else [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": list(endpoints),
    }
