"""`python -m tests.cluster start | stop | build | fetch | rival | rival-stop`: what make cluster, make programs and
their like run."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from tests import command
from tests.cluster import debian, etcd, programs
from tests.cluster.control import Cluster
from tests.cluster.rival import Rival
from vkcri.config import ClusterSettings, load
from vkcri.errors import VkcriError

_NUMBER = click.option("--number", default=0, show_default=True, help="which cluster of this guest; tests have 1 to 29")
_KUBERNETES = click.option(
    "--kubernetes", envvar="KUBERNETES", default="", help="1.34, 1.34.2; default: the pinned one"
)


@click.group()
def main() -> None:
    """A real Kubernetes control plane on this guest."""


@main.command()
@_NUMBER
@_KUBERNETES
@click.option("--dns/--no-dns", default=True, show_default=True, help="CoreDNS at the tenth service address")
def start(number: int, kubernetes: str, dns: bool) -> None:
    """Build what is missing, start what does not run, say what to type next."""
    began = time.monotonic()
    node = load(ClusterSettings).node_name
    cluster = Cluster(number, kubernetes)
    cluster.start()
    print(f"Kubernetes {cluster.version} at {cluster.server}: ready ({time.monotonic() - began:.0f} s)")
    if dns:
        cluster.start_dns()
        print(f"CoreDNS at {cluster.place.dns}: started")
    print("This guest as its node, and what to type then:\n")
    print(*next_steps(node, cluster.node_kubeconfig(node), cluster), sep="\n")


def next_steps(node: str, identity: Path, cluster: Cluster) -> list[str]:
    """What a person types next, in sh: the two ways to join as `node`, by its kubeconfig `identity` or by a bootstrap
    token, also where KUBECONFIG is exported already; then an administrator's look, and the end."""
    given = f"KUBECONFIG={identity} VKUBELET_DISABLE_TAINT=true make run"
    asked = f"KUBECONFIG= BOOTSTRAP_KUBECONFIG={cluster.bootstrap_kubeconfig} VKUBELET_DISABLE_TAINT=true make run"
    return [
        f"    {given}    # as system:node:{node}",
        f"    {asked}    # or so: it asks for its certificates itself",
        f"    export KUBECONFIG={cluster.admin_kubeconfig}",
        "    kubectl get nodes",
        "    make stop KUBECONFIG=; make cluster-stop",
    ]


@main.command()
@_NUMBER
def stop(number: int) -> None:
    """End what was started and remove its folder."""
    cluster = Cluster(number)
    Rival(cluster).stop()
    print(f"{cluster.place.name}: {'stopped' if cluster.stop() else 'nothing to stop'}")


@main.command()
@_NUMBER
def rival(number: int) -> None:
    """The real kubelet and kube-proxy as a node of the cluster."""
    began = time.monotonic()
    node = Rival(Cluster(number))
    node.start()
    print(f"node {node.node} is Ready ({time.monotonic() - began:.0f} s): the kubelet {node.cluster.version}")
    print(f"    export KUBECONFIG={node.cluster.admin_kubeconfig}")
    print("    kubectl get nodes")
    print("    make rival-stop")


@main.command()
@_NUMBER
def rival_stop(number: int) -> None:
    """End that node and remove what it kept."""
    node = Rival(Cluster(number))
    print(f"node {node.node}: {'stopped' if node.stop() else 'nothing to stop'}")


@main.command()
@_KUBERNETES
@click.argument("names", nargs=-1)
def build(kubernetes: str, names: tuple[str, ...]) -> None:
    """Build programs into the cache folder, and print where they are."""
    version = programs.resolve(kubernetes)
    for path in programs.ensure(version, names or programs.CONTROL_PLANE).values():
        print(path)


FETCHED: dict[str, Callable[[], Path]] = {
    **{name: partial(debian.ensure, name) for name in debian.PROGRAMS},
    "etcd": etcd.ensure,
}


@main.command()
@click.option("--try", "lenient", is_flag=True, help="what cannot be had is said and is no error: tests say it again")
@click.argument("names", nargs=-1, type=click.Choice(list(FETCHED)))
def fetch(lenient: bool, names: tuple[str, ...]) -> None:
    """Fetch what of Debian's programs the cache folder lacks, and print where they are."""
    for name in names or FETCHED:
        try:
            print(FETCHED[name]())
        except VkcriError as error:
            if not lenient:
                raise
            print(f"cluster: {name} could not be fetched, and what wants it cannot run: {error}")


if __name__ == "__main__":
    command.run(main, "cluster")
