"""The provider's requests about use: `stats` (the kubelet's Summary), `container-metrics` (cAdvisor's page), `usage`
(a short history for people) and `running-pods`.

Each runs on its connection's own thread, and never for longer than its request has: a runtime that hangs must not
gather the threads of all who ask. What was made of `stats` and `container-metrics` is kept until the next round of
samples, and whoever asks while it is being made waits for it or for its failure, so that ten scrapers cost as one: the
numbers would be the same. Nor are they sent to who has them already (`unless`). `usage` and `running-pods`, which
people ask for, are made for each request.
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.stats import cadvisor, summary
from bridge.stats.gather import Gatherer, device_name, machine
from bridge.stats.inventory import Box
from bridge.stats.samples import PERIOD
from vkcri.api import exposition
from vkcri.errors import Unavailable
from vkcri.queue import Publisher

Body = Mapping[str, Any]
USED = 0.9  # of the seconds that a request has; the rest is for the answer's way
SAME = b"null"
"""The answer to who holds it: his `unless` is its SHA-256 in hexadecimal."""


@dataclass
class _Kept:
    """One answer and the round that it was made in; or when it failed last (monotonic) and why."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    round: int = -1
    until: float = 0.0
    value: bytes = b""
    digest: str = ""
    failed_at: float = 0.0
    failure: str = ""


class StatsAnswers:
    """serve() registers all of them. rounds(): how many rounds of samples there were."""

    def __init__(self, gatherer: Gatherer, rounds: Callable[[], int]) -> None:
        self._gatherer = gatherer
        self._rounds = rounds
        self._kept: dict[str, _Kept] = {name: _Kept() for name in ("summary", "brief", "cadvisor")}

    def serve(self, publisher: Publisher) -> None:
        publisher.serve("stats", self.stats)
        publisher.serve("container-metrics", self.container_metrics)
        publisher.serve("usage", self.usage)
        publisher.serve("running-pods", self.running_pods)

    def stats(self, body: Body, seconds: float) -> bytes:
        """The Summary, or with {"onlyCPUAndMemory": true} the brief one. Times have nanoseconds. Raises Unavailable."""
        if body.get("onlyCPUAndMemory"):
            return self._once("brief", body, seconds, lambda left: summary.brief(*self._gatherer.brief(left)))
        return self._once("summary", body, seconds, lambda left: summary.summary(*self._gatherer.whole(left)))

    def container_metrics(self, body: Body, seconds: float) -> bytes:
        """{"text"}: cAdvisor's metrics of this node; while the runtime cannot be asked, that it cannot."""
        try:
            return self._once("cadvisor", body, seconds, self._cadvisor)
        except Unavailable:
            return json.dumps({"text": exposition.text(cadvisor.failed())}).encode()

    def usage(self, body: Body, seconds: float) -> dict[str, Any]:
        """As Gatherer.histories."""
        del body
        return self._gatherer.histories(seconds * USED)

    def running_pods(self, body: Body, seconds: float) -> dict[str, Any]:
        """{"items": [Pod, ...]} of metadata and containers' names and images: what runs, whoever wants it."""
        del body
        found = self._gatherer.boxes(seconds * USED)
        return {"items": [_running_pod(box) for box in found if box.ready or box.containers]}

    def _cadvisor(self, seconds: float) -> dict[str, str]:
        found = self._gatherer.cgroups(seconds)
        devices = {each.device: device_name(each.device) for use in found for each in use.detail.devices}
        return {"text": exposition.text(cadvisor.families(found, machine(), devices))}

    def _once(self, name: str, body: Body, seconds: float, make: Callable[[float], Any]) -> bytes:
        """What make(seconds) gives, as JSON, once a round; SAME where the body names just that. Raises Unavailable, too
        where somebody else is still at it when the seconds are over."""
        kept, asked = self._kept[name], time.monotonic()
        until = asked + seconds * USED
        if not kept.lock.acquire(timeout=max(0.0, until - asked)):
            raise Unavailable(f"{name}: nobody who asked before has an answer yet")
        try:
            if kept.failed_at >= asked:
                raise Unavailable(kept.failure)
            if not kept.value or kept.round != self._rounds() or time.monotonic() >= kept.until:
                self._make(kept, lambda: make(until - time.monotonic()))
            return SAME if body.get("unless") == kept.digest else kept.value
        finally:
            kept.lock.release()

    def _make(self, kept: _Kept, make: Callable[[], Any]) -> None:
        """Whoever waits gets a failure too; whoever asks later tries anew. Its lock is held."""
        kept.value = b""
        kept.round, kept.until = self._rounds(), time.monotonic() + PERIOD
        try:
            kept.value = json.dumps(make(), separators=(",", ":")).encode()
            kept.digest = hashlib.sha256(kept.value).hexdigest()
        except Unavailable as error:
            kept.failed_at, kept.failure = time.monotonic(), str(error)
            raise


def _running_pod(box: Box) -> dict[str, Any]:
    """As the kubelet's Pod.ToAPIPod."""
    containers = [{"name": item.name, "image": item.image, "resources": {}} for item in box.containers]
    return {
        "metadata": {"name": box.pod, "namespace": box.namespace, "uid": box.uid},
        "spec": {"containers": containers or None},  # null for none, as Go writes it
        "status": {},
    }
