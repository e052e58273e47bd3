import re
import sys
from pathlib import Path

import pytest

from tests.conformance import ginkgo
from tests.conformance.ginkgo import Binaries
from tests.conformance.kept import Selection
from vkcri.errors import Refused

BINARIES = Binaries(Path("/bin/ginkgo"), Path("/bin/e2e.test"), Path("/bin/kubectl"))


def test_labels_and_focus_are_given_to_ginkgo_and_the_rest_to_the_tests() -> None:
    words = ginkgo.command(BINARIES, Selection("a && b", "x y", "v1.37.2"), Path("/k"), Path("/out"), 3, "1h")
    split = words.index("--")
    assert {"--procs=3", "--timeout=1h", "--label-filter=a && b", "--focus=x y", "--output-dir=/out"} <= set(
        words[:split]
    )
    assert words[split - 1] == "/bin/e2e.test"
    given = {"--kubeconfig=/k", "--provider=skeleton", "--node-os-distro=debian", "--kubectl-path=/bin/kubectl"}
    assert given <= set(words[split:])


def test_the_tests_of_a_list_are_found_by_their_names_alone() -> None:
    names = ("[sig-x] a (b) [C]", "[sig-y] d.e")
    words = ginkgo.command(BINARIES, Selection("", "a|e", "v1", names, "f.txt"), Path("/k"), Path("/out"), 3, "1h")
    (focus,) = [word.removeprefix("--focus=") for word in words if word.startswith("--focus=")]
    for name, found in ((names[0], True), (f"suite {names[1]} [D]", True), ("[sig-x] a b [C]", False), ("a", False)):
        assert bool(re.search(focus, name)) == found


def test_an_empty_filter_is_left_out() -> None:
    words = ginkgo.command(BINARIES, Selection("", "", "v1.37.2"), Path("/k"), Path("/out"), 1, "1h")
    assert not [word for word in words if word.startswith(("--label-filter", "--focus"))]


def test_the_image_names_are_read_from_the_tests(tmp_path: Path) -> None:
    script = tmp_path / "e2e.test"
    script.write_text(
        "#!/bin/sh\necho 'I1125 a log line'\necho registry.example/pause:3\necho registry.example/a/b:1-2\n"
    )
    script.chmod(0o755)
    assert ginkgo.images(Binaries(script, script, script)) == ["registry.example/a/b:1-2", "registry.example/pause:3"]


def test_progress_counts_what_ended_and_what_failed() -> None:
    output = "Will run 66 of 3206 specs\nRunning in parallel\n••\n• [FAILED] [3.2 seconds]\n• [SLOW TEST]\n"
    assert ginkgo.progress(output.encode()) == "4 of 66 tests ended, 1 failed"
    assert ginkgo.progress(b"") == "0 of ? tests ended, 0 failed"


def test_a_run_gives_the_report_and_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ginkgo, "_PROGRESS_SECONDS", 0.5)
    goes_on = tmp_path / "goes-on"
    script = "import os,sys,time\nprint('Will run 2 of 9 specs',flush=True)\n"
    script += f"while not os.path.exists({str(goes_on)!r}): time.sleep(0.02)\n"
    script += f"open({str(tmp_path / ginkgo.REPORT)!r},'w').write(os.environ['KUBECONFIG'])\n"
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if " of 2 " in line:  # before that the tests' process is not up
            goes_on.touch()

    text = ginkgo.run([sys.executable, "-c", script], {"KUBECONFIG": "/k"}, tmp_path, say)
    assert text == "/k"
    assert said[-1].startswith("0 of 2 tests ended, 0 failed, ")


def test_a_run_that_is_broken_off_ends_the_tests_as_a_terminal_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ginkgo, "_PROGRESS_SECONDS", 0.0)
    interrupted, began = tmp_path / "interrupted", tmp_path / "began"
    script = (  # not a shell's trap: a shell that was started with the signal ignored, as CI may be, cannot catch it
        "import pathlib, signal, sys\n"
        f"signal.signal(signal.SIGINT, lambda *_: (pathlib.Path({str(interrupted)!r}).touch(), sys.exit(1)))\n"
        f"pathlib.Path({str(began)!r}).touch()\n"
        "while True: signal.pause()\n"
    )

    def broken_off(_: str) -> None:
        if began.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ginkgo.run([sys.executable, "-c", script], {}, tmp_path, broken_off)
    assert interrupted.exists()


def test_a_run_without_a_report_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"ended with 3 and no report .*: no such label$"):
        ginkgo.run(["sh", "-c", "echo no such label; exit 3"], {}, tmp_path, print)
