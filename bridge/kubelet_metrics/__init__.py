"""The kubelet's own metrics of this node, under its names: what dashboards of a kubelet's /metrics look at.

Counted where the thing happens. A module a subject: runtime (calls, relists, sandboxes), resources (images, volumes,
cgroups), starts (pods and containers), node (what it has, and what it refuses or ends). Source:
pkg/kubelet/metrics/metrics.go.
"""

from bridge.kubelet_metrics.node import NodeMetrics
from bridge.kubelet_metrics.resources import ResourceMetrics
from bridge.kubelet_metrics.runtime import RuntimeMetrics
from bridge.kubelet_metrics.starts import CONTAINER_TYPES, StartMetrics
from vkcri.metrics import Metrics

__all__ = ["CONTAINER_TYPES", "KubeletMetrics"]


class KubeletMetrics:
    """What the bridge's parts count into, by subject. Thread-safe."""

    def __init__(self, metrics: Metrics) -> None:
        self.runtime = RuntimeMetrics(metrics)
        self.resources = ResourceMetrics(metrics)
        self.starts = StartMetrics(metrics)
        self.node = NodeMetrics(metrics)
