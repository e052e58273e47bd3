"""Which credentials of the pod's imagePullSecrets fit an image, by the kubelet's keyring. Pure.

Both secret types count: kubernetes.io/dockerconfigjson and the older kubernetes.io/dockercfg. Nothing of a secret ever
stands in a message or a repr.
"""

import base64
import binascii
import fnmatch
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from vkcri.errors import Invalid

_TYPES = {
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/dockercfg": ".dockercfg",
}
_DEFAULT_REGISTRY = "index.docker.io"


@dataclass(frozen=True)
class Credentials:
    """One login. `secret` is NAMESPACE/NAME of the Secret that it came from, `uid` that Secret's."""

    username: str = field(repr=False)
    password: str = field(repr=False)
    secret: str = ""
    uid: str = ""

    @property
    def fingerprint(self) -> str:
        """Tells two logins apart without telling what they are."""
        return hashlib.sha256(json.dumps([self.username, self.password]).encode()).hexdigest()


def lookup(secrets: Sequence[Mapping[str, Any]], repository: str) -> list[Credentials]:
    """Every login that fits the repository (docker.io/library/busybox), the most specific entry first. Raises Invalid
    where a secret cannot be read."""
    entries: dict[str, list[Credentials]] = {}
    for secret in secrets:
        for key, credentials in _entries(secret):
            entries.setdefault(key, []).append(credentials)
    found = [item for key in sorted(entries, reverse=True) if matches(key, repository) for item in entries[key]]
    if not found and repository.partition("/")[0] in ("docker.io", _DEFAULT_REGISTRY):
        found = entries.get(_DEFAULT_REGISTRY, [])
    return list(dict.fromkeys(found))


def matches(key: str, repository: str) -> bool:
    """Whether an entry fits: the same port, as many host parts, each part by glob, the entry's path a prefix."""
    mine, theirs = urlsplit(f"https://{key}"), urlsplit(f"https://{repository}")
    host, port = _host(mine.netloc)
    wanted_host, wanted_port = _host(theirs.netloc)
    parts, wanted_parts = host.split("."), wanted_host.split(".")
    if port != wanted_port or len(parts) != len(wanted_parts) or not theirs.path.startswith(mine.path):
        return False
    return all(fnmatch.fnmatchcase(wanted, part) for part, wanted in zip(parts, wanted_parts, strict=True))


def _entries(secret: Mapping[str, Any]) -> Iterable[tuple[str, Credentials]]:
    """(registry key, login) of one Secret; a Secret of another type has none."""
    name = f"{secret['metadata'].get('namespace', '')}/{secret['metadata'].get('name', '')}"
    kind = str(secret.get("type") or "")
    value = (secret.get("data") or {}).get(_TYPES.get(kind, ""))
    if not value:
        return
    try:
        config = json.loads(base64.b64decode(value, validate=True))
        logins = (config.get("auths") or {}) if kind.endswith("json") else config
        for registry, login in logins.items():
            yield _key(registry), _credentials(login or {}, name, str(secret["metadata"].get("uid") or ""))
    except (binascii.Error, ValueError, AttributeError) as error:
        raise Invalid(f"image pull secret {name} is not a docker configuration") from error


def _credentials(login: Mapping[str, Any], secret: str, uid: str) -> Credentials:
    username, password = str(login.get("username") or ""), str(login.get("password") or "")
    if login.get("auth"):
        text = base64.b64decode(str(login["auth"]) + "=" * (-len(str(login["auth"])) % 4)).decode()
        username, colon, password = text.partition(":")
        if not colon:
            raise ValueError("no colon in auth")
        password = password.rstrip("\0")
    return Credentials(username, password, secret, uid)


def _key(registry: str) -> str:
    """https://HOST/v1/ and HOST are the same key."""
    written = registry if registry.startswith(("https://", "http://")) else f"https://{registry}"
    parsed = urlsplit(written)
    path = parsed.path[3:] if parsed.path.startswith(("/v1/", "/v2/")) else parsed.path
    return parsed.netloc if path in ("", "/") else f"{parsed.netloc}{path}"


def _host(netloc: str) -> tuple[str, str]:
    host, colon, port = netloc.rpartition(":")
    return (host, port) if colon and port.isdigit() else (netloc, "")
