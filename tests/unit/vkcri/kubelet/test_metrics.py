"""One page of many processes' metrics."""

from collections.abc import Iterable
from typing import Any

import pytest

from vkcri.kubelet.metrics import Counters, KubeletRequests, join, request_labels
from vkcri.metrics import Metrics


def test_samples_of_one_metric_stand_together_under_one_head() -> None:
    one = '# HELP a About a.\n# TYPE a counter\na{x="1"} 1\na 2\n# TYPE h histogram\nh_bucket{le="+Inf"} 3\nh_sum 1.5\n'
    other = "# HELP a About a.\n# TYPE a counter\na 5\nuntyped 7 1700000000000\n"
    assert join({"p": one, "q": other}).splitlines() == [
        "# HELP a About a.",
        "# TYPE a counter",
        'a{process="p",x="1"} 1',
        'a{process="p"} 2',
        'a{process="q"} 5',
        "# TYPE h histogram",
        'h_bucket{process="p",le="+Inf"} 3',
        'h_sum{process="p"} 1.5',
        'untyped{process="q"} 7 1700000000000',
    ]


def test_lines_that_are_no_metrics_are_left_out() -> None:
    assert join({"p": "rubbish\n<html>\n# a comment\n\n{} 1\n"}) == ""
    assert join({}) == ""


def test_value_with_braces_and_quotes_in_a_label_is_kept() -> None:
    line = 'a{x="}\\" {",y="2"} 1'
    assert join({"p": f"{line}\n"}) == 'a{process="p",x="}\\" {",y="2"} 1\n'


def test_counters_are_text_with_escaped_labels() -> None:
    counters = Counters()
    for _ in range(2):
        counters.count("kubelet", '/odd"route', 200)
    text = counters.text()
    assert 'vkcri_http_requests_total{server="kubelet",route="/odd\\"route",code="200"} 2\n' in text
    assert "# TYPE process_cpu_seconds_total counter\n" in text
    assert "# TYPE process_resident_memory_bytes gauge\n" in text


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/pods", ("false", "GET", "pods", "readwrite")),
        ("GET", "/metrics/cadvisor", ("false", "GET", "metrics/cadvisor", "readwrite")),
        ("GET", "/metrics/unheard-of", ("false", "GET", "other", "readwrite")),
        ("POST", "/exec/default/web/main", ("true", "POST", "exec", "readwrite")),
        ("POST", "/portForward/default/web", ("false", "POST", "portForward", "readwrite")),
        ("BREW", "/coffee", ("false", "other", "other", "readwrite")),
    ],
)
def test_no_caller_makes_series_of_its_own(method: str, path: str, labels: tuple[str, ...]) -> None:
    assert request_labels(method, path) == labels


def test_request_is_under_way_until_its_last_byte_or_its_failure() -> None:
    registry = Metrics()

    def application(environ: dict[str, Any], _start: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            raise ConnectionError("taken over")
        return iter([b"a", b"b"])

    requests: Any = KubeletRequests(application, registry)
    own = 'long_running="false",method="GET",path="pods",server_type="readwrite"'
    answer = requests({"REQUEST_METHOD": "GET", "PATH_INFO": "/pods"}, None)
    assert next(answer) == b"a"
    assert f"kubelet_http_inflight_requests{{{own}}} 1\n" in registry.text()
    assert f"kubelet_http_requests_duration_seconds_count{{{own}}}" not in registry.text()
    answer.close()
    with pytest.raises(ConnectionError):
        requests({"REQUEST_METHOD": "POST", "PATH_INFO": "/exec/a/b/c"}, None)
    text = registry.text()
    assert f"kubelet_http_inflight_requests{{{own}}} 0\n" in text
    assert f"kubelet_http_requests_duration_seconds_count{{{own}}} 1\n" in text
    assert (
        'kubelet_http_inflight_requests{long_running="true",method="POST",path="exec",server_type="readwrite"} 0'
        in text
    )
