"""What the node uses, as the kubelet API tells it, from the provider's requests `stats` and `container-metrics`.

Runs on request threads. The provider makes each answer once a round of its samples; what is made of it here is kept as
long as the answer is the same, so that ten scrapers cost as one.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from vkcri.api import exposition
from vkcri.errors import Unavailable, VkcriError
from vkcri.kubelet import resource

ASK_SECONDS = 30.0
_FRACTION = re.compile(rb"(T[0-9]{2}:[0-9]{2}:[0-9]{2})\.[0-9]+Z")


class NodeUse:
    """ask(name, body, timeout): the provider's answer as JSON bytes."""

    def __init__(self, ask: Callable[[str, Mapping[str, Any], float], bytes]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._made: dict[str, tuple[bytes, str]] = {}

    def summary(self, *, brief: bool = False) -> bytes:
        """The Summary as the kubelet API serves it: its times have seconds. Raises what the provider raises."""
        return _FRACTION.sub(rb"\1Z", self._summary(brief=brief))

    def resource_metrics(self) -> str:
        """/metrics/resource; with an error of the provider, a page that says so."""
        try:
            raw = self._summary(brief=True)
        except VkcriError:
            return exposition.text(resource.families(None))
        return self._once("resource", raw, lambda found: exposition.text(resource.families(found)))

    def volume_metrics(self) -> str:
        """The claims' and logs' families of /metrics; empty where the provider has no numbers."""
        try:
            raw = self._summary(brief=False)
        except VkcriError:
            return ""
        return self._once("volumes", raw, lambda found: exposition.text(resource.volume_families(found)))

    def container_metrics(self) -> str:
        """/metrics/cadvisor. Raises what the provider raises."""
        raw = self._ask("container-metrics", {}, ASK_SECONDS)
        return self._once("cadvisor", raw, lambda found: str(found["text"]))

    def _summary(self, *, brief: bool) -> bytes:
        return self._ask("stats", {"onlyCPUAndMemory": True} if brief else {}, ASK_SECONDS)

    def _once(self, name: str, raw: bytes, make: Callable[[Any], str]) -> str:
        """make(the answer), again only where the answer is another one. Raises Unavailable for one of another shape."""
        with self._lock:
            held = self._made.get(name)
            if held is None or held[0] != raw:
                try:
                    held = self._made[name] = raw, make(json.loads(raw))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise Unavailable(f"{name}: the provider's answer is not understood: {error!r}") from error
            return held[1]
