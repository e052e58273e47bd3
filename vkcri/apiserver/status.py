"""Errors as the Kubernetes API tells them: `StatusError` is what every module of this server raises towards a client.

Pure. rest.py turns it into the HTTP answer; nothing else catches it but to decide. Reasons, codes and the shape of
`details` are those of k8s.io/apimachinery's metav1.Status; messages follow its wording, since people and scripts match
on it ("not found", "already exists", "is invalid: spec.x: Required value").
"""

import json
from dataclasses import dataclass
from typing import Any, Self

_TEXTS = {
    "FieldValueRequired": "Required value",
    "FieldValueInvalid": "Invalid value",
    "FieldValueTypeInvalid": "Invalid value",
    "FieldValueNotSupported": "Unsupported value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueDuplicate": "Duplicate value",
    "FieldValueNotFound": "Not found",
    "FieldValueTooLong": "Too long",
    "FieldValueTooMany": "Too many",
    "InternalError": "Internal error",
}
_WITHOUT_VALUE = frozenset({"FieldValueRequired", "FieldValueForbidden", "FieldValueTooLong", "InternalError"})


@dataclass(frozen=True)
class FieldError:
    """One wrong field: `type` is a metav1.CauseType ("FieldValueRequired", ...), `field` a path such as
    `spec.containers[0].name`, `detail` a sentence for a person, `value` what was given (any JSON value)."""

    type: str
    field: str
    detail: str = ""
    value: Any = None

    @property
    def body(self) -> str:
        """The error without its field, as `Invalid value: "x": detail`."""
        text = _TEXTS.get(self.type, self.type)
        if self.type not in _WITHOUT_VALUE:
            text += ": " + json.dumps(self.value, ensure_ascii=False, separators=(",", ":"))
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body}" if self.field else self.body

    def as_cause(self) -> dict[str, str]:
        """metav1.StatusCause."""
        return {"reason": self.type, "message": self.body, "field": self.field}


class StatusError(Exception):
    """An answer other than success: HTTP `code`, metav1 `reason`, `message` for a person, `details` or None. `token`:
    with which a list may go on all the same."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None, *, token: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.token = token

    def as_status(self) -> dict[str, Any]:
        """The metav1.Status object that the client receives."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.token} if self.token else {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @classmethod
    def not_found(cls, resource: str, name: str) -> Self:
        """404; `resource` is `plural` or `plural.group`."""
        return cls(404, "NotFound", f'{resource} "{name}" not found', _details(resource, name))

    @classmethod
    def already_exists(cls, resource: str, name: str) -> Self:
        return cls(409, "AlreadyExists", f'{resource} "{name}" already exists', _details(resource, name))

    @classmethod
    def conflict(cls, resource: str, name: str, message: str = "") -> Self:
        """409: somebody else changed it first, or a precondition does not hold."""
        why = message or ("the object has been modified; please apply your changes to the latest version and try again")
        text = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
        return cls(409, "Conflict", text, _details(resource, name))

    @classmethod
    def invalid(cls, kind: str, name: str, causes: list[FieldError], *, group: str = "") -> Self:
        """422 with one cause a wrong field."""
        texts = [str(cause) for cause in causes]
        joined = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
        details = _details(kind, name, group)
        details["causes"] = [cause.as_cause() for cause in causes]
        return cls(422, "Invalid", f'{_qualified(kind, group)} "{name}" is invalid: {joined}', details)

    @classmethod
    def forbidden(cls, resource: str, name: str, message: str) -> Self:
        """403; `message` is the reason alone, the resource and name are put before it."""
        about = f'{resource} "{name}" is ' if name else f"{resource} is " if resource else ""
        text = f"{about}forbidden: {message}"
        return cls(403, "Forbidden", text, _details(resource, name))

    @classmethod
    def unauthorized(cls, message: str = "Unauthorized") -> Self:
        return cls(401, "Unauthorized", message)

    @classmethod
    def expired(cls, message: str, *, token: str = "") -> Self:
        """410 to a list or watch from a resourceVersion or continue token that is no longer known: list again, or go on
        with `token`, where there is one, from what is there by now."""
        return cls(410, "Expired", message, token=token)

    @classmethod
    def too_large_version(cls, asked: int, newest: int) -> Self:
        """504 to a read of a resourceVersion that is still to come."""
        causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        text = f"Timeout: Too large resource version: {asked}, current: {newest}"
        return cls(504, "Timeout", text, {"causes": causes, "retryAfterSeconds": 1})

    @classmethod
    def gone(cls, message: str) -> Self:
        return cls(410, "Gone", message)

    @classmethod
    def bad_request(cls, message: str) -> Self:
        return cls(400, "BadRequest", message)

    @classmethod
    def method_not_allowed(
        cls, message: str = "the server does not allow this method on the requested resource"
    ) -> Self:
        return cls(405, "MethodNotAllowed", message)

    @classmethod
    def not_acceptable(cls, message: str) -> Self:
        return cls(406, "NotAcceptable", message)

    @classmethod
    def too_large(cls, message: str) -> Self:
        return cls(413, "RequestEntityTooLarge", message)

    @classmethod
    def unsupported_media_type(cls, message: str) -> Self:
        return cls(415, "UnsupportedMediaType", message)

    @classmethod
    def too_many_requests(cls, message: str, retry_after: int = 1) -> Self:
        """429; also an eviction that a budget refuses."""
        return cls(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})

    @classmethod
    def internal(cls, message: str) -> Self:
        return cls(500, "InternalError", f"Internal error occurred: {message}")

    @classmethod
    def unavailable(cls, message: str) -> Self:
        return cls(503, "ServiceUnavailable", message)


def success(details: dict[str, Any] | None = None, *, code: int = 0) -> dict[str, Any]:
    """The metav1.Status of an action or a deletion that left nothing to show. `code`: as the action's answer has it."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    if code:
        status["code"] = code
    return status


def _qualified(kind: str, group: str) -> str:
    return f"{kind}.{group}" if group else kind


def _details(resource: str, name: str, group: str = "") -> dict[str, Any]:
    """metav1.StatusDetails of `plural`, `plural.group` or a kind with its group apart; empty fields are left out."""
    kind, _, rest = resource.partition(".")
    found = {"name": name, "group": group or rest, "kind": kind}
    return {key: value for key, value in found.items() if value}
