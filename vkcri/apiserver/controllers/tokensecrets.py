"""Secrets of type kubernetes.io/service-account-token: filled with a token that lasts as long as the Secret.

The old way to a token, which manifests still use. The token is bound to the Secret, so that its deletion ends it. A
Secret whose account is gone is removed, as in Kubernetes.
"""

import base64
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from vkcri.apiserver import internal, tokens
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers.loop import KeysOf

Object = dict[str, Any]
TYPE: Final = "kubernetes.io/service-account-token"
_NAME: Final = "kubernetes.io/service-account.name"
_UID: Final = "kubernetes.io/service-account.uid"


class TokenSecretController:
    """Key: NAMESPACE/NAME of a Secret, or NAMESPACE/ for all of a namespace whose accounts changed. `authority`: the
    CA as PEM."""

    name = "token-secrets"

    def __init__(self, ctx: RequestContext, authority: str) -> None:
        self._ctx = ctx
        self._authority = authority
        self.sources: Mapping[str, KeysOf] = {
            "/secrets": lambda obj, _gone: [_key(obj)] if obj.get("type") == TYPE else [],
            "/serviceaccounts": lambda obj, _gone: [f"{obj['metadata']['namespace']}/"],
        }

    def all_keys(self) -> Iterable[str]:
        return [_key(obj) for obj in self._of(None)]

    def _of(self, namespace: str | None) -> list[Object]:
        return self._ctx.store.list("/secrets", namespace, predicate=lambda obj: obj.get("type") == TYPE)[0]

    def reconcile(self, key: str) -> float | None:
        namespace, _, name = key.partition("/")
        found = self._ctx.store.get("/secrets", namespace, name) if name else None
        for secret in self._of(namespace) if not name else [found] if found is not None else []:
            self._fill(secret)
        return None

    def _fill(self, secret: Object) -> None:
        metadata = secret["metadata"]
        annotations = metadata.get("annotations") or {}
        account = self._ctx.store.get("/serviceaccounts", metadata["namespace"], annotations.get(_NAME, ""))
        uid = None if account is None else account["metadata"]["uid"]
        if account is None or annotations.get(_UID) not in (None, uid):
            options = {"preconditions": {"uid": metadata["uid"]}}
            internal.delete(self._ctx, "/secrets", metadata["namespace"], metadata["name"], options)
            return
        data = secret.get("data") or {}
        wanted = {"ca.crt": _encoded(self._authority), "namespace": _encoded(metadata["namespace"])}
        if data.get("token") and annotations.get(_UID) and all(data.get(key) for key in wanted):
            return

        def change(current: Object) -> Object:
            current["metadata"].setdefault("annotations", {})[_UID] = uid
            held = current.setdefault("data", {})
            for key, value in {**wanted, "token": _encoded(self._token(account, current))}.items():
                if not held.get(key):
                    held[key] = value
            return current

        internal.update(self._ctx, "/secrets", metadata["namespace"], metadata["name"], change)

    def _token(self, account: Object, secret: Object) -> str:
        namespace, name = account["metadata"]["namespace"], account["metadata"]["name"]
        now = int(tokens.epoch(self._ctx.now()))
        private = {"namespace": namespace, "serviceaccount": _identity(account), "secret": _identity(secret)}
        claims: Object = {"aud": [tokens.API_AUDIENCE], "iat": now, "nbf": now, "iss": tokens.ISSUER}
        claims |= {"jti": str(uuid.uuid4()), "kubernetes.io": private}
        claims["sub"] = f"system:serviceaccount:{namespace}:{name}"
        return tokens.signer(self._ctx.settings.instance).sign(claims)


def _key(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _identity(obj: Object) -> Object:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")
