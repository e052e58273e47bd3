"""Running e2e.test: the only user of ginkgo and of the test binary."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.kept import Selection
from vkcri.errors import Refused, Unavailable

REPORT, JUNIT, OUTPUT = "report.json", "junit.xml", "output.log"
_PROGRESS_SECONDS = 30.0
_LIST_SECONDS = 120.0
END_SECONDS = 60.0
_TOTAL = re.compile(rb"Will run (\d+) of \d+ specs")


@dataclass(frozen=True)
class Binaries:
    """The programs, of one version of Kubernetes: kubectl is what tests of it call."""

    ginkgo: Path
    tests: Path
    kubectl: Path


def images(binaries: Binaries) -> list[str]:
    """The names of all images that tests of this version may ask for. Raises Unavailable."""
    try:
        done = subprocess.run(
            [binaries.tests, "--list-images"], capture_output=True, text=True, timeout=_LIST_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{binaries.tests} --list-images: {error}") from error
    return sorted(line.strip() for line in done.stdout.splitlines() if re.fullmatch(r"\S+/\S+:\S+", line.strip()))


def command(
    binaries: Binaries, selection: Selection, kubeconfig: Path, folder: Path, processes: int, limit: str
) -> list[str]:
    """The command line of a run, which `limit` (as Go writes a duration) ends. Of a list of tests ginkgo is told the
    names, in one regular expression."""
    words = [str(binaries.ginkgo), "run", f"--procs={processes}", "--no-color", f"--timeout={limit}", "--silence-skips"]
    words += [f"--output-dir={folder}", f"--json-report={REPORT}", f"--junit-report={JUNIT}"]
    words += [f"--label-filter={selection.labels}"] if selection.labels else []
    focus = "|".join(re.escape(name) for name in selection.names) or selection.focus
    words += [f"--focus={focus}"] if focus else []
    words += [str(binaries.tests), "--", f"--kubeconfig={kubeconfig}", "--provider=skeleton"]
    words += [f"--kubectl-path={binaries.kubectl}"]
    return [*words, "--node-os-distro=debian", "--disable-log-dump=true"]


def run(words: list[str], environment: Mapping[str, str], folder: Path, say: Callable[[str], None]) -> str:
    """Run the tests and wait for their end, saying how far they are; gives the report's text. Raises Refused with the
    last lines of the output where no report was written."""
    log = folder / OUTPUT
    began = said = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            words, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True
        )
        try:
            while process.poll() is None:
                try:
                    process.wait(1.0)
                except subprocess.TimeoutExpired:
                    if time.monotonic() - said >= _PROGRESS_SECONDS:
                        said = time.monotonic()
                        say(f"{progress(log.read_bytes())}, {said - began:.0f} s")
        finally:
            if process.poll() is None:
                _interrupt(process)
    try:
        return (folder / REPORT).read_text(encoding="utf-8")
    except OSError as error:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        raise Refused(
            f"the tests ended with {process.returncode} and no report ({log}): {' '.join(lines[-3:])}"
        ) from error


def end_by_sigterm() -> None:
    """From now on SIGTERM ends this process as an exit does, by exit status 143, so that what it began is ended, too;
    a second one does not cut that short."""

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(143)

    signal.signal(signal.SIGTERM, end)


def progress(output: bytes) -> str:
    """How far a run is, by ginkgo's output: a dot begins the line or the sign of each test that ended."""
    total = _TOTAL.search(output)
    ended, failed = output.count("•".encode()), len(re.findall("• \\[(FAILED|PANICKED|TIMEDOUT)".encode(), output))
    return f"{ended} of {total[1].decode() if total else '?'} tests ended, {failed} failed"


def _interrupt(process: "subprocess.Popen[bytes]") -> None:
    """For a run that is broken off, as a terminal does it: ginkgo ends its tests, whose clean-up runs, and writes its
    report."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
