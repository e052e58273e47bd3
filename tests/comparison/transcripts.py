"""What a scenario meets on each of the two API servers, put side by side.

A scenario is a generator that asks one server, step by step, and yields (label, what it got). It is run on both, and
both must give the same, after what a server makes up (uids, versions, times, tokens) was replaced by what it is.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.comparison.differences import differences, plain
from tests.comparison.sides import Answer, Pair, Side

Scenario = Callable[[Side], Iterator[tuple[str, Any]]]
Allowed = Mapping[tuple[str, str], str]
"""(label, path): why the embedded server's value is another one."""

_TEXTS = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uid>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"(resource version: |current: |precondition: |object meta: |\()\d+"), r"\1<version>"),
)
_HEADERS = ("content-type", "warning")


def same(pair: Pair, scenario: Scenario, allowed: Allowed | None = None) -> None:
    """Run on both at once. Fails with every step that differs, and with each entry of `allowed` that does not."""
    with ThreadPoolExecutor(len(pair)) as both:
        ours, theirs = both.map(lambda side: list(scenario(side)), pair)
    assert [label for label, _ in ours] == [label for label, _ in theirs]
    found = {
        (label, item.path): str(item)
        for (label, one), (_, other) in zip(ours, theirs, strict=True)
        for item in differences(shown(one), shown(other))
    }
    wrong = [f"{label}: {text}" for (label, path), text in found.items() if (label, path) not in (allowed or {})]
    assert wrong == [], "\n".join(wrong)
    assert set(allowed or {}) <= found.keys(), "what is allowed to differ does not"


def shown(value: Any) -> Any:
    """A value as it is compared."""
    if isinstance(value, Answer):
        headers = {name: value.headers[name] for name in _HEADERS if name in value.headers}
        return {"code": value.code, "headers": headers, "body": shown(value.body), "warnings": list(value.warnings)}
    return _masked(plain(_listed(value)))


def _listed(value: Any) -> Any:
    """A value whose tuples, which the scenario made, are lists."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _masked(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if name == "continue" and value:
        return "<token>"
    for pattern, word in _TEXTS:
        value = pattern.sub(word, value)
    return value


def document(kind: str, name: str, version: str = "v1", **fields: Any) -> dict[str, Any]:
    """An object with that name; `labels` and `annotations` go to its metadata."""
    metadata: dict[str, Any] = {"name": name}
    metadata |= {key: fields.pop(key) for key in ("labels", "annotations", "finalizers") if key in fields}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
