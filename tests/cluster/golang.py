"""The go client: the only module that runs it. Every failure is one line that says what to do or what the proxy said.

GOTOOLCHAIN is local, so that go never fetches another Go by itself: that would be a prebuilt program. CGO is off, as in
Kubernetes' own releases.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.cluster import module
from vkcri.errors import ConfigError, Unavailable

_QUERY_SECONDS = 300.0
_TIDY_SECONDS = 1800.0  # it fetches every module that is missing, on a new machine some hundred


def present() -> str:
    """The version of go on this machine, as `go1.26.8`. Raises ConfigError where there is none."""
    if shutil.which("go") is None:
        raise ConfigError(
            "Go is missing: it builds Kubernetes' programs; have go in PATH, 1.26 or newer for Kubernetes 1.37"
        )
    return _output("go", "env", "GOVERSION").strip()


def listed_versions(path: str) -> list[str]:
    """Every version of a module that the proxy serves. Raises Unavailable where it does not answer."""
    return _output("go", "list", "-m", "-versions", path).split()[1:]


def upstream_module(path: str, version: str) -> dict[str, Any]:
    """A published module's go.mod, as `go mod edit -json` gives it. Raises Unavailable with the proxy's answer."""
    downloaded = module.parsed(_fetched("go", "mod", "download", "-json", f"{path}@{version}"))
    return module.parsed(_output("go", "mod", "edit", "-json", downloaded["GoMod"]))


def tidy(folder: Path) -> None:
    """Fill in go.mod and go.sum of the module in a folder. Raises Unavailable."""
    _fetched("go", "mod", "tidy", folder=folder, seconds=_TIDY_SECONDS)


def build(command: Sequence[str], folder: Path, log: Path, held: int, waited: Callable[[], None]) -> None:
    """Run one build in a module's folder; `waited` is called every second. What go says stands in `log`.

    `held`: the descriptor of the cache's lock, which go inherits, so that a build whose starter was killed keeps the
    next one waiting. Raises Unavailable with go's last line."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(), stdout=output, stderr=output, pass_fds=(held,)
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(1.0)
                except subprocess.TimeoutExpired:
                    waited()
        finally:
            process.terminate()
            process.wait()
    if process.returncode != 0:
        raise Unavailable(
            f"{' '.join(command[:2])} {command[-1]}: {_last(log.read_text(errors='replace'))} (all: {log})"
        )


def _fetched(*command: str, folder: Path | None = None, seconds: float = _QUERY_SECONDS) -> str:
    """`_output` of a command that asks the proxy for files, once more where it fails: most failures are a hiccup."""
    try:
        return _output(*command, folder=folder, seconds=seconds)
    except Unavailable:
        return _output(*command, folder=folder, seconds=seconds)


def _output(*command: str, folder: Path | None = None, seconds: float = _QUERY_SECONDS) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder or Path("/"),  # outside any module
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(command)}: no answer within {seconds:.0f} s") from error
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {_last(done.stderr or done.stdout)}")
    return done.stdout


def _environment() -> dict[str, str]:
    dropped = ("GOFLAGS", "GOWORK", "GOOS", "GOARCH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off"}


def _last(text: str) -> str:
    """The line that says what went wrong: an error of a -json answer, or the last one printed."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("go: downloading")]
    named = [line.partition(":")[2].strip().strip('",') for line in lines if line.startswith('"Error"')]
    return (named or lines or ["no message"])[-1]
