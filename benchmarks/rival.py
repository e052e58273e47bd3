"""vkcri against the real kubelet and kube-proxy: `make bench RIVAL=1`, or `python -m benchmarks rival`.

Both are nodes of one real control plane on this guest, each on a containerd of its own, of the same version. In every
round both do the same work, in random order, so that they meet the same machine; figures are medians, and the ratio is
what counts: below 1 vkcri is better. Programs that are missing are built first. FIGURES='logs|exec' takes some of them
alone, by a regular expression on the words that it prints while it measures.
"""

import datetime
import os
import random
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence

from benchmarks._measures import BURST, IDLE_PODS, Contender, Work
from bridge import containerd
from tests import instances
from tests.cluster.control import claimed
from tests.cluster.rival import Rival
from tests.flow.live import LiveNode
from tests.flow.planes import Place
from vkcri.config import RuntimeSettings

ROUNDS = 11
BURSTS = 3
REPEATS = 21
Samples = dict[str, dict[str, list[float]]]
_SECONDS, _PERCENT, _MEGABYTES = "ms", "%", "MB"


def main() -> None:
    """Print the table. Leaves nothing on the guest but what was built."""
    with claimed() as cluster, instances.claimed("bench", instances.FLOW_NUMBERS) as instance:
        cluster.start()
        rival = Rival(cluster)
        environment = {"KUBECONFIG": str(cluster.node_kubeconfig(instance.name)), "VKUBELET_DISABLE_TAINT": "true"}
        node = LiveNode(instance.name, Place(cluster.admin_kubeconfig, cluster.server, environment=environment))
        node.reset()
        rival.stop()  # of a run that was killed
        try:
            _say(f"starting the kubelet and vkcri as nodes of {cluster.server}")
            rival.start()
            node.up()
            work = Work(cluster.client(), cluster.admin_kubeconfig)
            ours = Contender(node.name, lambda: _our_pids(node))
            theirs = Contender(rival.node, lambda: _their_pids(rival))
            print(_table(_measure(work, ours, theirs), cluster.version))
        finally:
            node.reset()
            rival.stop()


def _measure(work: Work, ours: Contender, theirs: Contender) -> Samples:
    """All samples, by figure and node."""
    samples: Samples = {}

    wanted = re.compile(os.environ.get("FIGURES", ""))

    def take(what: str, rounds: int, measure: Callable[[Contender], Mapping[str, Sequence[float]]]) -> None:
        if not wanted.search(what) and what != "warming up":
            return
        for number in range(rounds):
            _say(f"{what}, round {number + 1} of {rounds}")
            for key, node in random.sample((("vkcri", ours), ("kubelet", theirs)), 2):
                for figure, values in measure(node).items():
                    samples.setdefault(figure, {}).setdefault(key, []).extend(values)

    take("warming up", 1, lambda node: {"": [work.create_to_ready(node)]})  # both warm, and thrown away
    samples.clear()
    take("create to Ready", ROUNDS, lambda node: {"create to Ready": [work.create_to_ready(node)]})
    take("exit to status", ROUNDS, lambda node: {"exit to status": [work.exit_to_status(node)]})
    take("delete to gone", ROUNDS, lambda node: {"delete to gone": [work.delete_to_gone(node)]})
    take("burst", BURSTS, lambda node: {f"burst of {BURST} pods to Ready": [work.burst(node)]})
    take("exec", 1, lambda node: {"kubectl exec true": work.execs(node, REPEATS)})
    take("logs", 1, lambda node: work.logs(node, ROUNDS))
    take("follow", 1, lambda node: {"follow lag": work.follow_lag(node, REPEATS)})
    take("at rest", 1, lambda node: _at_rest(work, node))
    return samples


def _at_rest(work: Work, node: Contender) -> Mapping[str, Sequence[float]]:
    found = work.at_rest(node)
    return {
        f"CPU of a core with {IDLE_PODS} idle pods": [found["cpu"]],
        "  and of its containerd": [found["containerd"]],
        f"PSS with {IDLE_PODS} pods": [found["pss"]],
    }


def _table(samples: Samples, version: str) -> str:
    """A row a figure: medians of both, their ratio, and of how many samples each."""
    today = datetime.datetime.now(datetime.UTC).date()
    title = f"vkcri and the kubelet with kube-proxy {version} ({today}; medians, in random order)"
    rows = [title, f"{'':40}{'vkcri':>10}{'kubelet':>12}{'ratio':>8}{'of':>5}"]
    for figure, sides in samples.items():
        ours, theirs = (statistics.median(sides[key]) for key in ("vkcri", "kubelet"))
        ratio = f"{ours / theirs:.2f}" if theirs else "-"
        unit = _unit(figure)
        cells = f"{_shown(ours, unit):>10}{_shown(theirs, unit):>12}{ratio:>8}{len(sides['vkcri']):>5}"
        rows.append(f"{figure:40}{cells}")
    return "\n".join(rows)


def _unit(figure: str) -> str:
    if "PSS" in figure:
        return _MEGABYTES
    return _PERCENT if "CPU" in figure or "containerd" in figure else _SECONDS


def _shown(value: float, unit: str) -> str:
    if unit == _SECONDS:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} %" if unit == _PERCENT else f"{value:.0f} MB"


def _say(line: str) -> None:
    """Progress, beside the table."""
    print(f"rival: {line}", file=sys.stderr, flush=True)


def _our_pids(node: LiveNode) -> Mapping[str, Sequence[int]]:
    programs = [node.pid(name) for name in node.programs if name != "containerd"]
    return {"node": [node.supervisord_pid(), *programs], "containerd": [node.pid("containerd")]}


def _their_pids(rival: Rival) -> Mapping[str, Sequence[int]]:
    runtime = containerd.our_pid(RuntimeSettings(instance=rival.settings.instance))
    assert runtime is not None
    return {"node": [rival.pid("kubelet"), rival.pid("kube-proxy")], "containerd": [runtime]}
