"""A request's path and method as Kubernetes reads them: which kind, which object, which verb.

Pure. The rules are those of k8s.io/apiserver's RequestInfo: /api/v1/... and /apis/GROUP/VERSION/..., an optional
`namespaces/NAME/`, then plural, name, subresource and, for a proxy, a path of its own.
"""

from dataclasses import dataclass

from vkcri.apiserver.resources import RESOURCES, Resource, find
from vkcri.apiserver.status import StatusError

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True)
class Target:
    """What a request is about. `path` is what follows a subresource, "" or with its leading slash."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    path: str = ""

    @property
    def label(self) -> str:
        """`pods` or `pods/log`."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural


def group_versions() -> list[tuple[str, str]]:
    """Every served (group, version), the core group first, the others by name."""
    return sorted({(item.group, item.version) for item in RESOURCES})


def locate(method: str, path: str, *, watch: bool = False) -> Target | None:
    """The request's target, or None for a path that is no resource's. Raises StatusError 404 for a kind, or 405 for a
    verb, that is not served."""
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        group, version, parts = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, parts = parts[1], parts[2:]
    resource = find(group, version, parts[0])
    if resource is None or (namespace and not resource.namespaced):
        raise not_served()
    name, subresource = (*parts[1:3], "", "")[:2]
    rest = "/" + "/".join(parts[3:]) if len(parts) > 3 else ""
    if rest and path.endswith("/"):
        rest += "/"  # a proxied path keeps it: /logs/ is a folder
    if resource.plural == "namespaces":
        namespace = name
    verb = _verb(method, resource, name, subresource, watch)
    target = Target(verb, resource, namespace, name, subresource, rest)
    _check(target)
    return target


def _verb(method: str, resource: Resource, name: str, subresource: str, watch: bool) -> str:
    verb = _VERBS.get(method, "")
    if not verb:
        raise StatusError.method_not_allowed()
    if name or subresource:
        if verb == "create" and not subresource:
            raise StatusError.method_not_allowed()
        return verb
    if verb == "get":
        return "watch" if watch else "list"
    if verb == "delete":
        return "deletecollection"
    if verb != "create" and not resource.virtual:
        raise StatusError.method_not_allowed()
    return verb


def _check(target: Target) -> None:
    """Raise unless the kind serves that verb there."""
    resource, across = target.resource, target.verb in ("list", "watch", "deletecollection")
    if target.subresource:
        row = resource.subresource(target.subresource)
        if row is None or (target.path and target.subresource != "proxy"):
            raise not_served()
        if target.verb not in row.verbs:
            raise StatusError.method_not_allowed()
    elif target.verb not in resource.verbs:
        raise StatusError.method_not_allowed()
    if resource.namespaced and not target.namespace and not (across and target.verb != "deletecollection"):
        if target.verb in ("create", "deletecollection"):
            raise StatusError.method_not_allowed()
        raise not_served()


def not_served() -> StatusError:
    """404 for a path that is nobody's."""
    return StatusError(404, "NotFound", "the server could not find the requested resource")
