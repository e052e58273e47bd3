"""A small world for volumes: objects that may change, a token issuer, a clock that is set by hand."""

import base64
import json
from typing import Any

from bridge.volumes import Volumes
from vkcri.api import times
from vkcri.config import RuntimeSettings
from vkcri.errors import Unavailable


class World:
    """What Volumes draws on. `objects` holds bytes by key; an absent key means that nothing is known yet."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self.settings = settings
        self.objects: dict[str, bytes] = {}
        self.now = 1_800_000_000.0
        self.requests: list[dict[str, Any]] = []
        self.issuer_is_away = False

    def volumes(self) -> Volumes:
        """A new Volumes, as after a restart of the bridge."""
        node = {"status": {"allocatable": {"cpu": "2", "memory": "1Gi"}}}
        return Volumes(self.settings, self.objects.get, self.token, now=lambda: self.now, node=lambda: node)

    def token(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.issuer_is_away:
            raise Unavailable("api-watcher is away")
        self.requests.append(body)
        expires = self.now + body["expirationSeconds"]
        claims = {
            "iat": int(self.now),
            "exp": int(expires),
            "aud": body["audiences"] or ["api"],
            "n": len(self.requests),
        }
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        return {"token": f"head.{payload}.sign", "expirationTimestamp": times.seconds(int(expires) * times.NANO)}

    def config_map(self, name: str, data: dict[str, str], **fields: Any) -> None:
        self.objects[f"configmaps/shop/{name}"] = json.dumps({"data": data, **fields}).encode()

    def secret(self, name: str, data: dict[str, bytes], **fields: Any) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.objects[f"secrets/shop/{name}"] = json.dumps({"data": encoded, **fields}).encode()

    def pod(self, *volumes: dict[str, Any], **spec: Any) -> dict[str, Any]:
        metadata = {"name": "web", "namespace": "shop", "uid": "uid-1", "labels": {"b": "2", "a": '1"\n'}}
        spec = {"containers": [{"name": "app"}], "serviceAccountName": "robot", **spec}
        return {"metadata": metadata, "spec": {"volumes": list(volumes), **spec}}
