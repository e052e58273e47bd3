"""What the node uses, as the kubelet API tells it, from the provider's requests `stats` and `container-metrics`.

Runs on request threads. The provider makes each answer once a round of its samples, and does not send again what is
held here; what is made of it, compressed or not, is kept as long as the answer is the same, so that ten scrapers cost
as one.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from vkcri.api import exposition
from vkcri.errors import Unavailable, VkcriError
from vkcri.kubelet import resource
from vkcri.kubelet.page import Page

ASK_SECONDS = 30.0
_SAME = b"null"  # the provider's answer where it would be what `unless` names
_FRACTION = re.compile(rb"(T[0-9]{2}:[0-9]{2}:[0-9]{2})\.[0-9]+Z")


class _Answer:
    """One of the provider's, and the pages made of it. Thread-safe."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.digest = hashlib.sha256(raw).hexdigest()
        self._lock = threading.Lock()
        self._pages: dict[str, Page] = {}

    def page(self, name: str, make: Callable[[bytes], bytes]) -> Page:
        """make(the answer), once. Raises Unavailable for one of another shape."""
        with self._lock:
            held = self._pages.get(name)
            if held is None:
                try:
                    held = self._pages[name] = Page(make(self.raw))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise Unavailable(f"{name}: the provider's answer is not understood: {error!r}") from error
            return held


class NodeUse:
    """ask(name, body, timeout): the provider's answer as JSON bytes."""

    def __init__(self, ask: Callable[[str, Mapping[str, Any], float], bytes]) -> None:
        self._ask = ask
        self._held: dict[str, _Answer] = {}

    def summary(self, *, brief: bool = False) -> Page:
        """The Summary as the kubelet API serves it: its times have seconds. Raises what the provider raises."""
        return self._summary(brief=brief).page("summary", lambda raw: _FRACTION.sub(rb"\1Z", raw))

    def resource_metrics(self) -> Page:
        """/metrics/resource; with an error of the provider, a page that says so."""
        try:
            answer = self._summary(brief=True)
        except VkcriError:
            return Page(exposition.text(resource.families(None)).encode())
        return answer.page("resource", lambda raw: exposition.text(resource.families(json.loads(raw))).encode())

    def volume_metrics(self) -> str:
        """The claims' and logs' families of /metrics; empty where the provider has no numbers."""
        try:
            answer = self._summary(brief=False)
        except VkcriError:
            return ""
        make = lambda raw: exposition.text(resource.volume_families(json.loads(raw))).encode()  # noqa: E731
        return answer.page("volumes", make).plain.decode()

    def container_metrics(self) -> Page:
        """/metrics/cadvisor. Raises what the provider raises."""
        answer = self._newest("cadvisor", "container-metrics", {})
        return answer.page("cadvisor", lambda raw: str(json.loads(raw)["text"]).encode())

    def _summary(self, *, brief: bool) -> _Answer:
        if brief:
            return self._newest("brief", "stats", {"onlyCPUAndMemory": True})
        return self._newest("summary", "stats", {})

    def _newest(self, name: str, request: str, body: Mapping[str, Any]) -> _Answer:
        """Asked each time, but sent only where it is another one. A provider may send it whole each time."""
        held = self._held.get(name)
        raw = self._ask(request, {**body, "unless": held.digest} if held else body, ASK_SECONDS)
        if held is not None and raw in (_SAME, held.raw):
            return held
        answer = self._held[name] = _Answer(raw)
        return answer
