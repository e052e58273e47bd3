"""kubectl in three ages: 1.20, which knows SPDY alone, 1.32, and a real cluster's release; the latter two ask for
WebSockets first. And the guest's own, whatever its age.

Nothing is installed, fetched or built by a test: make has put 1.20 and 1.32, which are Debian's, into the cache before
it begins, and `make programs` the newest.
"""

import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import pytest

from tests.cluster.kubectls import built, found
from tests.flow.live import LiveNode
from vkcri.errors import VkcriError

AGES = ("1.20", "1.32", "newest")
DEBUGS = 25  # the minor release in which ephemeral containers, and kubectl's use of them, became stable
REGISTERS_FIRST = 34  # the one since which a WebSocket is read only when its streams are known
# A server's first message is empty and tells a client that it is connected. An older one may read it too early.
TOO_EARLY = re.compile(rb"^E\d{4} .*websocket\.go:\d+\] Unknown stream id \d, discarding message\n", re.MULTILINE)


def cannot_run(reason: str) -> NoReturn:
    """In CI nothing is skipped; elsewhere the summary at the end of the run says why."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and {reason}")
    pytest.skip(reason)


def aged(age: str, kubernetes: str) -> str:
    """One of AGES."""
    return newest(kubernetes) if age == "newest" else debian(age)


def debian(version: str) -> str:
    """A Debian's, out of the cache."""
    try:
        return str(found(version))
    except VkcriError as error:
        cannot_run(f"kubectl {version} is not tried: {error}")


def installed() -> str:
    """The one that leads PATH."""
    program = shutil.which("kubectl")
    if program is None:
        cannot_run("no kubectl is installed here")
    return program


def that_debugs() -> str:
    """One whose `kubectl debug` speaks the API of today: the guest's own, or where that is too old the next Debian's,
    unpacked into the cache."""
    program = installed()
    return program if minor(program) >= DEBUGS else debian("1.32")


@functools.cache
def minor(program: str) -> int:
    """Its release: 32 of 1.32.4."""
    shown = json.loads(subprocess.run([program, "version", "--client", "-o", "json"], capture_output=True).stdout)
    return int(re.sub(r"\D", "", shown["clientVersion"]["minor"]))


def without_early_messages(errors: bytes, release: int) -> bytes:
    """A kubectl's standard error without the line of a race that one of such a minor release has with itself."""
    return errors if release >= REGISTERS_FIRST else TOO_EARLY.sub(b"", errors)


def newest(kubernetes: str) -> str:
    """The one of a real cluster's release, as `make programs` built it."""
    try:
        return str(built(kubernetes))
    except VkcriError as error:
        cannot_run(str(error))


class Session(subprocess.Popen[bytes]):
    """A kubectl that goes on."""

    def communicate(  # the name is Popen's
        self,
        input: bytes | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> tuple[bytes, bytes]:
        """Both streams to their ends, the second without_early_messages; each b"" where it is no pipe."""
        output, errors = super().communicate(input, timeout)
        assert isinstance(self.args, list)
        return output or b"", without_early_messages(errors or b"", minor(self.args[0]))


@dataclass(frozen=True)
class Kubectl:
    """One of them, with a node's kubeconfig: bytes in, bytes out, without_early_messages."""

    program: str
    node: LiveNode

    def command(self, *arguments: str) -> list[str]:
        return [self.program, f"--kubeconfig={self.node.place.kubeconfig}", *arguments]

    def run(
        self, *arguments: str, data: bytes | None = None, timeout: float = 120.0
    ) -> "subprocess.CompletedProcess[bytes]":
        """Both streams apart; `data` is its whole standard input, which ends behind it. None: no standard input."""
        stdin: dict[str, object] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        done: subprocess.CompletedProcess[bytes] = subprocess.run(  # type: ignore[call-overload]
            self.command(*arguments), capture_output=True, env=self.node.environment, timeout=timeout, **stdin
        )
        done.stderr = without_early_messages(done.stderr, minor(self.program))
        return done

    @contextmanager
    def session(self, *arguments: str, terminal: int = -1) -> Iterator[Session]:
        """One that goes on until the context's end: with pipes at its three ends, or all at the terminal given."""
        ends = (subprocess.PIPE,) * 3 if terminal < 0 else (terminal,) * 3
        command, environment = self.command(*arguments), self.node.environment
        with Session(command, stdin=ends[0], stdout=ends[1], stderr=ends[2], env=environment) as process:
            try:
                yield process
            finally:
                process.kill()
