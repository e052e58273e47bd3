"""Prometheus' text format."""

import math

import pytest

from vkcri.api.exposition import Family, Sample, histogram, labels, number, text


def test_family_has_its_head_once_and_samples_with_labels_and_times() -> None:
    samples = [Sample(1.5, labels({"pod": "a", "note": 'x"\\\n'}), 1700000000123), Sample(2)]
    assert text([Family("things_total", "counter", "About\nthings.", samples)]).splitlines() == [
        "# HELP things_total About\\nthings.",
        "# TYPE things_total counter",
        'things_total{pod="a",note="x\\"\\\\\\n"} 1.5 1700000000123',
        "things_total 2",
    ]


def test_family_without_samples_is_left_out() -> None:
    assert text([Family("a", "gauge", "A.", [])]) == ""


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0, "0"),
        (3.0, "3"),
        (0.1, "0.1"),
        (1764052300.25, "1764052300.25"),
        (10.0**18, "1e+18"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_number_is_the_shortest_that_reads_back(value: float, wanted: str) -> None:
    assert number(value) == wanted
    assert math.isnan(value) or float(wanted) == value


def test_histogram_is_cumulative_and_ends_with_infinity() -> None:
    lines = text([Family("h", "histogram", "H.", histogram([1, 0, 2], [0.5, 1], 7.5, 'a="b"'))]).splitlines()
    assert lines[2:] == [
        'h_bucket{a="b",le="0.5"} 1',
        'h_bucket{a="b",le="1"} 1',
        'h_bucket{a="b",le="+Inf"} 3',
        'h_sum{a="b"} 7.5',
        'h_count{a="b"} 3',
    ]
