"""The cluster and the node that the tests are to judge: what runs already, or one line about what is missing.

The tests talk to the cluster as an administrator; images are given to the containerd of the instance on this guest
(VKCRI_INSTANCE), so its node must be the cluster's.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import versions
from tests.waiting import PATIENCE
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError

_SECONDS = 20.0
_OF_READINESS = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
"""Taints of a node that was not Ready, which the controller manager takes away a moment after it is."""

_Nodes = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Judged:
    """An administrator's kubeconfig, the API server's version (`v1.37.2`), the node's name."""

    kubeconfig: Path
    version: str
    node: str


def find(kubeconfig: Path, settings: RuntimeSettings) -> Judged:
    """The cluster of a kubeconfig and its only node. Raises ConfigError with the cure for whatever is not as the tests
    want it."""
    if not kubeconfig.is_file():
        raise ConfigError(f"no cluster: {kubeconfig} is not there; make cluster first, or set KUBECONFIG")
    version = released(str(_ask(kubeconfig, "get", "--raw", "/version")["gitVersion"]))
    nodes = settled(lambda: list(_ask(kubeconfig, "get", "nodes", "-o", "json")["items"]))
    node = the_node(nodes, settings.node_name)
    return Judged(kubeconfig, version, node)


def released(version: str) -> str:
    """The API server's version as it is, where it is a release of Kubernetes: its tests are built from just that one.
    Raises ConfigError."""
    if not versions.is_release(version):
        raise ConfigError(f"the cluster is Kubernetes {version}, which is no release that tests could be built of")
    return version


def settled(ask: Callable[[], _Nodes], seconds: float = PATIENCE) -> _Nodes:
    """The nodes, once none that is Ready has a taint of the time before; after that many seconds as they are."""
    deadline = time.monotonic() + seconds
    while any(map(_settles, nodes := ask())) and time.monotonic() < deadline:
        time.sleep(0.2)
    return nodes


def the_node(nodes: _Nodes, expected: str) -> str:
    """The name of the only node, which is this guest's, is Ready and takes any pod. Raises ConfigError."""
    names = [str(node["metadata"]["name"]) for node in nodes]
    if not names:
        raise ConfigError("the cluster has no node: KUBECONFIG=... VKUBELET_DISABLE_TAINT=true make run first")
    if names != [expected]:
        raise ConfigError(
            f"the cluster's nodes are {', '.join(names)}, and {expected} is to be the only one "
            "(VKCRI_INSTANCE and VKUBELET_NODE_NAME say which node this guest is)"
        )
    ready = _ready(nodes[0])
    if ready.get("status") != "True":
        raise ConfigError(f"node {expected} is not Ready: {ready.get('message') or 'it has not said so yet'}")
    spec = nodes[0].get("spec", {})
    taints = [taint["key"] for taint in spec.get("taints", ()) if taint["effect"] != "PreferNoSchedule"]
    if taints or spec.get("unschedulable"):
        cure = f"kubectl taint nodes {expected} {taints[0]}-" if taints else f"kubectl uncordon {expected}"
        raise ConfigError(f"node {expected} does not take every pod, and the tests wait until it does: {cure}")
    return expected


def _ready(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The condition Ready; empty where the node has not said it yet."""
    conditions = {item["type"]: item for item in node.get("status", {}).get("conditions", ())}
    return dict(conditions.get("Ready", {}))


def _settles(node: Mapping[str, Any]) -> bool:
    """Whether it is Ready and still has a taint of the time before."""
    taints = {taint["key"] for taint in node.get("spec", {}).get("taints", ())}
    return _ready(node).get("status") == "True" and not taints.isdisjoint(_OF_READINESS)


def _ask(kubeconfig: Path, *arguments: str) -> dict[str, Any]:
    """What kubectl answers, parsed. Raises ConfigError with its last line."""
    command = ["kubectl", f"--kubeconfig={kubeconfig}", "--request-timeout=10s", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"kubectl: {error}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ConfigError(f"the cluster of {kubeconfig} does not answer: {lines[-1]}")
    return dict(json.loads(done.stdout))
