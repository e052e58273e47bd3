"""What a node may do: the Node authorizer and, bound to the node, the role system:node-proxier. Nothing more.

Runs in each request's thread; holds nothing but the store, whose pods are the authorizer's graph. What a node may write
into an object is admission's (node_restriction). Sources, of Kubernetes 1.37 with its default feature gates:
plugin/pkg/auth/authorizer/node, NodeRules and system:node-proxier of plugin/pkg/auth/authorizer/rbac/bootstrappolicy.
Kinds that this server does not serve have their rules too, for access reviews; dynamic resource allocation and pod
certificates have none.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver.attributes import Attributes
from vkcri.apiserver.storage import Store

_READ: Final = frozenset({"get", "list", "watch"})
_WATCH: Final = frozenset({"list", "watch"})
_CREATE: Final = frozenset({"create"})
_OWN: Final = frozenset({"get", "create", "update", "patch", "delete"})
_LEASE_NAMESPACE: Final = "kube-node-lease"
_STORAGE: Final = "storage.k8s.io"
_EVENTS: Final = frozenset({"create", "update", "patch"})
_Rules = Mapping[tuple[str, str], frozenset[str]]  # (group, resource or resource/subresource) -> verbs

_NODE: Final[_Rules] = {
    ("authentication.k8s.io", "tokenreviews"): _CREATE,
    ("authorization.k8s.io", "subjectaccessreviews"): _CREATE,
    ("authorization.k8s.io", "localsubjectaccessreviews"): _CREATE,
    ("", "services"): _READ,
    ("", "endpoints"): frozenset({"get"}),
    ("", "events"): _EVENTS,
    ("events.k8s.io", "events"): _EVENTS,
    ("certificates.k8s.io", "certificatesigningrequests"): _READ | _CREATE,
    ("certificates.k8s.io", "clustertrustbundles"): _READ,
    (_STORAGE, "csidrivers"): _READ,
    ("node.k8s.io", "runtimeclasses"): _READ,
}
_PROXIER: Final[_Rules] = {
    ("", "services"): _WATCH,
    ("", "endpoints"): _WATCH,
    ("", "nodes"): _READ,
    ("", "events"): _EVENTS,
    ("events.k8s.io", "events"): _EVENTS,
    ("networking.k8s.io", "servicecidrs"): _WATCH,
    ("discovery.k8s.io", "endpointslices"): _WATCH,
}


class _No(Exception):
    """Not allowed; its text is the reason, "" where the authorizer gives none."""


class NodeRules:
    """Decides from the node's name and the pods bound to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._divided: dict[tuple[str, str], Callable[[str, Attributes], None]] = {
            ("", "configmaps"): self._object_of_a_pod,
            ("", "secrets"): self._object_of_a_pod,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): _unrelated,
            (_STORAGE, "volumeattachments"): _unrelated,
            ("", "serviceaccounts"): self._account,
            ("coordination.k8s.io", "leases"): _lease,
            (_STORAGE, "csinodes"): _csinode,
            ("", "nodes"): _node,
            ("", "pods"): self._pod,
        }

    def decide(self, node: str, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, the Node authorizer's reason why not)."""
        divided = self._divided.get((attributes.group, attributes.resource))
        reason = ""
        try:
            if divided is not None:
                divided(node, attributes)
                return True, ""
        except _No as no:
            reason = str(no)
        allowed = _granted(_PROXIER, attributes) or (divided is None and _granted(_NODE, attributes))
        return allowed, "" if allowed else reason

    def _pods_of(self, node: str, namespace: str) -> Iterable[dict[str, Any]]:
        """A mirror pod is the node's own and relates it to nothing."""
        found = self._store.list("/pods", namespace, predicate=lambda pod: _node_of(pod) == node)[0]
        return (pod for pod in found if not pods.is_mirror(pod))

    def _object_of_a_pod(self, node: str, attributes: Attributes) -> None:
        """ConfigMaps and Secrets: read only, one named object at a time, and only if a pod of the node refers to it."""
        _readable(attributes)
        wanted = f"{attributes.resource}/{attributes.namespace}/{attributes.name}"
        _related(node, attributes, (wanted in pods.references(pod) for pod in self._of(node, attributes)))

    def _claim(self, node: str, attributes: Attributes) -> None:
        if attributes.subresource == "status":
            if attributes.verb not in ("update", "patch"):
                raise _No("can only get/update/patch this type")
        else:
            _only_get(attributes)
        _related(node, attributes, (attributes.name in _claims(pod) for pod in self._of(node, attributes)))

    def _account(self, node: str, attributes: Attributes) -> None:
        """Tokens for the accounts of its pods, and reading those accounts one by one."""
        if attributes.verb == "get" and not attributes.subresource:
            _readable(attributes)
        else:
            if attributes.verb != "create" or not attributes.name:
                raise _No("can only create tokens for individual service accounts")
            if attributes.subresource != "token":
                raise _No("can only create token subresource of serviceaccount")
        _related(node, attributes, (pods.service_account(pod) == attributes.name for pod in self._of(node, attributes)))

    def _pod(self, node: str, attributes: Attributes) -> None:
        """Its own pods to read; whose pods it writes to or deletes is looked at by admission."""
        verb, sub = attributes.verb, attributes.subresource
        if (sub, verb) in _POD_WRITES:
            return
        if sub or verb not in _READ:
            raise _No("")
        if verb != "get":
            if attributes.field_selector.get("spec.nodeName") == node:
                return
            if not attributes.name:
                raise _No("can only list/watch pods with spec.nodeName field selector")
        found = self._store.get("/pods", attributes.namespace, attributes.name) if attributes.name else None
        _related(node, attributes, [found is not None and _node_of(found) == node])

    def _of(self, node: str, attributes: Attributes) -> Iterable[dict[str, Any]]:
        return self._pods_of(node, attributes.namespace) if attributes.name else ()


_POD_WRITES: Final = {
    ("", "create"),
    ("", "delete"),
    ("status", "update"),
    ("status", "patch"),
    ("eviction", "create"),
}


def _granted(rules: _Rules, attributes: Attributes) -> bool:
    """Whether a role's rules have the verb; a rule for a resource is none for its subresources."""
    resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
    return attributes.verb in rules.get((attributes.group, resource), ())


def _related(node: str, attributes: Attributes, relations: Iterable[bool]) -> None:
    if not attributes.name:
        raise _No("No Object name found")
    if not any(relations):
        raise _No(f"no relationship found between node '{node}' and this object")


def _readable(attributes: Attributes) -> None:
    if attributes.verb not in _READ:
        raise _No("can only read resources of this type")
    if attributes.subresource:
        raise _No("cannot read subresource")
    if not attributes.namespace:
        raise _No("can only read namespaced object of this type")


def _only_get(attributes: Attributes) -> None:
    if attributes.verb != "get":
        raise _No("can only get individual resources of this type")
    if attributes.subresource:
        raise _No("cannot get subresource")


def _unrelated(node: str, attributes: Attributes) -> None:
    """Volumes and their attachments: of those that this server has, none, none is a node's."""
    _only_get(attributes)
    _related(node, attributes, ())


def _node(node: str, attributes: Attributes) -> None:
    """Which Node it writes is looked at by admission."""
    verb, sub = attributes.verb, attributes.subresource
    if (not sub and verb in ("create", "update", "patch")) or (sub == "status" and verb in ("update", "patch")):
        return
    if sub or verb not in _READ:
        raise _No("")
    if not attributes.name:
        raise _No(f"node '{node}' cannot read all nodes, only its own Node object")
    if attributes.name != node:
        raise _No(f"node '{node}' cannot read '{attributes.name}', only its own Node object")


def _lease(node: str, attributes: Attributes) -> None:
    if attributes.verb not in _OWN:
        raise _No("can only get, create, update, patch, or delete a node lease")
    if attributes.namespace != _LEASE_NAMESPACE:
        raise _No(f'can only access leases in the "{_LEASE_NAMESPACE}" system namespace')
    if attributes.verb != "create" and attributes.name != node:
        raise _No("can only access node lease with the same name as the requesting node")


def _csinode(node: str, attributes: Attributes) -> None:
    if attributes.subresource == "status":
        raise _No("CSINode status access requires CSIVolumeHealth feature")
    if attributes.subresource:
        raise _No("cannot authorize CSINode subresources")
    if attributes.verb not in _OWN:
        raise _No("can only get, create, update, patch, or delete a CSINode")
    if attributes.verb != "create" and attributes.name != node:
        raise _No("can only access CSINode with the same name as the requesting node")


def _node_of(pod: Mapping[str, Any]) -> str:
    return str(pods.spec(pod).get("nodeName") or "")


def _claims(pod: Mapping[str, Any]) -> set[str]:
    """The names of the claims that a pod's volumes use, made for it or not."""
    found = set()
    for volume in pods.spec(pod).get("volumes") or []:
        if volume.get("persistentVolumeClaim") is not None:
            found.add(str(volume["persistentVolumeClaim"].get("claimName") or ""))
        elif volume.get("ephemeral") is not None:
            found.add(f"{pods.name(pod)}-{volume.get('name')}")
    return found
