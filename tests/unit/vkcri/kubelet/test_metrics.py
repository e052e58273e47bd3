"""One page of many processes' metrics."""

from vkcri.kubelet.metrics import Counters, join


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
    text = counters.text({"g": ("A gauge.", 3)})
    assert 'vkcri_http_requests_total{server="kubelet",route="/odd\\"route",code="200"} 2\n' in text
    assert "# TYPE g gauge\ng 3\n" in text
    assert "# TYPE process_cpu_seconds_total counter\n" in text
    assert "# TYPE process_resident_memory_bytes gauge\n" in text
