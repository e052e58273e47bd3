"""NodeRestriction: what a node writes is about itself and its own pods.

Reads the store for the pod behind an eviction only; authz has let the request in by verb and kind, this looks at the
object. Source: plugin/pkg/admission/noderestriction.
"""

from collections.abc import Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError

_OWN_LABELS: Final = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)
_OWN_PREFIXES: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
_RESTRICTED: Final = "node-restriction.kubernetes.io"


def admit_write(
    resource: Resource,
    obj: dict[str, Any],
    old: Mapping[str, Any] | None,
    ctx: RequestContext,
    subresource: str | None = None,
) -> None:
    """A node's create (old None) or update. Raises StatusError 403."""
    node = ctx.node
    if node is None:
        return
    if resource.key == "/pods":
        if old is None:
            _create_pod(obj, node)
        else:
            _update_pod(obj, old, node, subresource)
    elif resource.key == "/nodes":
        _write_node(obj, old, node)
    elif resource.key == "coordination.k8s.io/leases":
        _write_lease(obj, node)


def admit_delete(resource: Resource, obj: Mapping[str, Any], ctx: RequestContext) -> None:
    """A node's deletion of a pod: only one of its own. Raises StatusError 403."""
    if ctx.node is not None and resource.key == "/pods":
        check_own_pod(obj, ctx.node, "delete pods")


def check_own_pod(pod: Mapping[str, Any], node: str, what: str) -> None:
    """Raise 403 unless the pod is bound to the node; `what` completes "can only"."""
    if pods.spec(pod).get("nodeName") != node:
        text = f'node "{node}" can only {what} with spec.nodeName set to itself'
        raise StatusError.forbidden("pods", pods.name(pod), text)


def _create_pod(pod: dict[str, Any], node: str) -> None:
    name = str(pod["metadata"].get("name") or "")
    if not pods.is_mirror(pod):
        text = f'pod does not have "{pods.MIRROR_ANNOTATION}" annotation, node "{node}" can only create mirror pods'
        raise StatusError.forbidden("pods", name, text)
    check_own_pod(pod, node, "create pods")
    for owner in pod["metadata"].get("ownerReferences") or []:
        if owner.get("kind") != "Node" or owner.get("name") != node:
            text = f'node "{node}" can only create pods with an owner reference set to itself'
            raise StatusError.forbidden("pods", name, text)
    if pods.spec(pod).get("serviceAccountName"):
        text = f'node "{node}" can not create pods that reference a service account'
        raise StatusError.forbidden("pods", name, text)
    kinds = sorted({reference.partition("/")[0] for reference in pods.references(pod)})
    if kinds:
        raise StatusError.forbidden("pods", name, f'node "{node}" can not create pods that reference {kinds[0]}')


def _update_pod(pod: dict[str, Any], old: Mapping[str, Any], node: str, subresource: str | None) -> None:
    if subresource != "status":
        raise StatusError.forbidden("pods", pods.name(pod), f'node "{node}" can only update pod status')
    check_own_pod(old, node, "update pod status for pods")
    if dict(pods.labels(pod)) != dict(pods.labels(old)):
        text = f'node "{node}" cannot update labels through pod status'
        raise StatusError.forbidden("pods", pods.name(pod), text)


def _write_node(obj: dict[str, Any], old: Mapping[str, Any] | None, node: str) -> None:
    name = str(obj["metadata"].get("name") or "")
    if name != node:
        raise StatusError.forbidden("nodes", name, f'node "{node}" is not allowed to modify node "{name}"')
    before: Mapping[str, Any] = (old or {}).get("metadata") or {}
    if old is not None and _taints(obj) != _taints(old):
        raise StatusError.forbidden("nodes", name, f'node "{node}" is not allowed to modify taints')
    if (obj["metadata"].get("ownerReferences") or []) != (before.get("ownerReferences") or []):
        raise StatusError.forbidden("nodes", name, f'node "{node}" is not allowed to modify ownerReferences')
    labels, old_labels = obj["metadata"].get("labels") or {}, before.get("labels") or {}
    changed = {key for key in labels.keys() | old_labels.keys() if labels.get(key) != old_labels.get(key)}
    refused = sorted(key for key in changed if _label_refused(key))
    if refused:
        verb = "modify" if old is not None else "set"
        text = f"is not allowed to {verb} the following labels: {', '.join(refused)}"
        raise StatusError.forbidden("nodes", name, f'node "{node}" {text}')


def _taints(node: Mapping[str, Any]) -> Any:
    return (node.get("spec") or {}).get("taints") or []


def _label_refused(key: str) -> bool:
    """Labels by which workloads are kept away from nodes are not the node's to write."""
    prefix = key.partition("/")[0] if "/" in key else ""
    if prefix == _RESTRICTED or prefix.endswith("." + _RESTRICTED):
        return True
    if prefix not in ("kubernetes.io", "k8s.io") and not prefix.endswith((".kubernetes.io", ".k8s.io")):
        return False
    own = any(prefix == allowed or prefix.endswith("." + allowed) for allowed in _OWN_PREFIXES)
    return not own and key not in _OWN_LABELS


def _write_lease(lease: dict[str, Any], node: str) -> None:
    metadata = lease["metadata"]
    if metadata.get("namespace") != "kube-node-lease":
        text = 'can only access leases in the "kube-node-lease" system namespace'
        raise StatusError.forbidden("leases.coordination.k8s.io", str(metadata.get("name") or ""), text)
    if metadata.get("name") != node:
        text = "can only access node lease with the same name as the requesting node"
        raise StatusError.forbidden("leases.coordination.k8s.io", str(metadata.get("name") or ""), text)
