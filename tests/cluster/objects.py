"""The objects that a new cluster starts with: what kubeadm would have created, and CoreDNS' Service. Pure."""

from collections.abc import Iterable
from typing import Any

from tests.cluster.pki import COREDNS, KUBELET_CLIENT, NODES, TOKEN_ID
from tests.cluster.place import Place

BOOTSTRAPPERS = "system:bootstrappers"
_RBAC = "rbac.authorization.k8s.io"
_SIGNING = "system:certificates.k8s.io:certificatesigningrequests"
Object = dict[str, Any]

COLLECTIONS = {
    "Secret": "/api/v1/namespaces/{namespace}/secrets",
    "Service": "/api/v1/namespaces/{namespace}/services",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "ClusterRole": f"/apis/{_RBAC}/v1/clusterroles",
    "ClusterRoleBinding": f"/apis/{_RBAC}/v1/clusterrolebindings",
}


def collection(item: Object) -> str:
    """The path that an object is created at."""
    return COLLECTIONS[item["kind"]].format(namespace=item["metadata"].get("namespace", ""))


def first(token_secret: str) -> Iterable[Object]:
    """TLS bootstrap by a token (TOKEN_ID and this secret), renewal by the node itself, and the API server's way to the
    kubelet API."""
    yield _bootstrap_token(token_secret)
    yield _binding("vkcri:kubelet-bootstrap", "system:node-bootstrapper", "Group", BOOTSTRAPPERS)
    yield _binding("vkcri:node-autoapprove-bootstrap", f"{_SIGNING}:nodeclient", "Group", BOOTSTRAPPERS)
    yield _binding("vkcri:node-autoapprove-rotation", f"{_SIGNING}:selfnodeclient", "Group", NODES)
    yield _binding("vkcri:apiserver-kubelet-client", "system:kubelet-api-admin", "User", KUBELET_CLIENT)


def proxier(node: str) -> Object:
    """A node may not read EndpointSlices; this lets it: `kubectl create clusterrolebinding vkcri-proxy-NODE ...`."""
    return _binding(f"vkcri-proxy-{node}", "system:node-proxier", "User", f"system:node:{node}")


def coredns(place: Place) -> Iterable[Object]:
    """The Service at the tenth address, and by hand its one endpoint: CoreDNS runs on the guest, not in a pod."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    yield {**_head(f"{_RBAC}/v1", "ClusterRole", "vkcri:coredns"), "rules": rules}
    yield _binding("vkcri:coredns", "vkcri:coredns", "User", COREDNS)
    port = place.port("coredns")
    protocols = (("dns", "UDP"), ("dns-tcp", "TCP"))
    service = _head("v1", "Service", "kube-dns", "kube-system")
    service["metadata"]["labels"] = {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}
    ports = [{"name": name, "protocol": protocol, "port": 53, "targetPort": port} for name, protocol in protocols]
    yield {**service, "spec": {"clusterIP": place.dns, "ports": ports}}
    endpoints = _head("discovery.k8s.io/v1", "EndpointSlice", "kube-dns", "kube-system")
    endpoints["metadata"]["labels"] = {
        "kubernetes.io/service-name": "kube-dns",
        "endpointslice.kubernetes.io/managed-by": place.name,
    }
    yield {
        **endpoints,
        "addressType": "IPv6" if ":" in place.address else "IPv4",
        "ports": [{"name": name, "protocol": protocol, "port": port} for name, protocol in protocols],
        "endpoints": [{"addresses": [place.address], "conditions": {"ready": True}}],
    }


def _bootstrap_token(token_secret: str) -> Object:
    secret = _head("v1", "Secret", f"bootstrap-token-{TOKEN_ID}", "kube-system")
    data = {
        "token-id": TOKEN_ID,
        "token-secret": token_secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
    }
    return {**secret, "type": "bootstrap.kubernetes.io/token", "stringData": data}


def _binding(name: str, role: str, kind: str, subject: str) -> Object:
    return {
        **_head(f"{_RBAC}/v1", "ClusterRoleBinding", name),
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": kind, "name": subject}],
    }


def _head(version: str, kind: str, name: str, namespace: str = "") -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
