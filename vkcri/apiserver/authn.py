"""Who asks: a verified client certificate, a service account's token, or nobody. Runs in each request's thread.

Certificates are verified by the TLS layer against the client CA; here only their names are read. A token that is given
and wrong is 401, never anonymous. Impersonation is for system:masters alone. What somebody may do is authz's.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from vkcri import certs
from vkcri.apiserver import tokens
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.errors import Invalid

MASTERS: Final = "system:masters"
NODES: Final = "system:nodes"
AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"
SERVICE_ACCOUNTS: Final = "system:serviceaccounts"
_NODE_PREFIX: Final = "system:node:"
_ACCOUNT_PREFIX: Final = "system:serviceaccount:"
_EXTRA: Final = "authentication.kubernetes.io/"
_LEEWAY: Final = 60.0  # seconds that a token outlives the deletion of what it is bound to, as in Kubernetes


@dataclass(frozen=True)
class User:
    """user.Info: `groups` complete, with system:authenticated where it applies."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def anonymous(cls) -> Self:
        return cls("system:anonymous", groups=(UNAUTHENTICATED,))

    @property
    def is_master(self) -> bool:
        return MASTERS in self.groups

    @property
    def node(self) -> str | None:
        """The node's name if this is a node (`system:node:NAME` in group system:nodes), else None."""
        if NODES in self.groups and self.username.startswith(_NODE_PREFIX):
            return self.username.removeprefix(_NODE_PREFIX)
        return None

    def as_info(self) -> dict[str, Any]:
        """authentication/v1 UserInfo."""
        info: dict[str, Any] = {"username": self.username, "uid": self.uid, "groups": list(self.groups)}
        info["extra"] = {key: list(values) for key, values in self.extra.items()}
        return {key: value for key, value in info.items() if value}


class Authenticator:
    """Tells who a request's credentials belong to. Shared by all threads; holds no state but the store and the key."""

    def __init__(self, store: Store, signer: tokens.Signer, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock

    def authenticate(self, headers: Mapping[str, str], peer_certificate: bytes | None) -> User:
        """The request's user, after impersonation. `peer_certificate`: DER of a certificate that TLS has verified.

        Anonymous without any credentials. Raises StatusError 401 for a token that is wrong, 403 for an impersonation
        that is not allowed."""
        user = User.anonymous()
        scheme, _, token = (headers.get("Authorization") or "").partition(" ")
        if peer_certificate is not None:
            user = certificate_user(peer_certificate)
        elif scheme.lower() == "bearer" and token.strip():
            user = self.token_user(token.strip(), (tokens.API_AUDIENCE,))[0]
        elif scheme:
            raise StatusError.unauthorized()
        return _impersonated(user, headers)

    def token_user(self, token: str, audiences: tuple[str, ...]) -> tuple[User, tuple[str, ...]]:
        """The service account of a token and those of `audiences` that it is meant for (at least one).

        Valid: signed by us, in time (one bound to a Secret has no end), and what it is bound to (account, pod, secret,
        node) still exists with the same UID. Raises StatusError 401."""
        claims = self._signer.verify(token)
        now = self._clock()
        if claims is None or not claims.get("nbf", 0) - _LEEWAY <= now < claims.get("exp", math.inf):
            raise StatusError.unauthorized()
        meant = tuple(audience for audience in audiences if audience in claims["aud"])
        if claims.get("iss") != tokens.ISSUER or not meant:
            raise StatusError.unauthorized()
        private = claims.get("kubernetes.io") or {}
        self._check_bound(private, now)
        return _account_user(private, claims), meant

    def _check_bound(self, private: Mapping[str, Any], now: float) -> None:
        """Raise 401 unless the service account and whatever else the token names is still there."""
        namespace = private.get("namespace", "")
        bound = [
            ("/serviceaccounts", namespace, private.get("serviceaccount")),
            ("/pods", namespace, private.get("pod")),
        ]
        bound.append(("/secrets", namespace, private.get("secret")))
        if "pod" not in private:
            bound.append(("/nodes", "", private.get("node")))
        if not private.get("serviceaccount"):
            raise StatusError.unauthorized()
        for key, where, reference in bound:
            if reference and not self._alive(key, where, reference, now):
                raise StatusError.unauthorized()

    def _alive(self, key: str, namespace: str, reference: Mapping[str, Any], now: float) -> bool:
        found = self._store.get(key, namespace, reference.get("name", ""))
        if found is None or found["metadata"].get("uid") != reference.get("uid"):
            return False
        stamp = found["metadata"].get("deletionTimestamp")
        return not stamp or now < tokens.epoch(stamp) + _LEEWAY


def certificate_user(der: bytes) -> User:
    """The user that a verified client certificate names: CN and, as groups, each O."""
    try:
        name, organizations = certs.peer_identity(der)
    except Invalid as error:
        raise StatusError.unauthorized() from error
    if not name:
        raise StatusError.unauthorized()
    digest = hashlib.sha256(der).hexdigest()
    return User(
        name, groups=(*organizations, AUTHENTICATED), extra={f"{_EXTRA}credential-id": (f"X509SHA256={digest}",)}
    )


def account_name(namespace: str, name: str) -> str:
    """A service account's username."""
    return f"{_ACCOUNT_PREFIX}{namespace}:{name}"


def _account_user(private: Mapping[str, Any], claims: Mapping[str, Any]) -> User:
    namespace, account = private["namespace"], private["serviceaccount"]
    extra = {f"{_EXTRA}credential-id": (f"JTI={claims['jti']}",)} if claims.get("jti") else {}
    for kind in ("pod", "node"):
        if private.get(kind):
            extra[f"{_EXTRA}{kind}-name"] = (private[kind]["name"],)
            extra[f"{_EXTRA}{kind}-uid"] = (private[kind].get("uid", ""),)
    groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", AUTHENTICATED)
    return User(account_name(namespace, account["name"]), account.get("uid", ""), groups, extra)


def _impersonated(user: User, headers: Mapping[str, str]) -> User:
    """The user that a master asks to be taken for (kubectl --as, --as-group)."""
    name = headers.get("Impersonate-User")
    if not name:
        return user
    if not user.is_master:
        text = f'User "{user.username}" cannot impersonate resource "users" in API group "" at the cluster scope'
        raise StatusError.forbidden("users", name, text)
    groups = tuple(group.strip() for group in (headers.get("Impersonate-Group") or "").split(",") if group.strip())
    if name.startswith(_ACCOUNT_PREFIX) and not groups:
        groups = (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{name.split(':')[2]}")
    if name == "system:anonymous":
        return User(name, groups=(*groups, UNAUTHENTICATED))
    return User(name, headers.get("Impersonate-Uid") or "", tuple(dict.fromkeys((*groups, AUTHENTICATED))))
