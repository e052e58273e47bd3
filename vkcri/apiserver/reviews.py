"""Kinds that are a question: who is this token, may that user do this, who am I, what may I. Nothing is stored.

Runs in the request's thread. A review tells about authn and authz, and decides nothing of its own. A token that is
wrong is an answer (authenticated: false), not an error.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from vkcri.api import times
from vkcri.apiserver import tokens
from vkcri.apiserver.attributes import Attributes
from vkcri.apiserver.authn import AUTHENTICATED, Authenticator, User
from vkcri.apiserver.authz import Authorizer
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import FieldError, StatusError

Object = dict[str, Any]


def answer(resource: Resource, body: Object, ctx: RequestContext) -> Object:
    """The review with its status. Raises StatusError 400, 422."""
    filled = {**body, "kind": resource.kind, "apiVersion": resource.api_version}
    filled.setdefault("metadata", {}).setdefault("creationTimestamp", None)
    filled["status"] = _ANSWERS[resource.kind](filled, ctx)
    return filled


def _token_review(body: Object, ctx: RequestContext) -> Object:
    spec = body.get("spec") or {}
    if not spec.get("token"):
        raise StatusError.bad_request("token is required for TokenReview in authentication")
    audiences = tuple(spec.get("audiences") or (tokens.API_AUDIENCE,))
    signer = tokens.signer(ctx.settings.instance)
    verifier = Authenticator(ctx.store, signer, clock=lambda: times.to_epoch(ctx.now()))
    try:
        user, meant = verifier.token_user(spec["token"], audiences)
    except StatusError as error:
        if error.code != 401:
            raise
        return {"user": {}, "error": "invalid bearer token"}
    return {"authenticated": True, "user": user.as_info(), "audiences": list(meant)}


def _subject_access_review(body: Object, ctx: RequestContext) -> Object:
    spec = body.get("spec") or {}
    if not spec.get("user") and not spec.get("groups"):
        error = FieldError("FieldValueInvalid", "spec.user", "at least one of user or group must be specified", "")
        raise StatusError.invalid(body["kind"], "", [error], group="authorization.k8s.io")
    extra = {str(key).lower(): tuple(values) for key, values in (spec.get("extra") or {}).items()}
    groups = tuple(spec.get("groups") or ())
    return _decided(body["kind"], spec, User(spec.get("user") or "", spec.get("uid") or "", groups, extra), ctx)


def _local_review(body: Object, ctx: RequestContext) -> Object:
    namespace = body["metadata"].get("namespace") or ""
    asked = ((body.get("spec") or {}).get("resourceAttributes") or {}).get("namespace") or ""
    if asked != namespace:
        error = FieldError(
            "FieldValueInvalid", "spec.resourceAttributes.namespace", "must match metadata.namespace", asked
        )
        raise StatusError.invalid(body["kind"], "", [error], group="authorization.k8s.io")
    return _subject_access_review(body, ctx)


def _self_access_review(body: Object, ctx: RequestContext) -> Object:
    return _decided(body["kind"], body.get("spec") or {}, ctx.user, ctx)


def _decided(kind: str, spec: Mapping[str, Any], user: User, ctx: RequestContext) -> Object:
    attributes = _attributes(kind, spec)
    allowed, reason = Authorizer(ctx.store).decide(user, attributes)
    status: Object = {"allowed": allowed}
    if reason:
        status["reason"] = reason
    return status


def _attributes(kind: str, spec: Mapping[str, Any]) -> Attributes:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (path is None and resource is None) or (path is not None and resource is not None):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        error = FieldError("FieldValueInvalid", "spec.resourceAttributes", text, resource)
        raise StatusError.invalid(kind, "", [error], group="authorization.k8s.io")
    if path is not None:
        return Attributes(verb=path.get("verb") or "", path=path.get("path") or "")
    resource = resource or {}
    names = ("verb", "group", "resource", "subresource", "namespace", "name", "version")
    given = {name: resource.get(name) or "" for name in names}
    selected = (resource.get("fieldSelector") or {}).get("requirements") or []
    fields = {
        item["key"]: item["values"][0]
        for item in selected
        if item.get("operator") == "In" and len(item.get("values") or []) == 1
    }
    # A review of "*" asks for every resource; only masters have that, and they are decided before any rule.
    return Attributes(**given, field_selector=fields)


def _self_subject_review(_body: Object, ctx: RequestContext) -> Object:
    return {"userInfo": ctx.user.as_info()}


def _self_rules_review(body: Object, ctx: RequestContext) -> Object:
    if not (body.get("spec") or {}).get("namespace"):
        raise StatusError.bad_request("no namespace on request")
    resources: list[Object] = []
    paths: list[Object] = []
    if ctx.user.is_master:
        resources.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        paths.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
    elif AUTHENTICATED in ctx.user.groups:
        own = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]
        resources.append({"verbs": ["create"], "apiGroups": ["authorization.k8s.io"], "resources": own})
        own = ["selfsubjectreviews"]
        resources.append({"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": own})
        public = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz"]
        paths.append({"verbs": ["get"], "nonResourceURLs": [*public, "/version", "/version/"]})
    status: Object = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}
    if ctx.user.node is not None:
        status |= {"incomplete": True, "evaluationError": "node authorizer does not support user rule resolution"}
    return status


_ANSWERS: Final[dict[str, Callable[[Object, RequestContext], Object]]] = {
    "LocalSubjectAccessReview": _local_review,
    "SelfSubjectAccessReview": _self_access_review,
    "SelfSubjectReview": _self_subject_review,
    "SelfSubjectRulesReview": _self_rules_review,
    "SubjectAccessReview": _subject_access_review,
    "TokenReview": _token_review,
}
