"""A Kubernetes API server's refusals as errors of vkcri, sorted by what the caller does. Pure.

Three subclasses carry what the six classes of vkcri.errors cannot say; outside this package only 401 is asked for,
since credentials that nobody knows have another cure than a right that is missing.
"""

import json
from collections.abc import Mapping
from typing import Any

from vkcri.errors import Conflict, Invalid, NotFound, Refused, Unavailable, VkcriError


class Expired(Conflict):
    """410 Gone, or a version the server has not seen: the version asked for is of no use. List again."""


class Unauthenticated(Refused):
    """401: the server does not know us. Read the kubeconfig again."""


class Overloaded(Unavailable):
    """429 or 5xx; retry_after: the seconds that the server asks for, None where it says nothing."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def failure(what: str, status: int, body: bytes, headers: Mapping[str, str]) -> VkcriError:
    """The error of an answer whose HTTP status is not 2xx; `what` (METHOD path) starts its message."""
    answer = _status_object(body)
    retry_after = _seconds(headers.get("Retry-After"))
    return status_error(what, status, answer, retry_after)


def status_error(what: str, code: int, answer: Mapping[str, Any], retry_after: float | None = None) -> VkcriError:
    """The error of a metav1.Status object; `code` counts where the object has none (a watch's ERROR event has one)."""
    message = f"{what}: {answer.get('message') or answer.get('reason') or f'HTTP status {code}'}"
    causes = (answer.get("details") or {}).get("causes") or []
    if any(cause.get("reason") == "ResourceVersionTooLarge" for cause in causes):
        return Expired(message)
    if code in _CLASSES:
        return _CLASSES[code](message)
    if code == 429 or code >= 500:
        delay = (answer.get("details") or {}).get("retryAfterSeconds")
        return Overloaded(message, retry_after if retry_after is not None else _seconds(delay))
    return Invalid(message) if 400 <= code < 500 else Unavailable(message)


_CLASSES: dict[int, type[VkcriError]] = {
    401: Unauthenticated,
    403: Refused,
    404: NotFound,
    409: Conflict,
    410: Expired,
}


def _status_object(body: bytes) -> dict[str, Any]:
    """A metav1.Status from an answer's body; proxies answer with text or HTML, of which the start is the message."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {"message": body[:200].decode(errors="replace").strip()}
    return parsed if isinstance(parsed, dict) else {}


def _seconds(value: Any) -> float | None:
    """Retry-After's seconds; its other form, a date, is used by no API server."""
    try:
        return max(0.0, float(value)) if value is not None else None
    except (TypeError, ValueError):
        return None
