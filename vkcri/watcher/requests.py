"""Requests of other roles that need the API server: tokens for pods, who a caller of the kubelet API is and may do, and
log-server's certificate.

Runs on the threads of the queue's connections. Tokens are never logged. Nothing is cached here: log-server knows how
long it may believe a review, and cri-bridge how long a token lasts.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from vkcri.errors import Invalid, NotFound, Refused, Unavailable
from vkcri.kube.client import TIMEOUT, Client
from vkcri.kube.failures import Unauthenticated
from vkcri.queue import Publisher
from vkcri.watcher import certificates

_AUTHENTICATION = "/apis/authentication.k8s.io/v1/tokenreviews"
_AUTHORIZATION = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_BINDING_PAUSES = (0.05, 0.1, 0.2, 0.4)
_MOST_REQUEST = 64 * 1024
_CLIENT_CA = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


class Requests:
    """Answers token, token-review, access-review, client-ca and certificate-signing."""

    def __init__(self, client: Client, wait: Callable[[float], object] = time.sleep) -> None:
        self._client = client
        self._wait = wait

    def serve(self, publisher: Publisher) -> None:
        publisher.serve("token", self.token)
        publisher.serve("token-review", self.token_review)
        publisher.serve("access-review", self.access_review)
        publisher.serve("client-ca", self.client_ca)
        publisher.serve("certificate-signing", self.certificate_signing)

    def token(self, body: dict[str, Any], left: float) -> dict[str, Any]:
        """A bound service-account token: {"token", "expirationTimestamp"}. NotFound: no such account or pod."""
        namespace, account = _name(body, "namespace"), _name(body, "serviceAccount")
        spec: dict[str, Any] = {
            "audiences": body.get("audiences") or [],
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": _name(body, "podName"),
                "uid": _name(body, "podUID"),
            },
        }
        if body.get("expirationSeconds"):
            spec["expirationSeconds"] = int(body["expirationSeconds"])
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        about = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        status = self._token_status(path, about, min(left, TIMEOUT))
        if not status.get("token"):
            raise Unavailable(f"{path}: the API server gave no token")
        return {"token": status["token"], "expirationTimestamp": status.get("expirationTimestamp", "")}

    def _token_status(self, path: str, about: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a TokenRequest. One that is refused is asked again for a moment: kube-apiserver's Node
        authorizer may learn of a pod's binding after those who watch the pod."""
        end = time.monotonic() + seconds
        pauses = iter(_BINDING_PAUSES)
        while True:
            left = max(end - time.monotonic(), 0.1)
            try:
                return dict(self._client.create(path, about, timeout=left).get("status") or {})
            except Refused as error:
                pause = next(pauses, None)
                if pause is None or pause >= left or isinstance(error, Unauthenticated):
                    raise
            self._wait(pause)

    def token_review(self, body: dict[str, Any], left: float) -> dict[str, Any]:
        """{"authenticated", "user": {"username", "uid", "groups", "extra"}} of a bearer token."""
        spec: dict[str, Any] = {"token": str(body.get("token") or "")}
        if body.get("audiences"):
            spec["audiences"] = body["audiences"]
        about = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        status = self._client.create(_AUTHENTICATION, about, timeout=min(left, TIMEOUT)).get("status") or {}
        user = status.get("user") or {}
        return {
            "authenticated": bool(status.get("authenticated")),
            "user": {
                "username": user.get("username", ""),
                "uid": user.get("uid", ""),
                "groups": user.get("groups") or [],
                "extra": user.get("extra") or {},
            },
        }

    def access_review(self, body: dict[str, Any], left: float) -> dict[str, Any]:
        """{"allowed", "denied", "reason"} for a SubjectAccessReview's spec."""
        if not body.get("resourceAttributes") and not body.get("nonResourceAttributes"):
            raise Invalid("access-review wants resourceAttributes or nonResourceAttributes")
        about = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": body}
        status = self._client.create(_AUTHORIZATION, about, timeout=min(left, TIMEOUT)).get("status") or {}
        return {
            "allowed": bool(status.get("allowed")),
            "denied": bool(status.get("denied")),
            "reason": status.get("reason", ""),
        }

    def client_ca(self, _body: dict[str, Any], left: float) -> dict[str, Any]:
        """{"pem"}: the CA for client certificates that the cluster publishes; a node may seldom read that, and then
        the CA that the kubeconfig has, which kubeadm and the embedded API server use for both. Raises Refused where the
        API server does not know us: what it publishes is then not known."""
        try:
            found = self._client.get(_CLIENT_CA, timeout=min(left, TIMEOUT))
        except Unauthenticated:
            raise
        except (Refused, NotFound):
            return {"pem": self._client.ca}
        return {"pem": (found.get("data") or {}).get("client-ca-file") or self._client.ca}

    def certificate_signing(self, body: dict[str, Any], left: float) -> dict[str, Any]:
        """{"name", "state", "certificate", "message"}: what became of a serving certificate's request (certificates.
        Progress), which is made at the API server where it is not there. NotFound: a server without that API."""
        request = body.get("request")
        if not isinstance(request, str) or "BEGIN CERTIFICATE REQUEST" not in request or len(request) > _MOST_REQUEST:
            raise Invalid("certificate-signing wants a PEM certificate request")
        found = certificates.look(self._client, certificates.SERVING, request.encode(), timeout=min(left / 2, TIMEOUT))
        return asdict(found)


def _name(body: dict[str, Any], field: str) -> str:
    """A field that goes into a path or names an object. Raises Invalid without it."""
    value = body.get(field)
    if not isinstance(value, str) or not value or "/" in value:
        raise Invalid(f"{field}: {value!r} is no name")
    return value
