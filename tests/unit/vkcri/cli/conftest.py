"""A real supervisord on an instance of its own, with small programs in the place of ours."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.instances import own
from tests.waiting import wait_for
from vkcri.cli import supervision
from vkcri.cli.supervision import Supervisor
from vkcri.instance import Instance

# Ends with 0 on SIGTERM, as containerd does; its environment and its current folder are there to be read in /proc. And
# SIGUSR1 in SigBlk, which says that both are blocked: what is waited for the kernel does not show there meanwhile.
PROGRAM = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {15, 10}); signal.sigwait({15})"
NAMES = ("containerd", "api-watcher")


def state(supervisor: Supervisor, name: str) -> str:
    return next(program.state for program in supervisor.programs() if program.name == name)


def pid(supervisor: Supervisor, name: str) -> int:
    """The process id of a program that supervisord has started, once it is that program and waits for its end."""

    def found() -> int:
        process = next(program.pid for program in supervisor.programs() if program.name == name)
        return process if process and _waits_for_term(process) else 0

    return wait_for(f"{name} is started", found)


def _waits_for_term(process: int) -> bool:
    """Whether it is our program, and far enough to take SIGTERM as it does."""
    try:
        command = Path(f"/proc/{process}/cmdline").read_bytes()
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    return b"program.py" in command and bool(blocked & 1 << signal.SIGUSR1 - 1)


def end(supervisor: Supervisor, name: str, number: signal.Signals) -> None:
    """End a program by its process id, and wait until it has ended, as the bridge's clean-up does."""
    process = pid(supervisor, name)
    os.kill(process, number)
    wait_for(f"{name} ends", lambda: ended(process))


def ended(process: int) -> bool:
    """Whether it is gone, or waits for its parent only."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def configuration(instance: Instance, folder: Path) -> Path:
    """supervisor.conf's own first sections, and two of its programs with another command."""
    script = folder / "program.py"
    script.write_text(PROGRAM)
    head, *sections = supervision.configuration(instance).split("[program:")
    lines = [head]
    for section in sections:
        name, _, rest = section.partition("]")
        if name in NAMES:
            body = [line for line in rest.splitlines() if not line.startswith("command=")]
            lines += [f"[program:{name}]", f"command={sys.executable} {script}", *body]
    path = folder / "supervisor.conf"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """Not started yet; whatever it became, it is gone at the end."""
    made = Supervisor(own("cli"))
    conf = configuration(made.instance, tmp_path)
    monkeypatch.setattr(supervision, "configuration_file", lambda _instance: conf)
    for name in ("KUBECONFIG", "VKCRI_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VKCRI_INSTANCE", made.instance.name)
    try:
        yield made
    finally:
        made.shutdown()
        for folder in (made.instance.state_dir, made.instance.log_dir, made.instance.run_dir):
            shutil.rmtree(folder, ignore_errors=True)


def by_hand(supervisor: Supervisor, folder: Path, conf: Path, environment: dict[str, str]) -> None:
    """`supervisord -c supervisor.conf`, typed in that folder."""
    supervisor.instance.log_dir.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).parent / "supervisord"), "-c", str(conf)]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=120, capture_output=True)
    wait_for("supervisord answers", lambda: supervisor.pid() is not None)
