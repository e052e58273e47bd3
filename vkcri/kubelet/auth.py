"""Who asks, and may they: the kubelet's authentication and authorization of its own API.

A caller shows a client certificate of the cluster's CA (checked in the handshake) or a bearer token; api-watcher asks
the API server about the rest (TokenReview, SubjectAccessReview). No anonymous caller, and none is let in because
nobody could be asked: then it is Unavailable. Runs on request threads; the caches are the only state. Tokens are kept
as digests and never logged.
"""

import functools
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

from vkcri import certs
from vkcri.errors import Invalid, Unavailable, VkcriError

TOKEN_SECONDS = 120.0  # the kubelet's defaults of authentication.webhook and authorization.webhook
ALLOWED_SECONDS = 300.0
DENIED_SECONDS = 30.0
CACHE_ENTRIES = 4096
ASK_SECONDS = 10.0
AUTHENTICATED = "system:authenticated"
Ask = Callable[[str, dict[str, Any], float], Any]  # request name, body, timeout -> the watcher's answer
_V = TypeVar("_V")
_VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_FINE_GRAINED = {
    "allocatedPods": "pods",
    "pods": "pods",
    "runningpods": "pods",
    "healthz": "healthz",
    "configz": "configz",
}
_OWN = {
    "stats": "stats",
    "metrics": "metrics",
    "logs": "log",
    "checkpoint": "checkpoint",
    "statusz": "statusz",
    "flagz": "configz",
}


@dataclass(frozen=True)
class User:
    """As Kubernetes' user.Info."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = field(default_factory=dict)

    @functools.cached_property
    def key(self) -> bytes:
        """A digest of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).digest()


@dataclass(frozen=True)
class Decision:
    """Whether a request may go on; `message` is the kubelet's text for a caller who may not."""

    allowed: bool
    message: str = ""


class TimedCache(Generic[_V]):
    """Answers that hold for a while; the oldest go first beyond CACHE_ENTRIES. Thread-safe."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[float, _V]] = OrderedDict()

    def get(self, key: bytes) -> _V | None:
        with self._lock:
            entry = self._entries.get(key)
            return entry[1] if entry is not None and entry[0] > self._clock() else None

    def put(self, key: bytes, value: _V, seconds: float) -> None:
        with self._lock:
            self._entries[key] = (self._clock() + seconds, value)
            self._entries.move_to_end(key)
            while len(self._entries) > CACHE_ENTRIES:
                self._entries.popitem(last=False)


class Gate:
    """Authentication and authorization by api-watcher's answers, cached as the kubelet caches them."""

    def __init__(self, ask: Ask, node_name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._node_name = node_name
        self._users: TimedCache[tuple[User | None]] = TimedCache(clock)
        self._decisions: TimedCache[bool] = TimedCache(clock)

    def authenticate(self, certificate: bytes | None, authorization: str) -> User | None:
        """The caller, by the DER of a verified client certificate or else the Authorization header; None for nobody
        known. Raises Unavailable where a token cannot be reviewed."""
        if certificate is not None:
            user = _certificate_user(certificate)
            if user is not None:
                return user
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            return None
        key = hashlib.sha256(token.encode()).digest()
        known = self._users.get(key)
        if known is None:
            known = (self._review(token),)
            self._users.put(key, known, TOKEN_SECONDS)
        return known[0]

    def authorize(self, user: User, method: str, path: str) -> Decision:
        """Whether that user may make that request of this node. Raises Unavailable where nobody can say."""
        verb = _VERBS.get(method, "")
        wanted = subresources(path)
        if any(self._allowed(user, verb, subresource) for subresource in wanted):
            return Decision(True)
        names = " ".join(wanted)
        return Decision(
            False, f"Forbidden (user={user.username}, verb={verb}, resource=nodes, subresource(s)=[{names}])\n"
        )

    def authorization_error(self, user: User, method: str, path: str) -> str:
        """The kubelet's words where nobody could say whether that request is allowed."""
        verb, first = _VERBS.get(method, ""), subresources(path)[0]
        return f"Authorization error (user={user.username}, verb={verb}, resource=nodes, subresource={first})"

    def _review(self, token: str) -> User | None:
        answer = self._ask("token-review", {"token": token, "audiences": []}, ASK_SECONDS)
        found = answer.get("user") or {}
        if answer.get("authenticated") is not True or not found.get("username"):
            return None
        groups = _with_authenticated(found.get("groups") or ())
        return User(str(found["username"]), str(found.get("uid") or ""), groups, found.get("extra") or {})

    def _allowed(self, user: User, verb: str, subresource: str) -> bool:
        key = b"%b %b %b" % (user.key, verb.encode(), subresource.encode())
        allowed = self._decisions.get(key)
        if allowed is None:
            answer = self._ask("access-review", self._question(user, verb, subresource), ASK_SECONDS)
            allowed = answer.get("allowed") is True and answer.get("denied") is not True
            self._decisions.put(key, allowed, ALLOWED_SECONDS if allowed else DENIED_SECONDS)
        return allowed

    def _question(self, user: User, verb: str, subresource: str) -> dict[str, Any]:
        """A SubjectAccessReview's spec."""
        resource = {
            "verb": verb,
            "group": "",
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node_name,
        }
        return {
            "user": user.username,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": user.extra,
            "resourceAttributes": resource,
        }


def watcher_only(ask: Ask) -> Ask:
    """An Ask whose every failure is Unavailable: what the watcher refuses to review is not thereby allowed, or known
    to be forbidden."""

    def asking(name: str, body: dict[str, Any], timeout: float) -> Any:
        try:
            answer = ask(name, body, timeout)
        except VkcriError as error:
            raise Unavailable(f"{name} by api-watcher: {error}") from error
        if not isinstance(answer, dict):
            raise Unavailable(f"{name} by api-watcher: the answer is not understood")
        return answer

    return asking


def subresources(path: str) -> list[str]:
    """What of the node a request's path is about, fine-grained first, `proxy` for all that has no name of its own.

    Source: the kubelet's NodeRequestAttributesGetter with KubeletFineGrainedAuthz.
    """
    first = path.removeprefix("/").partition("/")[0]
    if first in _OWN:
        return [_OWN[first]]
    return [_FINE_GRAINED[first], "proxy"] if first in _FINE_GRAINED else ["proxy"]


@functools.lru_cache(maxsize=256)
def _certificate_user(der: bytes) -> User | None:
    try:
        name, organizations = certs.peer_identity(der)
    except Invalid:
        return None  # OpenSSL took it, so this is a name that cannot be read: nobody known
    return User(name, groups=_with_authenticated(organizations)) if name else None


def _with_authenticated(groups: Iterable[str]) -> tuple[str, ...]:
    return (*(group for group in groups if group != AUTHENTICATED), AUTHENTICATED)
