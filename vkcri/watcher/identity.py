"""Who we are to the API server, and whether that is what a node should be.

The thread `identity` asks the API server (SelfSubjectReview, which every authenticated user may), and else reads our
own certificate, until either says it. It begins before the Node is registered: the wrong identity may be what keeps it
from that. `warning` is pure.
"""

import logging
import threading
from typing import Any, NamedTuple

from vkcri import signing
from vkcri.backoff import Backoff
from vkcri.errors import Invalid, NotFound, Refused, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.failures import Unauthenticated
from vkcri.lifecycle import Process
from vkcri.queue.notices import Notices
from vkcri.signing import ORGANIZATION
from vkcri.watcher.access import Access

NOTICE = "identity"
RETRY = Backoff(first=1.0, factor=2.0, most=30.0, jitter=0.1)
_REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_TOKENS = "system:bootstrappers"
log = logging.getLogger(__name__)


class User(NamedTuple):
    name: str
    groups: tuple[str, ...] = ()


class Identified:
    """Who we are, once it is known; and its notice where that is no node, or another one."""

    def __init__(self, client: Client, notices: Notices, access: Access, node_name: str) -> None:
        self._client = client
        self._notices = notices
        self._access = access
        self._node_name = node_name
        self._user = User("")
        self._known = threading.Event()

    @property
    def user(self) -> str:
        """Our user's name; "" while it is not known, or where nobody says."""
        return self._user.name

    def answer(self, _body: dict[str, Any], left: float) -> dict[str, Any]:
        """The request `identity`: {"user"}, waited for as long as the asker does."""
        self._known.wait(max(0.0, left - 0.5))
        return {"user": self.user}

    def is_the_node(self) -> None:
        """The kubeconfig is one that vkcri wrote for this node itself: nobody needs to be asked."""
        self._learn(User(f"system:node:{self._node_name}", (ORGANIZATION,)))

    def start(self, process: Process) -> None:
        process.start_thread(NOTICE, lambda: self._ask(process), may_end=True)

    def _ask(self, process: Process) -> None:
        failures = 0
        while not process.stopping.is_set():
            try:
                with process.expect("who we are to the API server", 60):
                    found = who(self._client)
            except VkcriError as error:
                log.debug("who we are to the API server is not known: %s", error)
                self._access.failed(NOTICE, error)
                process.wait(RETRY.delay(failures))
                failures += 1
            else:
                self._access.given(NOTICE)
                self._learn(found or User(""))
                return

    def _learn(self, user: User) -> None:
        self._user = user
        wrong = warning(user, self._node_name) if user.name else ""
        if wrong:
            self._notices.put(NOTICE, wrong)
        self._known.set()


def who(client: Client) -> User | None:
    """Our user and its groups; None where neither an API server before 1.28 nor a token says. Raises Unavailable, and
    Unauthenticated where the API server does not know us."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}}
    try:
        found = (client.create(_REVIEW, review).get("status") or {}).get("userInfo") or {}
        return User(str(found.get("username") or ""), tuple(found.get("groups") or ()))
    except Unauthenticated:
        raise
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
    if _TOKENS in user.groups:
        return (
            f"joined as {user.name}, a bootstrap token, which may ask for a node's certificate and nothing else: give "
            "that file as BOOTSTRAP_KUBECONFIG=FILE, not as KUBECONFIG"
        )
    groups = f" ({', '.join(sorted(set(user.groups) - {'system:authenticated'}))})" if user.groups else ""
    return (
        f"joined as {user.name}{groups}, not as {wanted} in {ORGANIZATION}: whoever reads this guest's kubeconfig has "
        "all that user's rights, and what a node may not do is not found out here; better: BOOTSTRAP_KUBECONFIG=FILE "
        f"with a bootstrap token, or a kubeconfig of {wanted}"
    )
