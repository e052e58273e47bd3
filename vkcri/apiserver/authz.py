"""Who may do what: masters everything, a node what node_rules leaves it, service accounts discovery, anonymous callers
health and version. Runs in each request's thread; holds nothing but the store.

Sources: Kubernetes' bootstrap roles system:discovery, system:basic-user, system:public-info-viewer. There is no RBAC: a
role that nobody can write would be pretended.
"""

from typing import Final

from vkcri.apiserver.attributes import Attributes
from vkcri.apiserver.authn import AUTHENTICATED, User
from vkcri.apiserver.node_rules import NodeRules
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store

_PUBLIC_PATHS: Final = ("/healthz", "/livez", "/readyz", "/version")
_DISCOVERY_PATHS: Final = ("/api", "/apis", "/openapi")
_SELF_REVIEWS: Final = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})


class Authorizer:
    """Decides from the user's names and, for a node, from the pods bound to it."""

    def __init__(self, store: Store) -> None:
        self._nodes = NodeRules(store)

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
        return self._nodes.decide(user.node, attributes) if user.node is not None else (False, "")


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
