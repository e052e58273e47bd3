"""The program `apiserver` by itself, without a node: started, killed and read as supervisord would."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import remove_folders
from tests.instances import FLOW_NUMBERS, claimed
from tests.waiting import PATIENCE
from vkcri.instance import Instance

PROJECT = Path(__file__).resolve().parents[2]
_PROGRAM = "from vkcri.apiserver.main import main; main()"


class Server:
    """The program `apiserver`, started and stopped as supervisord would."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        self.instance.log_dir.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("VKCRI_", "KUBE"))}
        with open(self.instance.log_dir / "apiserver.log", "ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                cwd=PROJECT,
                env={**inherited, "VKCRI_INSTANCE": self.instance.name, **environment},
                stdout=output,
                stderr=output,
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill(signal.SIGTERM)

    def wait(self, seconds: float) -> int:
        """The exit status, once it has ended by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    @property
    def log(self) -> str:
        return (self.instance.log_dir / "apiserver.log").read_text()


@contextmanager
def embedded_server(name: str) -> Iterator[Server]:
    """A server of an instance NAME-N of its own, not started yet; nothing of it is left at the end."""
    with claimed(name, FLOW_NUMBERS) as instance:
        remove_folders(instance)
        made = Server(instance)
        try:
            yield made
        finally:
            made.close()
            remove_folders(instance)
