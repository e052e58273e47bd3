"""Bringing a node up and taking it down, as `make run` and `make stop` do it: the order of the steps, and their words.

Runs in the CLI. It starts supervisord and waits on the queue for what the programs report; but for `remove_state`
(make reset) it changes nothing on the guest itself: `supervisord -c supervisor.conf` alone comes to the same end.
"""

import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from vkcri.cli import supervision
from vkcri.cli.supervision import Supervisor
from vkcri.config import ClusterSettings, KubeletSettings, load
from vkcri.errors import ConfigError, Unavailable, VkcriError
from vkcri.instance import Instance
from vkcri.lifecycle import EXIT_STAYS

_POLL_SECONDS = 0.1
USER_SECONDS = 5.0


def start(settings: ClusterSettings) -> None:
    """Start supervisord unless it runs. Raises ConfigError where it runs against another API server."""
    supervisor = Supervisor(settings.instance)
    if supervisor.pid() is None:
        supervisor.start()
        return
    theirs = load(ClusterSettings, supervisor.environment())
    if _cluster(settings) != _cluster(theirs) and not _goes_on(settings, theirs):
        raise ConfigError(
            f"the node already runs with {theirs.joined_by or 'KUBECONFIG=(embedded)'}: "
            f"{make(settings.instance, 'stop')} first, then make run again"
        )
    for program in supervisor.programs():
        if program.misconfigured or program.state == "STOPPED":
            supervisor.start_program(program.name)


def _cluster(settings: ClusterSettings) -> str:
    """What tells one cluster from another: the kubeconfig's real path, nothing when embedded."""
    variable, _, path = settings.joined_by.partition("=")
    return f"{variable}={Path(path).resolve()}" if path else ""


def _goes_on(settings: ClusterSettings, theirs: ClusterSettings) -> bool:
    """Whether a bootstrapped node is asked to go on with the identity that it has: by its own kubeconfig, or by a
    bootstrap file that is no longer there."""
    given = any(Path(part).is_file() for part in settings.bootstrap_kubeconfig.split(os.pathsep) if part)
    return settings.bootstraps and theirs.bootstraps and not given


def make(instance: Instance, verb: str) -> str:
    """A verb of make as it is typed for this instance."""
    return f"make {verb}" if instance.is_default else f"VKCRI_INSTANCE={instance.name} make {verb}"


def wait_ready(settings: ClusterSettings, timeout: float) -> set[str]:
    """Wait until the Node's condition Ready is True; what `notice_lines` was told meanwhile. Raises ConfigError at once
    where a program waits for a person, Unavailable with the reason at the deadline (seconds)."""
    started = time.monotonic()
    supervisor = Supervisor(settings.instance)
    said = ""
    told: set[str] = set()
    while True:
        for program in supervisor.programs():
            if program.misconfigured:
                raise ConfigError(f"{program.name}: {last_line(program.log)}")
        ready, reason = node_ready(settings)
        if not ready:
            for line in notice_lines(settings.instance, roles=("watcher",), seconds=0.5, told=told):
                click.echo(line)
        if ready and not settings.instance.log_api_token_file.exists():
            ready, reason = False, f"log-server does not serve yet; see {settings.instance.log_dir}/log-server.log"
        if ready:
            click.echo(f"node {settings.node_name} is Ready ({time.monotonic() - started:.1f} s)")
            return told
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
        return False, _no_address(settings) or (
            f"the Node is not registered yet ({error}); {log} says: {last_complaint(log)}"
        )
    if node is None:
        return False, f"the Node is not registered just now; {log} says: {last_complaint(log)}"
    for condition in node.get("status", {}).get("conditions", []):
        if condition.get("type") == "Ready":
            return condition.get("status") == "True", condition.get("message") or condition.get("reason", "")
    return False, "the Node has no Ready condition yet"


def _no_address(settings: ClusterSettings) -> str:
    """Why the node has no address, with the cure; the programs wait for one. Empty where it has."""
    try:
        _ = settings.address
    except ConfigError as error:
        return str(error)
    return ""


def read_topic(
    instance: Instance, role: str, topic: str, *, seconds: float = 2.0, partial: bool = False
) -> dict[str, dict[str, Any]]:
    """A topic's values now, parsed, by key. Raises Unavailable where its owner is away or not synced in time; partial:
    only where it is away."""
    from vkcri.queue.tail import snapshot

    return snapshot(instance.queue_socket(role), topic, seconds, partial=partial)


def notice_lines(
    instance: Instance,
    *,
    roles: Iterable[str] = ("watcher", "kubelet", "proxy"),
    seconds: float = 2.0,
    told: set[str] | None = None,
) -> list[str]:
    """What the programs say that a person should know, each command on a line of its own; none of one that is away or
    has nothing to say within `seconds`. What two of them say with the same cure is the last one's. `told`: what is in
    it is left out, and what is said now is added, so that it is said once."""
    found: dict[str, str] = {}
    for role in roles:
        try:
            values = read_topic(instance, role, "notices", seconds=seconds)
        except VkcriError:
            continue
        for _, value in sorted(values.items()):
            message, command = value["message"], value["command"]
            if told is None or (command or message) not in told:
                found[command or message] = f"{_PROGRAMS[role]}: {message}"
    if told is not None:
        told.update(found)
    return [line for key, text in found.items() for line in (text, *([f"    {key}"] if not text.endswith(key) else []))]


_PROGRAMS = {"watcher": "api-watcher", "kubelet": "log-server", "proxy": "kube-proxy"}


def user(settings: ClusterSettings) -> str:
    """Who the node is to the API server, which api-watcher finds out; "" where nobody says."""
    from vkcri.queue import request

    try:
        found = request(settings.instance.queue_socket("watcher"), "identity", {}, timeout=USER_SECONDS)
    except VkcriError:
        return ""
    return str(found["user"])


def next_steps(settings: KubeletSettings, token: str, user: str = "") -> list[str]:
    """What to type next, in the project's folder: README's session, with this node's paths, address and token; `user`:
    who the node is to the API server. A node's own identity, bootstrapped or given, is of no use to a person."""
    instance = settings.instance
    kubeconfig = str(instance.admin_kubeconfig) if settings.embedded else settings.kubeconfig
    if settings.bootstraps or (user.startswith("system:node:") and not settings.embedded):
        kubeconfig = ""
    base = f"http://{settings.log_api_address}:{settings.log_api_port}"
    activate = shlex.quote(str(supervision.PROJECT / ".venv" / "bin" / "activate"))
    conf = "supervisor.conf" if instance.is_default else str(supervision.configuration_file(instance))
    administrator = "" if kubeconfig else "an administrator's: the node's own identity may do little"
    steps = [
        (f". {activate}; export KUBECONFIG={shlex.quote(kubeconfig) if kubeconfig else 'FILE'}", administrator),
        ("kubectl get nodes", "Ready"),
        ("kubectl apply -f examples/hello.yaml", ""),
        ("kubectl get pods -w", ""),
        ("kubectl describe pod hello", ""),
        ("kubectl logs -f hello", ""),
        (f"curl -H 'Authorization: Bearer {token}' '{base}/logs/default/hello?follow=1'", "the same log over HTTP"),
        (f"{base}/#token={token}", "the node's page, for a browser"),
        (f"supervisorctl -c {conf} restart cri-bridge", "the container goes on: same id, restartCount 0"),
        (make(instance, "stop"), "everything that vkcri started is gone"),
    ]
    return [f"{command:<40} # {comment}" if comment else command for command, comment in steps]


def stop(supervisor: Supervisor, clean: Callable[[str], int]) -> int:
    """End the programs and clean up; 0 when nothing is left, else the exit status of the clean-up that failed.
    `clean` runs an entry's --cleanup and gives its exit status.

    containerd goes last: the clean-up of sandboxes needs it, and ends it. Where that took a SIGKILL supervisord starts
    a new one, which only supervisord can end for good: then the clean-up runs once more."""
    supervised = supervisor.pid() is not None
    if supervised:
        for program in reversed(supervisor.programs()):
            if program.name != "containerd":
                supervisor.stop_program(program.name)
    bridge, proxy = clean("vkcri-cri-bridge"), clean("vkcri-kube-proxy")
    if supervised and bridge != EXIT_STAYS and supervisor.running("containerd"):
        supervisor.stop_program("containerd")
        bridge = clean("vkcri-cri-bridge")
    if EXIT_STAYS in (bridge, proxy):
        conf = supervision.configuration_file(supervisor.instance)
        click.echo(
            "supervisord stays, since it runs the containerd that others use: "
            f"supervisorctl -c {conf} shutdown ends both"
        )
    else:
        supervisor.shutdown()
    return bridge or proxy


def remove_state(instance: Instance) -> Iterator[str]:
    """Remove the folders of a stopped node, saying each. The default instance's log folder stays, empty: supervisord
    makes no folders, and `supervisord -c supervisor.conf` writes its log there. Raises ConfigError on a mount."""
    for folder in (instance.state_dir, instance.log_dir, instance.run_dir):
        if not folder.exists():
            continue
        refuse_mounts(folder)
        if folder == instance.log_dir and instance.is_default:
            empty(folder)
            yield f"emptied {folder}"
        else:
            shutil.rmtree(folder)
            yield f"removed {folder}"


def empty(folder: Path) -> None:
    """Remove what lies in a folder, and keep the folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


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


def last_complaint(path: Path) -> str:
    """The last warning or error of a program since its start, else its last line: what went on meanwhile hides none."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.rpartition(" started, pid ")[2].splitlines()
    complaints = [line for line in lines if line.split(" ", 2)[1:2] in (["WARNING"], ["ERROR"], ["CRITICAL"])]
    return complaints[-1] if complaints else last_line(path)
