"""Bringing a node up and taking it down, as `make run` and `make stop` do it: the order of the steps, and their words.

Runs in the CLI. It starts supervisord and waits on the queue for what the programs report; it changes nothing on the
guest itself, so that `supervisord -c supervisor.conf` alone comes to the same end.
"""

import time
from pathlib import Path
from typing import Any

import click

from vkcri.cli import supervision
from vkcri.cli.supervision import Supervisor
from vkcri.config import ClusterSettings, Instance, KubeletSettings
from vkcri.errors import ConfigError, Unavailable, VkcriError
from vkcri.lifecycle import EXIT_STAYS

_POLL_SECONDS = 0.1


def start(settings: ClusterSettings) -> None:
    """Start supervisord unless it runs. Raises ConfigError where it runs against another API server."""
    supervisor = Supervisor(settings.instance)
    if supervisor.pid() is None:
        supervisor.start()
        return
    running = supervisor.environment().get("KUBECONFIG", "")
    wanted = "" if settings.embedded else str(Path(settings.kubeconfig).resolve())
    theirs = ClusterSettings(instance=settings.instance, kubeconfig=running)
    if wanted != ("" if theirs.embedded else str(Path(running).resolve())):
        raise ConfigError(
            f"the node already runs with KUBECONFIG={running or '(embedded)'}: make stop first, then make run again"
        )
    for program in supervisor.programs():
        if program.misconfigured or program.state == "STOPPED":
            supervisor.start_program(program.name)


def wait_ready(settings: ClusterSettings, timeout: float) -> None:
    """Wait until the Node's condition Ready is True. Raises ConfigError at once where a program waits for a person,
    Unavailable with the reason at the deadline (seconds)."""
    started = time.monotonic()
    supervisor = Supervisor(settings.instance)
    said = ""
    while True:
        for program in supervisor.programs():
            if program.misconfigured:
                raise ConfigError(f"{program.name}: {last_line(program.log)}")
        ready, reason = node_ready(settings)
        if ready and not settings.instance.log_api_token_file.exists():
            ready, reason = False, f"log-server does not serve yet; see {settings.instance.log_dir}/log-server.log"
        if ready:
            click.echo(f"node {settings.node_name} is Ready ({time.monotonic() - started:.1f} s)")
            return
        if time.monotonic() - started > timeout:
            raise Unavailable(f"node {settings.node_name} is not Ready after {timeout:.0f} s: {reason}")
        if reason != said and time.monotonic() - started > 3:
            click.echo(f"waiting: {reason}")
            said = reason
        time.sleep(_POLL_SECONDS)


def node_ready(settings: ClusterSettings) -> tuple[bool, str]:
    """Whether api-watcher's copy of the Node is Ready, and else the reason in words."""
    log = settings.instance.log_dir / "api-watcher.log"
    try:
        node = read_topic(settings.instance, "watcher", "node").get(settings.node_name)
    except VkcriError as error:
        return False, f"the Node is not registered yet ({error}); {log} ends with: {last_line(log)}"
    if node is None:
        return False, f"the Node is not registered just now; {log} ends with: {last_line(log)}"
    for condition in node.get("status", {}).get("conditions", []):
        if condition.get("type") == "Ready":
            return condition.get("status") == "True", condition.get("message") or condition.get("reason", "")
    return False, "the Node has no Ready condition yet"


def read_topic(instance: Instance, role: str, topic: str, *, seconds: float = 2.0) -> dict[str, dict[str, Any]]:
    """A topic's values now, parsed, by key. Raises Unavailable where its owner is away or not synced in time."""
    from vkcri.queue.tail import snapshot

    return snapshot(instance.queue_socket(role), topic, seconds)


def next_steps(settings: KubeletSettings) -> list[str]:
    """What to type next, with the log API's address and token."""
    instance = settings.instance
    kubeconfig = instance.admin_kubeconfig if settings.embedded else settings.kubeconfig
    token = instance.log_api_token_file.read_text(encoding="utf-8").strip()
    base = f"http://{settings.log_api_address}:{settings.log_api_port}"
    bin_dir = supervision.PROJECT / ".venv" / "bin"
    return [
        "",
        f"  . {bin_dir}/activate; export KUBECONFIG={kubeconfig}",
        "  kubectl get nodes",
        "  kubectl apply -f examples/hello.yaml",
        "  kubectl get pods -w",
        "  kubectl logs -f hello",
        "",
        "  the same log over the HTTP log API:",
        f"  curl -H 'Authorization: Bearer {token}' '{base}/logs/default/hello?follow=1'",
        "",
        "  supervisorctl -c supervisor.conf status     # restart any program: the pods go on",
        "  make stop                                   # end all that was started; make reset removes the state too",
    ]


def stop(instance: Instance) -> int:
    """End the programs and clean up; 0 when nothing is left, else the exit status of the clean-up that failed.

    containerd goes last: the clean-up of sandboxes needs it."""
    supervisor = Supervisor(instance)
    if supervisor.pid() is not None:
        for program in reversed(supervisor.programs()):
            if program.name != "containerd":
                supervisor.stop_program(program.name)
    statuses = [
        supervision.run_program("vkcri-cri-bridge", "--cleanup", instance),
        supervision.run_program("vkcri-kube-proxy", "--cleanup", instance),
    ]
    if EXIT_STAYS in statuses:
        click.echo("supervisord stays, since it runs the containerd that others use: supervisorctl shutdown ends both")
    else:
        supervisor.shutdown()
    return next((status for status in statuses if status), 0)


def refuse_mounts(folder: Path) -> None:
    """Raises ConfigError where something is still mounted below the folder, so that no volume's content is removed."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        point = line.split()[4]
        if point == str(folder) or point.startswith(f"{folder}/"):
            raise ConfigError(f"{point} is still mounted: run vkcri down (or make stop) again, it says what holds it")


def last_line(path: Path) -> str:
    """The last line that a program logged, or why there is none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return f"no log: {error}"
    return lines[-1] if lines else f"{path} is empty"
