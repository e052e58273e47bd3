"""The bridge's registry, and the kubelet's metrics in it."""

import threading
from typing import Any

import pytest

from bridge.kubelet_metrics import KubeletMetrics
from bridge.kubelet_metrics.node import containers_by_state, running_pods
from bridge.kubelet_metrics.runtime import operation_type
from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Box, Listing
from bridge.startup import Started
from vkcri.errors import Unavailable
from vkcri.metrics import Metrics


def value(page: str, sample: str) -> float:
    """The value of a sample, given as it stands before it."""
    return next(float(line.removeprefix(sample)) for line in page.splitlines() if line.startswith(f"{sample} "))


def test_counts_of_many_threads_are_all_there() -> None:
    metrics = Metrics()
    counter, seconds = metrics.counter("c_total", "C.", "kind"), metrics.histogram("s", "S.", bounds=(1.0, 2.0))

    def count() -> None:
        for _ in range(1000):
            counter.add("a")
            seconds.observe(2.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    page = metrics.text()
    assert value(page, 'c_total{kind="a"}') == 4000
    assert [value(page, f's_bucket{{le="{bound}"}}') for bound in ("1", "2", "+Inf")] == [0, 4000, 4000]
    assert value(page, "s_sum") == 8000


def test_name_is_taken_once() -> None:
    metrics = Metrics()
    metrics.counter("c_total", "C.")
    with pytest.raises(ValueError, match="c_total"):
        metrics.gauge("c_total", "C.", lambda: 1.0)


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("RunPodSandbox", "run_podsandbox"),
        ("ListPodSandboxStats", "list_podsandbox_stats"),
        ("UpdateContainerResources", "update_container"),
        ("ExecSync", "exec_sync"),
        ("ImageFsInfo", "image_fs_info"),
    ],
)
def test_runtime_operations_have_the_kubelets_names(method: str, wanted: str) -> None:
    assert operation_type(method) == wanted


def listing() -> Listing:
    ready, gone = api_pb2.SANDBOX_READY, api_pb2.SANDBOX_NOTREADY
    running, exited = api_pb2.CONTAINER_RUNNING, api_pb2.CONTAINER_EXITED
    return {
        "a": frozenset({Box("1", "a", "", "1", ready, 1), Box("2", "a", "main", "1", running, 2)}),
        "b": frozenset({Box("3", "b", "", "3", gone, 1), Box("4", "b", "main", "3", exited, 2)}),
    }


def test_gauges_tell_pods_and_containers_by_state() -> None:
    assert running_pods(listing()) == 1
    assert containers_by_state(listing()) == {("running",): 1, ("exited",): 1}
    metrics = Metrics()
    counts = KubeletMetrics(metrics)
    counts.node.describe("n1", 2, listing, lambda: 1700000000.5, lambda: {False: 3, True: 1})
    page = metrics.text()
    assert value(page, 'kubelet_node_name{node="n1"}') == 1
    assert value(page, "kubelet_running_pods") == 1
    assert value(page, 'kubelet_running_containers{container_state="exited"}') == 1
    assert value(page, "kubelet_pleg_last_seen_seconds") == 1700000000.5
    assert value(page, 'kubelet_desired_pods{static="true"}') == 1
    assert value(page, "kubelet_cgroup_version") == 2


def test_runtime_calls_relists_and_starts_are_counted() -> None:
    metrics = Metrics()
    counts = KubeletMetrics(metrics)
    counts.runtime.called("ListContainers", 0.003, False)
    counts.runtime.called("ListContainers", 0.1, True)
    counts.runtime.relisted(10.0, 0.02)
    counts.runtime.relisted(11.0, 0.02)
    counts.starts.containers.add("container")
    page = metrics.text()
    assert value(page, 'kubelet_runtime_operations_total{operation_type="list_containers"}') == 2
    assert value(page, 'kubelet_runtime_operations_errors_total{operation_type="list_containers"}') == 1
    assert value(page, 'kubelet_runtime_operations_duration_seconds_count{operation_type="list_containers"}') == 2
    assert value(page, "kubelet_pleg_relist_duration_seconds_count") == 2
    assert value(page, "kubelet_pleg_relist_interval_seconds_sum") == 1
    assert value(page, 'kubelet_started_containers_total{container_type="container"}') == 1


def test_pulls_set_ups_and_sandboxes_are_counted_under_the_kubelets_labels() -> None:
    metrics = Metrics()
    counts = KubeletMetrics(metrics)
    for size in (0, 10 * 1024**2 - 1, 10 * 1024**2, 200 * 1024**3):
        counts.resources.image_pulled(size, 2.0)
    counts.resources.volume_mounted("kubernetes.io/configmap", 0.2, False)
    counts.resources.volume_mounted("kubernetes.io/configmap", 0.2, True)
    with counts.runtime.running_sandbox("kata"):
        pass
    with pytest.raises(Unavailable), counts.runtime.running_sandbox("kata"):
        raise Unavailable("no")
    page = metrics.text()
    for label, count in (("0-10MB", 2), ("10MB-100MB", 1), ("GT100GB", 1)):
        assert value(page, f'kubelet_image_pull_duration_seconds_count{{image_size_in_bytes="{label}"}}') == count
    for status in ("success", "fail-unknown"):
        own = (
            f'migrated="false",operation_name="volume_mount",status="{status}",volume_plugin="kubernetes.io/configmap"'
        )
        assert value(page, f"storage_operation_duration_seconds_count{{{own}}}") == 1
    assert value(page, 'kubelet_run_podsandbox_duration_seconds_count{runtime_handler="kata"}') == 2
    assert value(page, 'kubelet_run_podsandbox_errors_total{runtime_handler="kata"}') == 1


def test_starts_are_told_whole_and_without_pulls_and_the_first_networked_one_for_itself() -> None:
    metrics = Metrics()
    counts = KubeletMetrics(metrics)
    assert "kubelet_first_network_pod_start_sli_duration_seconds" not in metrics.text()
    for started in (
        Started(9.0, None, False),
        Started(8.0, 3.0, True),
        Started(7.0, 2.0, False),
        Started(6.0, 1.0, False),
    ):
        counts.starts.pod_started(started)
    page = metrics.text()
    assert value(page, "kubelet_pod_start_total_duration_seconds_sum") == 30
    assert value(page, "kubelet_pod_start_sli_duration_seconds_count") == 3
    assert value(page, "kubelet_first_network_pod_start_sli_duration_seconds") == 2


def test_a_container_that_ends_counts_once_by_its_exit_code_and_reason() -> None:
    def status(**states: dict[str, Any]) -> dict[str, Any]:
        return {"containerStatuses": [{"name": name, "state": state} for name, state in states.items()]}

    running = {"running": {"startedAt": "2026-11-26T00:00:00Z"}}
    crashed = {"terminated": {"exitCode": 139, "reason": "Error"}}
    metrics = Metrics()
    counts = KubeletMetrics(metrics)
    counts.node.reported(
        {}, {"initContainerStatuses": [{"name": "init", "state": {"terminated": {"reason": "Completed"}}}]}
    )
    counts.node.reported(status(a=running), status(a=crashed, b=running))
    counts.node.reported(status(a=crashed, b=running), status(a=crashed, b=crashed))
    counts.node.reported(status(a=crashed, b=crashed), status(a=running, b=crashed))
    page = metrics.text()
    ended = "kubelet_terminated_containers_total"
    assert value(page, f'{ended}{{container_type="init_container",exit_code="0",reason="Completed"}}') == 1
    assert value(page, f'{ended}{{container_type="container",exit_code="139",reason="Error"}}') == 2
