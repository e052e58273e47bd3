"""Calls into the runtime, what they cost and how they fail; sandboxes among them, and the relists."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from vkcri.errors import VkcriError
from vkcri.metrics import Metrics

_OPERATIONS = tuple(0.005 * 2.5**power for power in range(14))
_WORD = re.compile(r"(?<!^)(?=[A-Z])")
_NAMES = {"update_container_resources": "update_container"}  # the kubelet's word, which is not the method's


class RuntimeMetrics:
    """Thread-safe, but for `relisted`, which one thread calls."""

    def __init__(self, metrics: Metrics) -> None:
        self._calls = metrics.counter(
            "kubelet_runtime_operations_total",
            "Cumulative number of runtime operations by operation type.",
            "operation_type",
        )
        self._seconds = metrics.histogram(
            "kubelet_runtime_operations_duration_seconds",
            "Duration in seconds of runtime operations. Broken down by operation type.",
            "operation_type",
            bounds=_OPERATIONS,
        )
        self._errors = metrics.counter(
            "kubelet_runtime_operations_errors_total",
            "Cumulative number of runtime operation errors by operation type.",
            "operation_type",
        )
        self._sandbox_seconds = metrics.histogram(
            "kubelet_run_podsandbox_duration_seconds",
            "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
            "runtime_handler",
        )
        self._sandbox_errors = metrics.counter(
            "kubelet_run_podsandbox_errors_total",
            "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
            "runtime_handler",
        )
        self._relists = metrics.histogram(
            "kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG."
        )
        self._relist_intervals = metrics.histogram(
            "kubelet_pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG."
        )
        self._last_relist: float | None = None

    def called(self, method: str, seconds: float, failed: bool) -> None:
        """One CRI call. method: CRI's own name, such as RunPodSandbox."""
        operation = operation_type(method)
        self._calls.add(operation)
        self._seconds.observe(seconds, operation)
        if failed:
            self._errors.add(operation)

    @contextmanager
    def running_sandbox(self, handler: str) -> Iterator[None]:
        """Around the start of a sandbox by that runtime handler; its failure counts as an error."""
        with self._sandbox_seconds.time(handler):
            try:
                yield
            except VkcriError:
                self._sandbox_errors.add(handler)
                raise

    def relisted(self, began: float, seconds: float) -> None:
        """One reading of the runtime that began then (any clock, always the same one)."""
        if self._last_relist is not None:
            self._relist_intervals.observe(began - self._last_relist)
        self._last_relist = began
        self._relists.observe(seconds)


def operation_type(method: str) -> str:
    """The kubelet's word for a CRI method: RunPodSandbox is run_podsandbox."""
    found = _WORD.sub("_", method).lower().replace("pod_sandbox", "podsandbox")
    return _NAMES.get(found, found)
