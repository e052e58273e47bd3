"""`vkcri`: bring a node up and down, and look at it. Runs in a person's terminal, never as a program of supervisord.

It imports no process: it asks supervisord's socket for programs, the queue for node and pods, and runs each program's
own `--check` and `--cleanup`. Errors are one line and an exit status: 78 for a configuration error, 1 for all others.
"""

import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import click

from vkcri.cli import bringup, supervision
from vkcri.cli.supervision import Supervisor
from vkcri.config import ALL_SETTINGS, ClusterSettings, KubeletSettings, load
from vkcri.errors import ConfigError, VkcriError
from vkcri.instance import Instance

_P = ParamSpec("_P")
NOTICE_SECONDS = 5.0  # a node that was just registered asks for its serving certificate
CHECKS = (
    "vkcri-containerd",
    "vkcri-apiserver",
    "vkcri-api-watcher",
    "vkcri-cri-bridge",
    "vkcri-log-server",
    "vkcri-kube-proxy",
)


def told(command: Callable[_P, int | None]) -> Callable[_P, None]:
    """Make a command's VkcriError one line on stderr and an exit status."""

    @wraps(command)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            status = command(*args, **kwargs) or 0
        except VkcriError as error:
            click.echo(f"vkcri: {error}", err=True)
            status = supervision.EX_CONFIG if isinstance(error, ConfigError) else 1
        sys.exit(status)

    return wrapper


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--instance", "name", envvar="VKCRI_INSTANCE", default="", help="Another node on this guest: NAME-N.")
@click.pass_context
def main(context: click.Context, name: str) -> None:
    """One Linux guest as a Kubernetes node."""
    if name:
        os.environ["VKCRI_INSTANCE"] = name
    try:
        context.obj = Instance.from_environ()
    except ConfigError as error:
        click.echo(f"vkcri: {error}", err=True)
        sys.exit(supervision.EX_CONFIG)


@main.command()
@click.option("--timeout", default=180.0, show_default=True, help="Seconds to wait for Ready.")
@told
def up(timeout: float) -> int:
    """Start supervisord, wait until the node is Ready, say what to type next."""
    settings = load(ClusterSettings)
    for kind in ALL_SETTINGS:
        load(kind)  # a broken setting is told here, before anything starts
    bringup.start(settings)
    said = bringup.wait_ready(settings, timeout)
    user = bringup.user(settings)  # before the notices are read: one of them may be about that
    token = settings.instance.log_api_token_file.read_text(encoding="utf-8").strip()
    for line in bringup.notice_lines(settings.instance, seconds=NOTICE_SECONDS, told=said):
        click.echo(line)
    for line in bringup.next_steps(load(KubeletSettings), token, user):
        click.echo(f"    {line}")
    return 0


@main.command()
@click.pass_obj
@told
def down(instance: Instance) -> int:
    """End the programs, then remove what they left: sandboxes, mounts, cgroups, rules."""
    return bringup.stop(Supervisor(instance), lambda entry: supervision.run_program(entry, "--cleanup", instance))


@main.command()
@click.pass_obj
@told
def reset(instance: Instance) -> int:
    """Remove store, certificates, volumes, images and logs of a stopped node."""
    if Supervisor(instance).pid() is not None:
        raise ConfigError(f"the node still runs: vkcri down (or {bringup.make(instance, 'stop')}) first")
    for line in bringup.remove_state(instance):
        click.echo(line)
    return 0


@main.command()
@told
def status() -> int:
    """Programs with their restarts, the node, and its pods."""
    from vkcri.cli import statusview

    return statusview.show(load(ClusterSettings), click.echo)


@main.command()
@click.pass_obj
@told
def doctor(instance: Instance) -> int:
    """Run every program's own check: configuration, programs on the guest, rivals on the socket."""
    statuses = [supervision.run_program(entry, "--check", instance, seconds=60) for entry in CHECKS]
    return next((code for code in statuses if code), 0)


@main.command()
@click.argument("pod")
@click.argument("container", required=False)
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-f", "--follow", is_flag=True)
@click.option("--tail", type=int, default=-1, help="Lines from the end; -1: all.")
@told
def logs(pod: str, container: str | None, namespace: str, follow: bool, tail: int) -> int:
    """A container's log, over the HTTP log API."""
    from vkcri.cli import statusview

    return statusview.logs(load(KubeletSettings), namespace, pod, container, follow=follow, tail=tail)


@main.group()
def queue() -> None:
    """Look into the message queues between the programs."""


@queue.command("tail")
@click.argument("topic")
@click.option("--role", default="", help="Whose socket: watcher, provider, kubelet, proxy. Default: the topic's owner.")
@click.pass_obj
@told
def queue_tail(instance: Instance, topic: str, role: str) -> int:
    """Print a topic's snapshot, puts, deletes and synced as JSON lines until interrupted."""
    from vkcri.queue.tail import socket_of, tail

    try:
        tail(socket_of(instance, topic, role or None), topic, click.echo)
    except KeyboardInterrupt:
        return 130
    return 0


@main.command("supervisor-conf")
@click.pass_obj
@told
def supervisor_conf(instance: Instance) -> int:
    """Print supervisor.conf for this instance."""
    click.echo(supervision.configuration(instance), nl=False)
    return 0


if __name__ == "__main__":
    main()
