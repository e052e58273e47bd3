"""Which kinds the embedded API server serves: the one table that discovery, routing, storage and kubectl's names read.

Pure data, no thread. A kind that is not here is answered with 404; none is pretended. Verbs and short names are those
that a Kubernetes 1.37 API server announces for the same kind, so that kubectl's own logic needs no exception.
"""

from dataclasses import dataclass
from typing import Final

ALL_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
STATUS_VERBS: Final = ("get", "patch", "update")


@dataclass(frozen=True)
class Subresource:
    """One `<plural>/<name>` row of discovery. Empty group and version: those of the resource it belongs to."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True)
class Resource:
    """One served kind. `verbs` is only ("create",) for a virtual kind, whose answer is computed and never stored."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    categories: tuple[str, ...] = ()
    deprecated: str = ""  # what every request for it is warned of

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def key(self) -> str:
        """The store's key of this kind: `group/plural`, `/pods` for the core group."""
        return f"{self.group}/{self.plural}"

    @property
    def api_version(self) -> str:
        """`v1` or `group/version`, as objects carry it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    @property
    def qualified(self) -> str:
        """`pods` or `leases.coordination.k8s.io`: how error messages name the kind."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def virtual(self) -> bool:
        """Whether a POST is answered at once and nothing is stored (reviews)."""
        return self.verbs == ("create",)

    def subresource(self, name: str) -> Subresource | None:
        return next((item for item in self.subresources if item.name == name), None)


def _status(kind: str) -> Subresource:
    return Subresource("status", kind, STATUS_VERBS)


_POD_SUBRESOURCES: Final = (
    Subresource("attach", "PodAttachOptions", ("create", "get")),
    Subresource("binding", "Binding", ("create",)),
    Subresource("ephemeralcontainers", "Pod", STATUS_VERBS),
    Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
    Subresource("exec", "PodExecOptions", ("create", "get")),
    Subresource("log", "Pod", ("get",)),
    Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
    Subresource("resize", "Pod", STATUS_VERBS),
    _status("Pod"),
)

_TOKEN: Final = Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1")
_AUTHENTICATION: Final = ("authentication.k8s.io", "v1")
_AUTHORIZATION: Final = ("authorization.k8s.io", "v1")

RESOURCES: Final[tuple[Resource, ...]] = (
    Resource("", "v1", "ConfigMap", "configmaps", short_names=("cm",)),
    Resource(
        "",
        "v1",
        "Endpoints",
        "endpoints",
        short_names=("ep",),
        deprecated="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
    Resource("", "v1", "Event", "events", short_names=("ev",)),
    Resource(
        "",
        "v1",
        "Namespace",
        "namespaces",
        namespaced=False,
        short_names=("ns",),
        verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
        subresources=(Subresource("finalize", "Namespace", ("update",)), _status("Namespace")),
    ),
    Resource(
        "",
        "v1",
        "Node",
        "nodes",
        namespaced=False,
        short_names=("no",),
        subresources=(
            Subresource("proxy", "NodeProxyOptions", ("create", "delete", "get", "patch", "update")),
            _status("Node"),
        ),
    ),
    Resource("", "v1", "Pod", "pods", short_names=("po",), categories=("all",), subresources=_POD_SUBRESOURCES),
    Resource("", "v1", "Secret", "secrets"),
    Resource("", "v1", "ServiceAccount", "serviceaccounts", short_names=("sa",), subresources=(_TOKEN,)),
    Resource(
        "",
        "v1",
        "Service",
        "services",
        short_names=("svc",),
        categories=("all",),
        subresources=(_status("Service"),),
    ),
    Resource(*_AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews", namespaced=False, verbs=("create",)),
    Resource(*_AUTHENTICATION, "TokenReview", "tokenreviews", namespaced=False, verbs=("create",)),
    Resource(*_AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews", verbs=("create",)),
    Resource(
        *_AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False, verbs=("create",)
    ),
    Resource(*_AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews", namespaced=False, verbs=("create",)),
    Resource(*_AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews", namespaced=False, verbs=("create",)),
    Resource("coordination.k8s.io", "v1", "Lease", "leases"),
    Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    Resource("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", namespaced=False),
)

_BY_PLURAL: Final = {(item.group, item.version, item.plural): item for item in RESOURCES}
_BY_KEY: Final = {item.key: item for item in RESOURCES}
_BY_KIND: Final = {(item.api_version, item.kind): item for item in RESOURCES}


def find(group: str, version: str, plural: str) -> Resource | None:
    """The served kind of a request path, or None: 404."""
    return _BY_PLURAL.get((group, version, plural))


def by_key(key: str) -> Resource:
    """The kind of a store key. Raises KeyError for a key that no kind has."""
    return _BY_KEY[key]


def by_kind(api_version: str, kind: str) -> Resource | None:
    """The served kind of an object's own apiVersion and kind, or None."""
    return _BY_KIND.get((api_version, kind))
