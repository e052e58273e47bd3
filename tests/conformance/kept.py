"""The runs that are kept, so that the next one of the same selection can be compared: a folder a run, the oldest go.

<cache>/conformance/<key of the selection>/<time>/{report.json,junit.xml,output.log,failures.txt}
"""

import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conformance import report
from tests.conformance.report import Outcome
from vkcri.errors import Unavailable

_KEPT = 5


@dataclass(frozen=True)
class Selection:
    """Which tests: ginkgo's label filter and a regular expression on names, each empty for all; of which Kubernetes.
    `names`: those alone, where a list has them, and `listed` is what the list is called."""

    labels: str
    focus: str
    version: str
    names: tuple[str, ...] = ()
    listed: str = ""

    def __str__(self) -> str:
        told = {"LIST": self.listed, "LABELS": self.labels, "FOCUS": self.focus}
        parts = [f"{name}={value!r}" for name, value in told.items() if value]
        return f"{' '.join(parts) or 'all tests'} of Kubernetes {self.version}"

    @property
    def key(self) -> str:
        told = (self.labels, self.focus, self.version, *([sorted(self.names)] if self.names else []))
        return hashlib.sha256(repr(told).encode()).hexdigest()[:12]


def new_run(cache: Path, selection: Selection) -> Path:
    """A new folder for a run, named by the time, with a number where another run began in that second; the oldest ones
    of the selection go."""
    folder = _folder(cache, selection)
    for old in _runs(folder)[: -_KEPT + 1]:
        shutil.rmtree(old)
    folder.mkdir(parents=True, exist_ok=True)
    run = _made(folder, time.strftime("%Y%m%dT%H%M%S", time.gmtime()))
    (folder / "selection.txt").write_text(f"{selection}\n", encoding="utf-8")
    return run


def last(cache: Path, selection: Selection, but: Path) -> tuple[Path, list[Outcome]] | None:
    """The newest earlier run of the selection that has a report, with its outcomes; None where there is none."""
    for run in reversed(_runs(_folder(cache, selection))):
        if run == but:
            continue
        try:
            return run, report.parse((run / "report.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # a run that was broken off
    return None


def _folder(cache: Path, selection: Selection) -> Path:
    return cache / "conformance" / selection.key


def _made(folder: Path, name: str) -> Path:
    for end in ("", *(f"-{number}" for number in range(2, 10))):
        try:
            (folder / f"{name}{end}").mkdir()
        except FileExistsError:
            continue
        return folder / f"{name}{end}"
    raise Unavailable(f"{folder}: too many runs began at {name}")


def _runs(folder: Path) -> list[Path]:
    """The runs of a selection, the oldest first: their names are times."""
    return sorted(path for path in folder.glob("*") if path.is_dir())
