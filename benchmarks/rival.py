"""vkcri against the real kubelet and kube-proxy: `make bench RIVAL=1`, or `python -m benchmarks rival`.

Both are nodes of one real control plane on this guest, each on a containerd of its own, of the same version. In every
round both do the same work, in random order, so that they meet the same machine; figures are medians, and the ratio is
what counts: below 1 vkcri is better. Exits by polling alone come after the others, since vkcri starts anew for them,
and stand beside the same samples of the kubelet. Programs that are missing are built first. FIGURES='logs|exec' takes
some of them alone, by a regular expression on the words that it prints while it measures.
"""

import datetime
import os
import random
import re
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

from benchmarks._measures import BURST, IDLE_PODS, PROBED_PODS, Work
from benchmarks._pods import Contender
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
EXITS = 200
EXITS_POLLED = 40  # of who polls: one takes about a second, up to another one apart
EXIT_ROUNDS = 4
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
            match = Match(Work(cluster.client(), cluster.admin_kubeconfig), node, rival)
            print(_table(match.measured(), cluster.version))
        finally:
            node.reset()
            rival.stop()


class Match:
    """Both nodes, and all samples so far, by figure and side."""

    def __init__(self, work: Work, node: LiveNode, rival: Rival) -> None:
        self._work = work
        self._node = node
        self.ours = Contender(node.name, lambda: _our_pids(node))
        self.theirs = Contender(rival.node, lambda: _their_pids(rival))
        self.samples: Samples = {}
        self._wanted = re.compile(os.environ.get("FIGURES", ""))

    def measured(self) -> Samples:
        """All samples, by figure and side."""
        work = self._work
        self.take("warming up", 1, lambda node: {"": [work.create_to_ready(node)]})  # both warm, and thrown away
        self.samples.clear()
        self.take("create to Ready", ROUNDS, lambda node: {"create to Ready": [work.create_to_ready(node)]})
        self.exits()
        self.take("delete to gone", ROUNDS, lambda node: {"delete to gone": [work.delete_to_gone(node)]})
        self.take("burst", BURSTS, lambda node: {f"burst of {BURST} pods to Ready": [work.burst(node)]})
        self.take("exec", BURSTS, lambda node: {"kubectl exec true": work.execs(node, REPEATS // BURSTS)})
        self.take("logs", 1, lambda node: work.logs(node, ROUNDS))
        self.take("follow", 1, lambda node: {"follow lag": work.follow_lag(node, REPEATS)})
        self.take("at rest", 1, lambda node: _at_rest(work, node))
        self.probes()
        return self.samples

    def take(self, what: str, rounds: int, measure: Callable[[Contender], Mapping[str, Sequence[float]]]) -> None:
        """So many rounds of it, in random order in each."""
        if not self._wanted.search(what) and what != "warming up":
            return
        for number in range(rounds):
            _say(f"{what}, round {number + 1} of {rounds}")
            for side, node in random.sample((("vkcri", self.ours), ("kubelet", self.theirs)), 2):
                for figure, values in measure(node).items():
                    self.add(figure, side, values)

    def add(self, figure: str, side: str, values: Sequence[float]) -> None:
        self.samples.setdefault(figure, {}).setdefault(side, []).extend(values)

    def exits(self) -> None:
        """From a container's end to its status: ours by events and by polling alone, and the kubelet's, which polls."""
        if not self._wanted.search("exit to status"):
            return
        by_events = "exit to status"
        sides = (("vkcri", self.ours, EXITS, 0.2), ("kubelet", self.theirs, EXITS_POLLED, 1.0))
        for number in range(EXIT_ROUNDS):
            _say(f"{by_events}, round {number + 1} of {EXIT_ROUNDS}")
            for side, node, count, apart in random.sample(sides, len(sides)):
                self.add(by_events, side, self._work.exits_to_status(node, count // EXIT_ROUNDS, apart=apart))
        theirs = self.samples[by_events]["kubelet"]
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write("runtime_events = false\n")
            file.flush()
            _say("starting vkcri without events")
            self._node.down()
            self._node.environment["VKCRI_CONFIG"] = file.name
            self._node.up()
            _say(f"{EXITS_POLLED} exits by polling")
            polled = self._work.exits_to_status(self.ours, EXITS_POLLED, apart=1.0)
            self._node.down()
            del self._node.environment["VKCRI_CONFIG"]
            self._node.up()
        slowest = "  the slowest of these"
        for figure, ours in ((by_events, self.samples[by_events]["vkcri"]), (f"{by_events}, by polling alone", polled)):
            self.samples[figure] = {"vkcri": ours, "kubelet": theirs}
            self.samples[f"{slowest} {len(ours)} and {len(theirs)}"] = {"vkcri": [max(ours)], "kubelet": [max(theirs)]}

    def probes(self) -> None:
        """Both at once, so that they meet the same minute."""
        if not self._wanted.search("probes"):
            return
        _say(f"probes, {PROBED_PODS} pods on each")
        for side, percent in zip(("vkcri", "kubelet"), self._work.probed((self.ours, self.theirs)), strict=True):
            self.add(f"CPU of a core with {PROBED_PODS} probed pods", side, [percent])


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
