"""supervisord as an outside system: its configuration file, its life and its programs' states.

The one module that starts supervisord; it speaks its XML-RPC over the Unix socket that supervisor.conf names, as
vkcri.kubelet.programs does for the page. It runs in the CLI only. supervisor.conf is the default instance's; another
instance's is the same text with that instance's paths (`configuration`).
"""

import os
import re
import subprocess
import sys
import time
import xmlrpc.client
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from vkcri.config import absolute_paths
from vkcri.errors import ConfigError, Unavailable
from vkcri.instance import DEFAULT_INSTANCE, Instance

PROJECT = Path(__file__).resolve().parents[2]
EX_CONFIG = 78
_CALL_SECONDS = 10.0
_EXPECTED = (0, EX_CONFIG)  # a launcher's exit statuses that supervisord does not answer with a new start


@dataclass(frozen=True)
class Program:
    """One program as supervisord sees it. `since`: Unix seconds of its last change of state."""

    name: str
    state: str
    pid: int
    exit_status: int
    since: float
    log: Path

    @property
    def misconfigured(self) -> bool:
        """It printed a configuration error and waits for a person."""
        return self.state == "EXITED" and self.exit_status == EX_CONFIG


def configuration(instance: Instance) -> str:
    """supervisor.conf's text for this instance. Raises ConfigError where the project's file is not there."""
    source = PROJECT / "supervisor.conf"
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror}; vkcri runs from a clone of the project") from error
    if instance.is_default:
        return text
    default = Instance(DEFAULT_INSTANCE).folder
    text = text.replace("%(here)s", str(PROJECT))
    text = re.sub(rf"(/run|/var/log)/{re.escape(default)}(?=[./])", rf"\1/{instance.folder}", text)
    return text.replace("\nenvironment=", f'\nenvironment=VKCRI_INSTANCE="{instance.name}",', 1)


def configuration_file(instance: Instance) -> Path:
    """Where supervisord reads it: the project's own file, or one written under another instance's state folder."""
    if instance.is_default:
        return PROJECT / "supervisor.conf"
    path = instance.state_dir / "supervisor.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(configuration(instance), encoding="utf-8")
    return path


class Supervisor:
    """The supervisord of one instance. Every method but `start` raises Unavailable where none runs."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, serverurl=f"unix://{self.instance.supervisor_socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise Unavailable(f"supervisord: {method}: {fault.faultString}") from fault
        except (OSError, HTTPException, xmlrpc.client.ProtocolError) as error:
            raise Unavailable(f"supervisord does not answer at {self.instance.supervisor_socket}: {error}") from error
        finally:
            transport.close()

    def pid(self) -> int | None:
        """supervisord's pid; None where none runs."""
        try:
            return int(self._call("getPID"))
        except Unavailable:
            return None

    def start(self) -> None:
        """Start supervisord as a daemon. Raises ConfigError with its own words when it refuses to start."""
        for folder in (self.instance.log_dir, self.instance.state_dir, self.instance.run_dir):
            folder.mkdir(parents=True, exist_ok=True)
        command = [str(Path(sys.executable).parent / "supervisord"), "-c", str(configuration_file(self.instance))]
        environment = absolute_paths(os.environ)  # its programs' current folder will be /
        done = subprocess.run(
            command, cwd="/", env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode != 0:
            raise ConfigError(f"supervisord did not start: {(done.stderr or done.stdout).strip()}")
        deadline = time.monotonic() + _CALL_SECONDS
        while self.pid() is None:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"supervisord started and does not answer; see {self.instance.log_dir}/supervisord.log"
                )
            time.sleep(0.05)

    def programs(self) -> list[Program]:
        """Every program, in the order of its start (supervisord gives them by name)."""
        order = self.instance.programs.index
        return [
            Program(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                exit_status=info["exitstatus"],
                since=float(info["start"] if info["pid"] else info["stop"]),
                log=Path(info["stdout_logfile"]),
            )
            for info in sorted(self._call("getAllProcessInfo"), key=lambda info: order(info["name"]))
        ]

    def restarts(self) -> dict[str, int]:
        """How often each program was started again since supervisord started, by whomever: its log and the rotated
        ones are read, as far as they go back."""
        files = [self.instance.log_dir / f"supervisord.log{suffix}" for suffix in (".2", ".1", "")]
        text = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files if file.exists())
        _, started, log = text.rpartition("supervisord started with pid")
        spawned = Counter(re.findall(r"spawned: '([^']+)' with pid", log))
        first = 1 if started else 0  # a start that has rotated away is not to be taken off
        return {name: count - first for name, count in spawned.items()}

    def start_program(self, name: str) -> None:
        """Start one program that does not run, without waiting for startsecs."""
        self._call("startProcess", name, False)

    def stop_program(self, name: str) -> None:
        """Stop one program and wait for its end; nothing happens where it does not run."""
        if not self._runs(name):
            return
        try:
            self._call("stopProcess", name, True)
        except Unavailable:
            if self._runs(name):  # else a launcher that is not needed ended by itself just then
                raise

    def running(self, name: str, seconds: float = 5.0) -> bool:
        """Whether a program runs or is started again and again. An end that supervisord has yet to notice or to answer,
        and a start under way, are waited for, up to `seconds`: a signal between its fork and exec would be lost."""
        deadline = time.monotonic() + seconds
        while True:
            info = self._call("getProcessInfo", name)
            state = info["statename"]
            ended = state == "EXITED" and info["exitstatus"] in _EXPECTED
            if ended or state in ("STOPPED", "FATAL"):
                return False
            if (state == "RUNNING" and _alive(info["pid"])) or state == "BACKOFF":
                return True
            if time.monotonic() > deadline:
                return True
            time.sleep(0.05)

    def _runs(self, name: str) -> bool:
        return self._call("getProcessInfo", name)["statename"] in ("STARTING", "RUNNING", "BACKOFF")

    def shutdown(self, seconds: float = 60.0) -> None:
        """Stop the programs and supervisord itself; returns once it is gone. Raises Unavailable after `seconds`."""
        pid = self.pid()
        if pid is None:
            return
        self._call("shutdown")
        deadline = time.monotonic() + seconds
        while _alive(pid):
            if time.monotonic() > deadline:
                raise Unavailable(f"supervisord (pid {pid}) did not end within {seconds:.0f} s")
            time.sleep(0.05)

    def environment(self) -> dict[str, str]:
        """The environment that the running supervisord was started with, which its programs inherit; the paths in it
        are made absolute as its current folder has it."""
        pid = self.pid()
        if pid is None:
            raise Unavailable("supervisord does not run")
        pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        environ = dict(pair.decode(errors="replace").partition("=")[::2] for pair in pairs if b"=" in pair)
        folder = Path(f"/proc/{pid}/cwd").readlink()
        return absolute_paths({**environ, "VKCRI_INSTANCE": self.instance.name}, folder)


def run_program(entry: str, option: str, instance: Instance, *, seconds: float = 300.0) -> int:
    """Run one program's `--check` or `--cleanup`, its output shown as it comes; gives its exit status."""
    command = [str(Path(sys.executable).parent / entry), option]
    environment = {**os.environ, "VKCRI_INSTANCE": instance.name}
    try:
        return subprocess.run(command, env=environment, timeout=seconds, check=False).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{entry} {option}: {error}") from error


def _alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
