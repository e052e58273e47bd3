"""`python -m tests.conformance`: what `make conformance` runs. Takes the cluster and the node that run.

report, summary, oci    pure: what a run says and means, the words for it; an image archive's digests
recipes, debian, images the images that the tests name, made on the spot
node                    the cluster and the node that are judged
ginkgo, kept            running the tests, keeping the runs
passing.txt             the tests of the default selection that must pass in CI
further.txt             more of Kubernetes' tests that pass: LIST=tests/conformance/further.txt
"""

import os
import sys
import time
from pathlib import Path

import click

from tests import command
from tests.cluster import programs
from tests.cluster.place import Place
from tests.conformance import ginkgo, images, kept, node, recipes, report, summary
from tests.conformance.kept import Selection
from vkcri.config import RuntimeSettings, default_address, load
from vkcri.errors import ConfigError

DEFAULT_LABELS = "Conformance && NodeConformance && sig-node"
PASSING = Path(__file__).with_name("passing.txt")
_LIMIT = {True: "30m", False: "12h"}  # what CI judges takes some 9 minutes, and a report says what did not end


@click.command()
@click.option("--labels", envvar="LABELS", default="", help=f"ginkgo's label filter; default: {DEFAULT_LABELS}")
@click.option("--focus", envvar="FOCUS", default="", help="a regular expression on the tests' names")
@click.option("--procs", envvar="PROCS", default=4, show_default=True, help="tests at a time")
@click.option("--list", "path", type=click.Path(path_type=Path), help="the tests that this file lists must all pass")
@click.option("--ci", is_flag=True, help="fail only where a test of passing.txt did not pass")
def main(labels: str, focus: str, procs: int, path: Path | None, ci: bool) -> None:
    """Run Kubernetes' end-to-end tests against the cluster and the node that run."""
    if labels and (ci or path):
        raise click.UsageError("CI=1 and LIST= judge what a list has or, with FOCUS, a part of it: leave LABELS out")
    judging = path or (PASSING if ci else None)
    listed = _listed(judging, focus) if judging else None
    settings = load(RuntimeSettings)
    judged = node.find(_kubeconfig(), settings)
    built = programs.ensure(judged.version, ["ginkgo", "e2e.test", "kubectl", *recipes.PROGRAMS])
    binaries = ginkgo.Binaries(built["ginkgo"], built["e2e.test"], built["kubectl"])
    contents = {name: built[name] for name in recipes.PROGRAMS}
    cache = programs.cache()
    wanted = [name for name in ginkgo.images(binaries) if not (ci and recipes.recipe_of(name) in recipes.FURTHER)]
    pulled = images.provide(wanted, contents, cache / "images", settings, _say)
    _say(f"no recipe, so a registry must have them for the tests that want them: {images.shortened(pulled)}")
    if path:
        selection = Selection("", focus, judged.version, tuple(listed or ()), path.name)
    else:
        selection = Selection(labels or (DEFAULT_LABELS if ci or not focus else ""), focus, judged.version)
    folder = kept.new_run(cache, selection)
    _say(f"{selection}, {procs} at a time, on node {judged.node}; kept in {folder}")
    began = time.monotonic()
    words = ginkgo.command(binaries, selection, judged.kubeconfig, folder, procs, _LIMIT[ci])
    outcomes = report.parse(ginkgo.run(words, {"KUBECONFIG": str(judged.kubeconfig)}, folder, _say))
    (folder / "failures.txt").write_text("\n".join(summary.whole(outcomes)), encoding="utf-8")
    verdict = report.judge(outcomes, listed) if listed is not None else None
    earlier = kept.last(cache, selection, folder)
    lines = [*summary.failures(outcomes)]
    lines += summary.change(earlier[0].name, report.compare(earlier[1], outcomes)) if earlier else []
    lines += summary.verdict(verdict, os.path.relpath(judging)) if verdict and judging else []
    closing, status = summary.closing(outcomes, verdict, time.monotonic() - began)
    print("\n".join([*lines, closing]), flush=True)
    sys.exit(status)


def _listed(path: Path, focus: str) -> list[str]:
    """The tests of a list that FOCUS finds, of which there must be some. Raises ConfigError."""
    try:
        found = report.listed_names(path.read_text(encoding="utf-8"), focus)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not found:
        raise ConfigError(f"{path} lists no test{f' that {focus!r} finds' if focus else ''}")
    return found


def _kubeconfig() -> Path:
    """KUBECONFIG's, else that of make cluster."""
    given = os.environ.get("KUBECONFIG")
    return Path(given).absolute() if given else Place(0, default_address()).kubeconfig("admin")


def _say(line: str) -> None:
    print(f"conformance: {line}", flush=True)


if __name__ == "__main__":
    ginkgo.end_by_sigterm()  # so that the tests end, too, and clean up
    command.run(main, "conformance")
