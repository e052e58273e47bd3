"""Who may do what: masters everything, a node what the Node authorizer and NodeRestriction leave it, service accounts
discovery, anonymous callers health and version. Runs in each request's thread; holds nothing but the store.

Sources: Kubernetes' plugin/pkg/auth/authorizer/node, the bootstrap roles system:node, system:node-proxier,
system:discovery, system:basic-user, system:public-info-viewer. There is no RBAC: a role that nobody can write would
be pretended.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver.authn import AUTHENTICATED, User
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store

_PUBLIC_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY_PATHS: Final = ("/api", "/apis", "/openapi")
_SELF_REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})
_READ: Final = frozenset({"get", "list", "watch"})
_LEASES: Final = "coordination.k8s.io"
_LEASE_NAMESPACE: Final = "kube-node-lease"


@dataclass(frozen=True)
class Attributes:
    """What is asked: a resource (`resource` set) or a plain path. `field_selector`: required values by field, as
    fields.Requirements with "="; a list or watch of one named object carries {"metadata.name": NAME}."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    version: str = "v1"
    field_selector: Mapping[str, str] | None = None

    @property
    def wanted_name(self) -> str:
        """The one object that this is about, by path or by field selector; "" for many."""
        return self.name or (self.field_selector or {}).get("metadata.name", "")


class Authorizer:
    """Decides from the user's names and, for a node, from the pods bound to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._node_rules: dict[tuple[str, str], Callable[[str, Attributes], str]] = {
            ("", "configmaps"): self._referenced,
            ("", "secrets"): self._referenced,
            ("", "nodes"): _own_node,
            ("", "pods"): self._pod,
            ("", "serviceaccounts"): self._service_account,
            ("", "services"): _reading,
            ("", "endpoints"): _reading,
            ("discovery.k8s.io", "endpointslices"): _reading,
            ("node.k8s.io", "runtimeclasses"): _reading,
            ("", "events"): _events,
            ("events.k8s.io", "events"): _events,
            (_LEASES, "leases"): _own_lease,
            ("authentication.k8s.io", "tokenreviews"): _creating,
            ("authorization.k8s.io", "subjectaccessreviews"): _creating,
            ("authorization.k8s.io", "localsubjectaccessreviews"): _creating,
        }

    def authorize(self, user: User, attributes: Attributes) -> None:
        """Raise StatusError 403, in the API server's words, unless the user may."""
        allowed, reason = self.decide(user, attributes)
        if allowed:
            return
        text = f'User "{user.username}" cannot {_action(attributes)}'
        raise StatusError.forbidden(_qualified(attributes), attributes.name, f"{text}: {reason}" if reason else text)

    def decide(self, user: User, attributes: Attributes) -> tuple[bool, str]:
        """(allowed, why not: "" where there is nothing to say but no)."""
        if user.is_master:
            return True, ""
        if not attributes.resource:
            return _path_allowed(user, attributes), ""
        if AUTHENTICATED not in user.groups:
            return False, ""
        reviews = ("authentication.k8s.io", "authorization.k8s.io")
        if attributes.group in reviews and attributes.resource in _SELF_REVIEWS:
            return attributes.verb == "create", ""
        if user.node is None:
            return False, ""
        rule = self._node_rules.get((attributes.group, attributes.resource))
        reason = "" if rule is None else rule(user.node, attributes)
        return rule is not None and reason == "", reason

    def _pods_of(self, node: str, namespace: str | None) -> list[dict[str, Any]]:
        return self._store.list("/pods", namespace, predicate=lambda pod: _node_of(pod) == node)[0]

    def _referenced(self, node: str, attributes: Attributes) -> str:
        """ConfigMaps and Secrets: read only, one named object at a time, and only if a pod of the node refers to it."""
        if attributes.verb not in _READ or attributes.subresource:
            return f"can only read resources of this type (verb {attributes.verb})"
        name, namespace = attributes.wanted_name, attributes.namespace
        if not name or not namespace:
            return "can only read namespaced object of this type"
        wanted = f"{attributes.resource}/{namespace}/{name}"
        if any(wanted in pods.references(pod) for pod in self._pods_of(node, namespace)):
            return ""
        return f"no relationship found between node '{node}' and this object"

    def _pod(self, node: str, attributes: Attributes) -> str:
        """Its own pods: read, write their status, delete, evict; create is for mirror pods (NodeRestriction looks)."""
        verb, sub = attributes.verb, attributes.subresource
        if sub in ("", "status") and verb in ("list", "watch"):
            selected = (attributes.field_selector or {}).get("spec.nodeName")
            return "" if selected == node else f"can only list/watch pods with spec.nodeName={node} field selector"
        if verb == "create" and sub in ("", "eviction"):
            return ""
        if (sub == "" and verb in ("get", "delete")) or (sub == "status" and verb in ("get", "patch", "update")):
            found = self._store.get("/pods", attributes.namespace, attributes.name)
            # A write to a pod that is gone is 404, which is what the node waits for; a read is refused as any other.
            if _node_of(found) == node if found is not None else verb != "get":
                return ""
            return f"no relationship found between node '{node}' and this object"
        return f"a node may not {verb} pods{'/' + sub if sub else ''}"

    def _service_account(self, node: str, attributes: Attributes) -> str:
        """Tokens for the accounts of its pods, and reading those accounts one by one."""
        token = attributes.verb == "create" and attributes.subresource == "token"
        if not token and not (attributes.verb == "get" and not attributes.subresource):
            return "can only create tokens for individual service accounts"
        found = self._pods_of(node, attributes.namespace)
        if any(pods.service_account(pod) == attributes.name for pod in found):
            return ""
        return f"no relationship found between node '{node}' and this object"


def _node_of(pod: Mapping[str, Any]) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def _own_node(node: str, attributes: Attributes) -> str:
    verb, sub = attributes.verb, attributes.subresource
    if verb == "create" and not sub:
        return ""  # the object's name is not known yet: NodeRestriction compares it
    allowed = {"": {"get", "list", "watch", "patch", "update"}, "status": {"get", "patch", "update"}}
    if verb not in allowed.get(sub, set()):
        return f"a node may not {verb} nodes{'/' + sub if sub else ''}"
    if attributes.wanted_name == node:
        return ""
    return f"node '{node}' cannot read '{attributes.wanted_name}', only its own Node object"


def _own_lease(node: str, attributes: Attributes) -> str:
    if attributes.verb not in ("get", "create", "update", "patch", "delete"):
        return "can only get, create, update, patch, or delete a node lease"
    if attributes.namespace != _LEASE_NAMESPACE:
        return f'can only access leases in the "{_LEASE_NAMESPACE}" system namespace'
    if attributes.verb != "create" and attributes.name != node:
        return "can only access node lease with the same name as the requesting node"
    return ""


def _reading(_node: str, attributes: Attributes) -> str:
    return "" if attributes.verb in _READ and not attributes.subresource else "read only"


def _events(_node: str, attributes: Attributes) -> str:
    return "" if attributes.verb in ("create", "patch", "update") else "can only create and update events"


def _creating(_node: str, attributes: Attributes) -> str:
    return "" if attributes.verb == "create" else "can only create"


def _path_allowed(user: User, attributes: Attributes) -> bool:
    if attributes.verb not in ("get", "head"):
        return False
    path = attributes.path.rstrip("/") or "/"
    prefixes = _PUBLIC_PATHS if AUTHENTICATED not in user.groups else _PUBLIC_PATHS + _DISCOVERY_PATHS
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def _qualified(attributes: Attributes) -> str:
    return f"{attributes.resource}.{attributes.group}" if attributes.group else attributes.resource


def _action(attributes: Attributes) -> str:
    if not attributes.resource:
        return f'{attributes.verb} path "{attributes.path}"'
    resource = "/".join(filter(None, (attributes.resource, attributes.subresource)))
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    return f'{attributes.verb} resource "{resource}" in API group "{attributes.group}" {where}'
