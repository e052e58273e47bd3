"""The provider's requests about use: `stats` (the kubelet's Summary), `container-metrics` (cAdvisor's page), `usage`
(a short history for people) and `running-pods`.

Each runs on its connection's own thread. What was made is kept until the next round of samples, and whoever asks while
it is being made waits for it, so that ten scrapers cost as one: the numbers would be the same.
"""

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


@dataclass
class _Kept:
    """One answer and the round that it was made in."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    round: int = -1
    until: float = 0.0
    value: bytes = b""


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
        del seconds
        if body.get("onlyCPUAndMemory"):
            return self._once("brief", lambda: summary.brief(*self._gatherer.brief()))
        return self._once("summary", lambda: summary.summary(*self._gatherer.whole()))

    def container_metrics(self, body: Body, seconds: float) -> bytes:
        """{"text"}: cAdvisor's metrics of this node; while the runtime cannot be asked, that it cannot."""
        del body, seconds
        try:
            return self._once("cadvisor", self._cadvisor)
        except Unavailable:
            return json.dumps({"text": exposition.text(cadvisor.failed())}).encode()

    def usage(self, body: Body, seconds: float) -> dict[str, Any]:
        """As Gatherer.histories."""
        del body, seconds
        return self._gatherer.histories()

    def running_pods(self, body: Body, seconds: float) -> dict[str, Any]:
        """{"items": [Pod, ...]} of metadata and containers' names and images: what runs, whoever wants it."""
        del body, seconds
        return {"items": [_running_pod(box) for box in self._gatherer.boxes() if box.ready or box.containers]}

    def _cadvisor(self) -> dict[str, str]:
        found = self._gatherer.cgroups()
        devices = {each.device: device_name(each.device) for use in found for each in use.detail.devices}
        return {"text": exposition.text(cadvisor.families(found, machine(), devices))}

    def _once(self, name: str, make: Callable[[], Any]) -> bytes:
        """What make() gives, as JSON, once a round."""
        kept = self._kept[name]
        with kept.lock:
            if not kept.value or kept.round != self._rounds() or time.monotonic() >= kept.until:
                kept.value = b""  # a failure is not kept, and neither is what was made before it
                kept.round, kept.until = self._rounds(), time.monotonic() + PERIOD
                kept.value = json.dumps(make(), separators=(",", ":")).encode()
            return kept.value


def _running_pod(box: Box) -> dict[str, Any]:
    """As the kubelet's Pod.ToAPIPod."""
    return {
        "metadata": {"name": box.pod, "namespace": box.namespace, "uid": box.uid},
        "spec": {"containers": [{"name": item.name, "image": item.image, "resources": {}} for item in box.containers]},
        "status": {},
    }
