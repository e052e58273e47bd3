"""The bridge's registry, and the kubelet's metrics in it."""

import threading

import pytest

from bridge.kubelet_metrics import KubeletMetrics, containers_by_state, operation_type, running_pods
from bridge.pb.runtime.v1 import api_pb2
from bridge.relist import Box, Listing
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
    counts.describe_node("n1", 2, listing, lambda: 1700000000.5, lambda: {False: 3, True: 1})
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
    counts.runtime_call("ListContainers", 0.003, False)
    counts.runtime_call("ListContainers", 0.1, True)
    counts.relisted(10.0, 0.02)
    counts.relisted(11.0, 0.02)
    counts.started_containers.add("container")
    page = metrics.text()
    assert value(page, 'kubelet_runtime_operations_total{operation_type="list_containers"}') == 2
    assert value(page, 'kubelet_runtime_operations_errors_total{operation_type="list_containers"}') == 1
    assert value(page, 'kubelet_runtime_operations_duration_seconds_count{operation_type="list_containers"}') == 2
    assert value(page, "kubelet_pleg_relist_duration_seconds_count") == 2
    assert value(page, "kubelet_pleg_relist_interval_seconds_sum") == 1
    assert value(page, 'kubelet_started_containers_total{container_type="container"}') == 1
