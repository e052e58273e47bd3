"""POST serviceaccounts/NAME/token: a token for an account, bound to a pod, secret or node where the caller says so.

Runs in the request's thread; stores nothing, for a token lives by its signature. Sources: pkg/registry/core/
serviceaccount/storage/token.go, validation of TokenRequest, NodeRestriction's token rule.
"""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from vkcri.api import pods, times
from vkcri.apiserver import tokens
from vkcri.apiserver.admission import node_restriction
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.status import FieldError, StatusError

_DEFAULT_SECONDS: Final = 3600
_LEAST_SECONDS: Final = 600
_MOST_SECONDS: Final = 1 << 32
_LONGEST: Final = 24 * 3600  # as --service-account-max-token-expiration would cap it; a longer wish is shortened
_BINDABLE: Final = {"Pod": "/pods", "Secret": "/secrets", "Node": "/nodes"}


def create(namespace: str, name: str, body: Mapping[str, Any], ctx: RequestContext) -> tuple[int, dict[str, Any]]:
    """(201, the TokenRequest with its status). Raises StatusError 400, 403, 404, 409, 422."""
    spec = dict(body.get("spec") or {})
    node_restriction.admit_token(name, namespace, spec, ctx)
    account = ctx.store.get("/serviceaccounts", namespace, name)
    if account is None:
        raise StatusError.not_found("serviceaccounts", name)
    if spec.get("expirationSeconds") is None:
        spec["expirationSeconds"] = _DEFAULT_SECONDS
    seconds = spec["expirationSeconds"]
    if not spec.get("audiences"):
        spec["audiences"] = [tokens.API_AUDIENCE]
    _validate(name, spec)
    reference = spec.get("boundObjectRef")
    private: dict[str, Any] = {"namespace": namespace, "serviceaccount": _identity(account)}
    if reference:
        private |= _bind(namespace, name, reference, ctx)
    now = times.parse(ctx.now()) // times.NANO
    expires = now + min(seconds, _LONGEST)
    claims = {"aud": spec["audiences"], "exp": expires, "iat": now, "nbf": now, "iss": tokens.ISSUER}
    claims |= {"jti": str(uuid.uuid4()), "kubernetes.io": private, "sub": f"system:serviceaccount:{namespace}:{name}"}
    token = tokens.signer(ctx.settings.instance).sign(claims)
    return 201, {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": ctx.now()},
        "spec": {**spec, "boundObjectRef": reference, "expirationSeconds": expires - now},
        "status": {"token": token, "expirationTimestamp": times.seconds(expires * times.NANO)},
    }


def _validate(name: str, spec: Mapping[str, Any]) -> None:
    seconds, path = spec["expirationSeconds"], "spec.expirationSeconds"
    errors = []
    if seconds < _LEAST_SECONDS:
        text = "may not specify a duration less than 10 minutes"
        errors.append(FieldError("FieldValueInvalid", path, text, seconds))
    if seconds > _MOST_SECONDS:
        errors.append(
            FieldError("FieldValueInvalid", path, "may not specify a duration larger than 2^32 seconds", seconds)
        )
    if errors:
        raise StatusError.invalid("TokenRequest", name, errors, group="authentication.k8s.io")


def _bind(namespace: str, name: str, reference: Mapping[str, Any], ctx: RequestContext) -> dict[str, Any]:
    """The claims that name the bound object. Raises 400, 404, 409."""
    kind = str(reference.get("kind") or "")
    key = _BINDABLE.get(kind)
    if key is None or reference.get("apiVersion") not in ("v1", "", None):
        raise StatusError.bad_request(f"cannot bind token to object of type {reference.get('apiVersion')}, Kind={kind}")
    wanted = str(reference.get("name") or "")
    found = ctx.store.get(key, "" if kind == "Node" else namespace, wanted)
    if found is None:
        raise StatusError.not_found(key.lstrip("/"), wanted)
    if reference.get("uid") and reference["uid"] != found["metadata"]["uid"]:
        text = (
            f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise StatusError.conflict(key.lstrip("/"), wanted, text)
    claims = {kind.lower(): _identity(found)}
    if kind == "Pod":
        if pods.service_account(found) != name:
            text = f'cannot bind token for serviceaccount "{name}" to pod running with different serviceaccount name.'
            raise StatusError.bad_request(text)
        node = ctx.store.get("/nodes", "", str(pods.spec(found).get("nodeName") or ""))
        if node is not None:
            claims["node"] = _identity(node)
    return claims


def _identity(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
