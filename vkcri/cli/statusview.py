"""What `vkcri status` and `vkcri logs` show: programs, node and pods as lines, and the log API's bytes.

Runs in the CLI, reads supervisord's socket, two topics and the HTTP log API; holds no state.
"""

import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

from vkcri.cli.bringup import node_ready, notice_lines, read_topic
from vkcri.cli.supervision import Supervisor
from vkcri.config import ClusterSettings, KubeletSettings
from vkcri.errors import NotFound, Refused, Unavailable, VkcriError

_CHUNK = 65536


def show(settings: ClusterSettings, say: Callable[[str], object]) -> int:
    """Print the three tables and what the programs want a person to know; 0 when the node is Ready, else 1."""
    for line in columns([("PROGRAM", "STATE", "PID", "AGE", "RESTARTS"), *_program_rows(settings)]):
        say(line)
    ready, reason = node_ready(settings)
    say("")
    say(f"NODE {settings.node_name}: {'Ready' if ready else f'NotReady: {reason}'}")
    for line in notice_lines(settings.instance, seconds=1.0):
        say(line)
    say("")
    whole = True
    try:
        rows = _pod_rows(settings)
    except VkcriError as error:
        whole, rows = False, _known_rows(settings)
        say(f"PODS: not {'all ' if rows else ''}known: {error}")
    if not whole and not rows:
        return 1
    for line in columns([("NAMESPACE", "POD", "PHASE", "READY", "RESTARTS", "IP"), *rows]):
        say(line)
    return 0 if ready and whole else 1


def logs(settings: KubeletSettings, namespace: str, pod: str, container: str | None, *, follow: bool, tail: int) -> int:
    """Copy a container's log from the log API to stdout. Raises NotFound, Refused or Unavailable as the API says."""
    path = "/".join(urllib.parse.quote(part, safe="") for part in (namespace, pod, container) if part)
    query = urllib.parse.urlencode({k: v for k, v in {"follow": int(follow), "tail": tail}.items() if v not in (0, -1)})
    url = f"http://{settings.log_api_address}:{settings.log_api_port}/logs/{path}?{query}"
    token = settings.instance.log_api_token_file.read_text(encoding="utf-8").strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=None if follow else 60) as answer:
            while chunk := answer.read1(_CHUNK):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace").strip()
        raise (NotFound if error.code == 404 else Refused)(text) from error
    except (OSError, urllib.error.URLError) as error:
        raise Unavailable(f"log-server does not answer: {error}") from error
    except KeyboardInterrupt:
        return 130
    return 0


def columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows as left-aligned columns, cut to the terminal's width."""
    table = [tuple(str(cell) for cell in row) for row in rows]
    widths = [max(len(row[index]) for row in table) for index in range(len(table[0]))]
    limit = shutil.get_terminal_size((200, 24)).columns
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()[:limit] for row in table
    ]


def age(seconds: float) -> str:
    """A duration as kubectl prints it: 45s, 12m, 3h, 2d."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def _program_rows(settings: ClusterSettings) -> list[tuple[str, ...]]:
    now = time.time()
    rows: list[tuple[str, ...]] = []
    supervisor = Supervisor(settings.instance)
    restarts = supervisor.restarts()
    for program in supervisor.programs():
        state = "MISCONFIGURED" if program.misconfigured else program.state
        row = (
            program.name,
            state,
            str(program.pid or "-"),
            age(now - program.since),
            str(restarts.get(program.name, 0)),
        )
        rows.append(row)
    return rows


def _pod_rows(settings: ClusterSettings) -> list[tuple[str, ...]]:
    statuses = read_topic(settings.instance, "provider", "pod-status")
    return sorted(_pod_row(value) for value in statuses.values())


def _known_rows(settings: ClusterSettings) -> list[tuple[str, ...]]:
    """The pods that the provider knows of while others may be unknown, such as without an API server since the start;
    none where it is away."""
    try:
        statuses = read_topic(settings.instance, "provider", "pod-status", partial=True)
    except VkcriError:
        return []
    return sorted(_pod_row(value) for value in statuses.values())


def _pod_row(value: dict[str, Any]) -> tuple[str, ...]:
    status = value.get("status", {})
    containers = status.get("containerStatuses", [])
    ready = sum(1 for container in containers if container.get("ready"))
    restarts = sum(container.get("restartCount", 0) for container in containers)
    phase = status.get("reason") or status.get("phase", "")
    return (
        value["namespace"],
        value["name"],
        phase,
        f"{ready}/{len(containers)}",
        str(restarts),
        status.get("podIP", "-"),
    )
