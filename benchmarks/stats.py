"""What the node's own measuring costs: CPU time of a round of samples and of a Summary, with 60 pods.

The pods are cgroups alone, each with two below it, as a sandbox and a container have; no runtime is needed. A round
comes every ten seconds; a Summary is made once a round, however many ask.
"""

import json
import time
from collections.abc import Callable

from bridge.cgroups import Cgroups
from bridge.stats.network import Interface, Traffic
from bridge.stats.reading import ROOT, CgroupReader
from bridge.stats.samples import PERIOD, Samples
from bridge.stats.summary import ContainerUse, NodeUse, PodUse, summary
from tests.instances import own
from vkcri.config import RuntimeSettings
from vkcri.kubelet.use import NodeUse as Served

PODS = 60


def main() -> None:
    """Print the figures. Removes its cgroups at the end."""
    cgroups = Cgroups(RuntimeSettings(instance=own("bench")))
    try:
        for number in range(PODS):
            metadata = {"name": f"p{number}", "namespace": "default", "uid": f"bench-{number}"}
            cgroup = cgroups.ensure_pod({"metadata": metadata, "spec": {"containers": [{"name": "main"}]}})
            for root in cgroups.hierarchies.roots:
                for child in ("sandbox", "main"):
                    (root / cgroup.strip("/") / f"{child}-{number}").mkdir()
        measure(cgroups)
    finally:
        cgroups.cleanup()


def measure(cgroups: Cgroups) -> None:
    names = [ROOT, *(name for pod in cgroups.tree().values() for name in pod)]
    samples = Samples(CgroupReader(cgroups.hierarchies), lambda: names, {})
    samples.take()
    taken = cpu(samples.take)
    print(f"stats: a round of {len(names)} cgroups: {1000 * taken:.0f} ms CPU, {100 * taken / PERIOD:.1f} % of one CPU")
    node = samples.measured(ROOT)
    assert node is not None
    card = Interface("eth0", 1, 2, 3, 4, 5, 6, 7, 8)
    pods = [
        PodUse("default", f"p{number}", str(number), 0, [ContainerUse("main", 0, node)], node, Traffic(0, (card,)))
        for number in range(PODS)
    ]
    made: list[bytes] = []
    seconds = cpu(lambda: made.append(json.dumps(summary(NodeUse("n", 0, node), pods), separators=(",", ":")).encode()))
    passed = cpu(lambda: serve(made[-1]).summary())
    resource = cpu(lambda: serve(made[-1]).resource_metrics())
    print(
        f"stats: a Summary of {PODS} pods ({len(made[-1]) // 1024} KB): {1000 * seconds:.1f} ms CPU, "
        f"/metrics/resource from it {1000 * resource:.1f} ms, each once a round; a further /stats/summary "
        f"{1000 * passed:.1f} ms"
    )


def serve(raw: bytes) -> Served:
    """log-server's side, which has not seen that answer yet."""
    return Served(lambda _name, _body, _timeout: raw)


def cpu(work: Callable[[], object], times: int = 5) -> float:
    """The least CPU seconds of a few runs."""
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


if __name__ == "__main__":
    main()
