"""Prometheus' text format, version 0.0.4: metric families as text. Pure.

Samples carry their labels as text already (`labels`), since a page of thousands of them uses each set many times.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Kind = Literal["counter", "gauge", "histogram", "untyped"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. `labels` is what `labels()` made; `millis` its time since the epoch; `suffix` follows the family's
    name (_bucket, _sum, _count)."""

    value: float
    labels: str = ""
    millis: int | None = None
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """All samples of one name."""

    name: str
    kind: Kind
    about: str
    samples: Sequence[Sample]


def text(families: Iterable[Family]) -> str:
    """The page; a family without samples is left out, as Prometheus' own clients do."""
    lines: list[str] = []
    for family in families:
        if not family.samples:
            continue
        about = family.about.replace("\\", "\\\\").replace("\n", "\\n")
        lines += [f"# HELP {family.name} {about}", f"# TYPE {family.name} {family.kind}"]
        for sample in family.samples:
            braces = f"{{{sample.labels}}}" if sample.labels else ""
            stamp = "" if sample.millis is None else f" {sample.millis}"
            lines.append(f"{family.name}{sample.suffix}{braces} {number(sample.value)}{stamp}")
    return "\n".join(lines) + "\n" if lines else ""


def labels(values: Mapping[str, str]) -> str:
    """name="value" pairs in the mapping's order, values escaped."""
    return ",".join(f'{name}="{escape(value)}"' for name, value in values.items())


def escape(value: str) -> str:
    """A label's value as it stands between quotes."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    whole = int(value) if value == value and abs(value) < 1e15 else None
    if whole is not None and whole == value:
        return str(whole)
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(found := repr(float(value)), found)


def histogram(counts: Sequence[int], bounds: Sequence[float], total: float, own: str) -> list[Sample]:
    """A histogram's samples. counts: observations in each bucket, the last one beyond the last bound; own: the labels
    of the series."""
    samples, seen = [], 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        seen += count
        edge = f'{own},le="{number(bound)}"' if own else f'le="{number(bound)}"'
        samples.append(Sample(seen, edge, suffix="_bucket"))
    return [*samples, Sample(total, own, suffix="_sum"), Sample(seen, own, suffix="_count")]
