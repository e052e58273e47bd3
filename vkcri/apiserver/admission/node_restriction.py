"""NodeRestriction: what a node writes is about itself and its own pods.

authz has let the request in by verb and kind; this looks at the object. It reads the store for the Node behind a mirror
pod and the pod behind a token. Source: plugin/pkg/admission/noderestriction of Kubernetes 1.37.
"""

from collections.abc import Mapping
from typing import Any, Final

from vkcri.api import pods, standalone
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError
from vkcri.errors import Invalid

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
            _create_pod(obj, node, ctx)
        else:
            _update_pod(obj, old, node, subresource)
    elif resource.key == "/nodes":
        _write_node(obj, old, node)
    elif resource.key == "coordination.k8s.io/leases":
        _write_lease(obj, node)


def admit_delete(resource: Resource, obj: Mapping[str, Any], ctx: RequestContext) -> None:
    """A node's deletion of a pod: only one of its own. Raises StatusError 403."""
    if ctx.node is not None and resource.key == "/pods":
        check_own_pod(obj, f'node "{ctx.node}" can only delete pods with spec.nodeName set to itself', ctx.node)


def admit_eviction(pod: Mapping[str, Any], ctx: RequestContext) -> None:
    """A node's eviction of a pod: only one of its own. Raises StatusError 403."""
    if ctx.node is not None:
        check_own_pod(pod, f"node {ctx.node} can only evict pods with spec.nodeName set to itself", ctx.node)


def check_own_pod(pod: Mapping[str, Any], text: str, node: str) -> None:
    """Raise 403 with that text unless the pod is bound to the node."""
    if pods.spec(pod).get("nodeName") != node:
        raise _forbidden(pod, text)


def admit_token(account: str, namespace: str, spec: Mapping[str, Any], ctx: RequestContext) -> None:
    """A node's TokenRequest, before defaults: for a pod of its own, by UID, and for an audience that one of the pod's
    projected volumes names. Raises StatusError 403, and 404 where the pod is gone."""
    node = ctx.node
    if node is None:
        return
    reference = spec.get("boundObjectRef") or {}
    if (reference.get("apiVersion"), reference.get("kind")) != ("v1", "Pod") or not reference.get("name"):
        raise _no_token(account, "node requested token not bound to a pod")
    if not reference.get("uid"):
        raise _no_token(account, "node requested token with a pod binding without a uid")
    pod = ctx.store.get("/pods", namespace, reference["name"])
    if pod is None:
        raise StatusError.not_found("pods", reference["name"])
    if pods.uid(pod) != reference["uid"]:
        text = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
        raise _no_token(account, f"{text}The object might have been deleted and then recreated")
    if pods.spec(pod).get("nodeName") != node:
        raise _no_token(account, "node requested token bound to a pod scheduled on a different node")
    _check_audience(account, spec.get("audiences") or [], pod, node)


def _check_audience(account: str, audiences: list[str], pod: Mapping[str, Any], node: str) -> None:
    if len(audiences) > 1:
        raise _no_token(account, "node may only request 0 or 1 audiences")
    wanted = audiences[0] if audiences else ""
    for volume in pods.spec(pod).get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            token = source.get("serviceAccountToken")
            if token is not None and (token.get("audience") or "") == wanted:
                return
    raise _no_token(account, f'system:node:{node} is not authorized to request tokens for audience "{wanted}"')


def _no_token(account: str, text: str) -> StatusError:
    return StatusError.forbidden("serviceaccounts", account, text)


def _create_pod(pod: dict[str, Any], node: str, ctx: RequestContext) -> None:
    if not pods.is_mirror(pod):
        text = f'pod does not have "{pods.MIRROR_ANNOTATION}" annotation, node "{node}" can only create mirror pods'
        raise _forbidden(pod, text)
    check_own_pod(pod, f'node "{node}" can only create pods with spec.nodeName set to itself', node)
    _check_owner(pod, node, ctx)
    try:
        referred = standalone.api_reference(pod)
    except Invalid as error:
        raise _forbidden(pod, str(error)) from error
    if referred:
        raise _forbidden(pod, f'node "{node}" can not create pods that reference {referred}')


def _check_owner(pod: dict[str, Any], node: str, ctx: RequestContext) -> None:
    """A mirror pod's one owner is the Node, its controller, by UID."""
    owners = pod["metadata"].get("ownerReferences") or []
    if len(owners) > 1:
        raise _forbidden(pod, f'node "{node}" can only create pods with a single owner reference set to itself')
    owner: Mapping[str, Any] = owners[0] if owners else {}
    if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
        raise _forbidden(pod, f'node "{node}" can only create pods with an owner reference set to itself')
    if not owner.get("controller"):
        raise _forbidden(pod, f'node "{node}" can only create pods with a controller owner reference set to itself')
    if owner.get("blockOwnerDeletion"):
        raise _forbidden(pod, f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    found = ctx.store.get("/nodes", "", node)
    if found is None:
        raise StatusError.not_found("nodes", node)
    if owner.get("uid") != found["metadata"]["uid"]:
        text = f"node {node} UID mismatch: expected {owner.get('uid')} got {found['metadata']['uid']}"
        raise _forbidden(pod, text)


def _update_pod(pod: dict[str, Any], old: Mapping[str, Any], node: str, subresource: str | None) -> None:
    if subresource != "status":
        text = f'unexpected operation "UPDATE", node "{node}" can only create and delete mirror pods'
        raise _forbidden(pod, text)
    check_own_pod(old, f'node "{node}" can only update pod status for pods with spec.nodeName set to itself', node)
    if dict(pods.labels(pod)) != dict(pods.labels(old)):
        raise _forbidden(pod, f'node "{node}" cannot update labels through pod status')
    for field, words in _CLAIM_STATUSES.items():
        if ((pod.get("status") or {}).get(field) or None) != ((old.get("status") or {}).get(field) or None):
            raise _forbidden(pod, f'node "{node}" cannot update {words}')


_CLAIM_STATUSES: Final = {
    "resourceClaimStatuses": "resource claim statues",  # as Kubernetes has it
    "extendedResourceClaimStatus": "extended resource claim status",
    "nodeAllocatableResourceClaimStatuses": "node allocatable resource claim statuses",
}


def _forbidden(pod: Mapping[str, Any], text: str) -> StatusError:
    return StatusError.forbidden("pods", str(pod["metadata"].get("name") or ""), text)


def _write_node(obj: dict[str, Any], old: Mapping[str, Any] | None, node: str) -> None:
    name = str(obj["metadata"].get("name") or "")
    if name != node:
        raise StatusError.forbidden("nodes", name, f'node "{node}" is not allowed to modify node "{name}"')
    source, old_source = _spec(obj, "configSource"), _spec(old or {}, "configSource")
    if source is not None and source != old_source:
        deed = "create pods with a non-nil" if old is None else "update configSource to a new non-nil"
        raise StatusError.forbidden("nodes", name, f'node "{node}" is not allowed to {deed} configSource')
    before: Mapping[str, Any] = (old or {}).get("metadata") or {}
    if old is not None and (_spec(obj, "taints") or []) != (_spec(old, "taints") or []):
        raise StatusError.forbidden("nodes", name, f'node "{node}" is not allowed to modify taints')
    if old is not None and (obj["metadata"].get("ownerReferences") or []) != (before.get("ownerReferences") or []):
        raise StatusError.forbidden("nodes", name, f'node "{node}" is not allowed to modify ownerReferences')
    labels, old_labels = obj["metadata"].get("labels") or {}, before.get("labels") or {}
    changed = {key for key in labels.keys() | old_labels.keys() if labels.get(key) != old_labels.get(key)}
    refused = ", ".join(sorted(key for key in changed if _label_refused(key)))
    if refused:
        text = f"is not allowed to modify labels: {refused}"
        if old is None:
            text = f'node "{node}" is not allowed to set the following labels: {refused}'
        raise StatusError.forbidden("nodes", name, text)


def _spec(node: Mapping[str, Any], field: str) -> Any:
    return (node.get("spec") or {}).get(field)


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
