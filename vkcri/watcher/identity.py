"""Who we are to the API server, and whether that is what a node should be.

`who` asks the API server (SelfSubjectReview, which every authenticated user may) and else reads our own certificate;
`warning` is pure.
"""

from typing import NamedTuple

from vkcri import signing
from vkcri.errors import Invalid, NotFound, Refused
from vkcri.kube.client import Client
from vkcri.signing import ORGANIZATION

_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


class User(NamedTuple):
    name: str
    groups: tuple[str, ...] = ()


def who(client: Client) -> User | None:
    """Our user and its groups; None where neither an API server before 1.28 nor a token says. Raises Unavailable."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}
    try:
        found = (client.create(_REVIEW, review).get("status") or {}).get("userInfo") or {}
        return User(str(found.get("username") or ""), tuple(found.get("groups") or ()))
    except (NotFound, Refused, Invalid):
        pass
    try:
        subject = signing.read(client.certificate).subject
    except Invalid:
        return None
    return User(subject.common_name, subject.organizations)


def warning(user: User, node_name: str) -> str:
    """What is wrong with joining as this user, and the better way; "" where it is the node's own identity."""
    wanted = f"system:node:{node_name}"
    if user.name == wanted and ORGANIZATION in user.groups:
        return ""
    if user.name.startswith("system:node:") and ORGANIZATION in user.groups:
        other = user.name.removeprefix("system:node:")
        return (
            f"the kubeconfig is node {other}'s, and it may write nothing about node {node_name}: "
            f"VKUBELET_NODE_NAME={other}, or a kubeconfig of {wanted}"
        )
    groups = f" ({', '.join(sorted(set(user.groups) - {'system:authenticated'}))})" if user.groups else ""
    return (
        f"joined as {user.name}{groups}, not as {wanted} in {ORGANIZATION}: whoever reads this guest's kubeconfig has "
        "all that user's rights, and what a node may not do is not found out here; better: BOOTSTRAP_KUBECONFIG=FILE "
        f"with a bootstrap token, or a kubeconfig of {wanted}"
    )
