"""docs/metrics.md names, page by page, every family that the node may serve, and none besides.

Those of /metrics are read from the sources of the processes that answer for it: a family is served once it has a
sample, and some wait long for one.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.probes.metrics import ProbeMetrics
from bridge.stats import cadvisor
from vkcri.kubelet import resource
from vkcri.metrics import Metrics

ROOT = Path(__file__).resolve().parents[4]
COUNTING = ("bridge", "vkcri/kubelet", "vkcri/proxy", "vkcri/watcher")
MAKERS = ("counter", "histogram", "gauge", "gauges")
PREFIXED = re.compile(r"((?:kubelet|vkcri|rest_client|storage_operation)_[a-z0-9_]*[a-z0-9])(?=[ {]|$)")
WATCHERS = re.compile(r"(?:metrics\.(?:count|gauge|observe)|^_line)$")  # these add a prefix, observe an end, too
NAMED = re.compile(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`")


def documented(page: str) -> list[str]:
    sections = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").split("\n## `")
    return NAMED.findall(next(text for text in sections if text.startswith(f"{page}`")))


def in_sources() -> Iterator[str]:
    for package in COUNTING:
        for path in sorted((ROOT / package).rglob("*.py")):
            if not {"pb", "probes"} & set(path.relative_to(ROOT).parts):
                yield from in_source(path.read_text(encoding="utf-8"), watcher=package == "vkcri/watcher")


def in_source(text: str, *, watcher: bool) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := PREFIXED.match(node.value)):
            yield found[1]
        if isinstance(node, ast.Call) and node.args:
            yield from made_by(ast.unparse(node.func), node.args[0], watcher=watcher)


def made_by(function: str, name: ast.expr, *, watcher: bool) -> Iterator[str]:
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return
    if watcher and WATCHERS.search(function):
        yield f"vkcri_watcher_{name.value}{'_seconds' if function.endswith('observe') else ''}"
    elif function.rpartition(".")[2] in MAKERS:
        yield name.value


def families(text: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def of_the_process() -> set[str]:
    metrics = Metrics()
    metrics.count_process()
    return families(metrics.text())


def of_probes() -> set[str]:
    metrics = ProbeMetrics(0.0)
    pod = {"metadata": {"namespace": "default", "name": "p", "uid": "u"}}
    metrics.count(pod, "c", "liveness", passed=True, seconds=0.1)
    return families(metrics.text())


@pytest.mark.parametrize("page", ["/metrics", "/metrics/resource", "/metrics/probes", "/metrics/cadvisor"])
def test_no_family_is_named_twice_on_a_page(page: str) -> None:
    names = documented(page)
    assert sorted(names) == sorted(set(names))


def test_those_of_metrics_are_what_the_processes_count() -> None:
    claims = {family.name for family in resource.volume_families({})}
    assert set(documented("/metrics")) == {*in_sources(), *of_the_process(), *claims}


def test_those_of_the_other_pages_are_what_is_made_there() -> None:
    machine = cadvisor.Machine(cpus=1, memory=1, swap=0)
    assert set(documented("/metrics/cadvisor")) == {family.name for family in cadvisor.families([], machine, {})}
    assert set(documented("/metrics/resource")) == {family.name for family in resource.families(None)}
    assert set(documented("/metrics/probes")) == of_probes()


def test_a_name_is_found_however_it_is_made() -> None:
    source = """
metrics.registry.gauge("kubelet_a", about, read); metrics.gauge("b", read); self._metrics.observe("c", 1.0)
registry.counter("d_total", about); lines = [f'vkcri_e{{topic="x"}} {1}', "vkcri_f 1"]; settings.kubelet_port
"""
    found = {"kubelet_a", "vkcri_watcher_b", "vkcri_watcher_c_seconds", "d_total", "vkcri_e", "vkcri_f"}
    assert set(in_source(source, watcher=True)) == found
