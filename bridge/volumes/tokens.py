"""Bound service-account tokens: asked for over the queue, kept until 80 % of their life, found again on disk after a
restart.

Thread-safe: pods' workers share it. A token is never logged; the only copy outside memory is the file on tmpfs.
"""

import base64
import binascii
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.volumes.source import Tokens
from vkcri.api import pods, times
from vkcri.errors import Unavailable, VkcriError

DEFAULT_SECONDS = 3600
MAX_AGE = 24 * 3600.0
REFRESH_AT = 0.8
_RETRY = 30.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Token:
    text: bytes
    expires: float
    due: float


class TokenCache:
    """One entry a pod, file and request. `fetch` is the queue request "token"; `now` gives seconds since the epoch."""

    def __init__(self, fetch: Tokens, now: Callable[[], float]) -> None:
        self._fetch = fetch
        self._now = now
        self._lock = threading.Lock()
        self._tokens: dict[str, dict[str, _Token]] = {}

    def get(self, pod: pods.Pod, source: Mapping[str, Any], path: Path) -> bytes:
        """The token for a serviceAccountToken projection whose file is `path`: a new one once 80 % of its life (at most
        24 h) is over. A refresh that fails keeps the old one while it is valid. Raises the request's error."""
        body = _request(pod, source)
        key = f"{path}:{json.dumps(body, sort_keys=True)}"
        known = self._known(pods.uid(pod), key) or self._on_disk(path, body)
        now = self._now()
        if known is None or now >= known.due:
            known = self._renewed(body, known, f"{pods.full_name(pod)} {path.name}")
        with self._lock:
            self._tokens.setdefault(pods.uid(pod), {})[key] = known
        return known.text

    def due(self, uid: str) -> float | None:
        """When the pod's next refresh is due, in seconds since the epoch; None where it has no token."""
        with self._lock:
            return min((token.due for token in self._tokens.get(uid, {}).values()), default=None)

    def forget(self, uid: str) -> None:
        with self._lock:
            self._tokens.pop(uid, None)

    def _known(self, uid: str, key: str) -> _Token | None:
        with self._lock:
            return self._tokens.get(uid, {}).get(key)

    def _renewed(self, body: dict[str, Any], old: _Token | None, what: str) -> _Token:
        started = self._now()
        try:
            answer = self._fetch(body)
            expires = times.to_epoch(str(answer["expirationTimestamp"]))
            return _token(str(answer["token"]).encode(), started, expires)
        except (VkcriError, KeyError) as error:
            if old is None or started >= old.expires:
                if isinstance(error, VkcriError):
                    raise
                raise Unavailable(f"the token's owner sent no {error}") from error
            _log.warning("token of %s could not be refreshed, keeping the old one: %s", what, error)
            return _Token(old.text, old.expires, started + _RETRY)

    def _on_disk(self, path: Path, body: dict[str, Any]) -> _Token | None:
        """The token that an earlier run wrote, if it is still good and for the same audiences."""
        try:
            text = path.read_bytes()
            claims = json.loads(_decode(text.split(b".")[1]))
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except (OSError, IndexError, KeyError, ValueError, TypeError, binascii.Error):
            return None
        audiences = claims.get("aud")
        if body["audiences"] and sorted(body["audiences"]) != sorted(audiences if audiences else []):
            return None
        return _token(text, issued, expires) if self._now() < expires else None


def _request(pod: pods.Pod, source: Mapping[str, Any]) -> dict[str, Any]:
    audience = source.get("audience")
    return {
        "namespace": pods.namespace(pod),
        "serviceAccount": pods.service_account(pod),
        "audiences": [audience] if audience else [],
        "expirationSeconds": int(source.get("expirationSeconds") or DEFAULT_SECONDS),
        "podName": pods.name(pod),
        "podUID": pods.uid(pod),
    }


def _token(text: bytes, issued: float, expires: float) -> _Token:
    """Due at 80 % of its life, at the latest after a day; a few seconds apart by its content, so that the tokens of a
    node that started together are not renewed together."""
    spread = int.from_bytes(hashlib.sha256(text).digest()[:2]) / 0xFFFF * min(10.0, (expires - issued) * 0.02)
    return _Token(text, expires, issued + min((expires - issued) * REFRESH_AT, MAX_AGE) - spread)


def _decode(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
