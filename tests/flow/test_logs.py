"""Followed logs as kubectl shows them, while what writes them rotates, restarts and is deleted: real containerd."""

import hashlib
from pathlib import Path

import pytest

from tests.flow import kubectls
from tests.flow.kubectls import Kubectl
from tests.flow.live import LiveNode, container, phase, shell_pod
from tests.flow.reading import exactly, lines
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(300)]

LINES = 100_000
SECONDS = 60.0


@pytest.fixture
def plain(node: LiveNode) -> Kubectl:
    """The guest's own kubectl."""
    return Kubectl(kubectls.installed(), node)


def rotated(node: LiveNode, pod: str) -> list[Path]:
    """The older files of its log."""
    return list(node.instance.pod_logs_dir.glob(f"{node.namespace}_{pod}_*/main/0.log.*"))


def test_a_follower_gets_every_byte_of_a_log_that_is_rotated_under_it(plain: Kubectl) -> None:
    """10 MB in lines of 100 bytes, so that the bridge rotates; a line of 1 MiB; bytes that are no text. (A CR before a
    line's end is not here: containerd takes it for a part of that end.)"""
    node, name = plain.node, "rotated"
    numbered = f"awk 'BEGIN {{ for (i = 1; i <= {LINES}; i++) printf \"%099d\\n\", i }}'"
    odd = r"head -c 1048576 /dev/zero | tr '\0' y; echo; printf '\000\001\377\r\376\n\n'"
    begins = "echo ready; until [ -e /tmp/follow ]; do sleep 0.2; done"  # a log that rotates before is not all followed
    ends = "until [ -e /tmp/go ]; do sleep 0.2; done; printf 'the end, without a line end'"
    script = f"{begins}; {numbered}; {odd}; {ends}"
    expected = b"".join(b"%099d\n" % number for number in range(1, LINES + 1))
    expected += b"y" * (1 << 20) + b"\n\x00\x01\xff\r\xfe\n\n"
    node.apply(shell_pod(name, script, restartPolicy="Never"))
    node.wait_ready(name)
    with plain.session("logs", "-f", name) as follower:
        assert lines(follower, 1) == [b"ready\n"]
        node.kubectl("exec", name, "--", "touch", "/tmp/follow")
        assert hashlib.sha256(exactly(follower, len(expected), 120)).digest() == hashlib.sha256(expected).digest()
        wait_for("its log is rotated", lambda: rotated(node, name), 90)
        node.kubectl("exec", name, "--", "touch", "/tmp/go")
        assert follower.communicate(timeout=SECONDS) == (b"the end, without a line end", b"")
        assert follower.returncode == 0
    node.wait_pod(name, lambda it: phase(it) == "Succeeded")
    wait_for("its log", lambda: plain.run("logs", name, "--tail=1").stdout == b"the end, without a line end")
    node.kubectl("delete", "pod", name, "--wait=true")


def test_a_follower_ends_with_its_container_or_its_pod_and_the_next_one_has_a_log_of_its_own(plain: Kubectl) -> None:
    node, name = plain.node, "lives"
    node.apply(shell_pod(name, "echo life $(cat /proc/uptime); until [ -e /tmp/end ]; do sleep 0.1; done; exit 1"))
    node.wait_ready(name)
    with plain.session("logs", "-f", name) as first:
        (line,) = lines(first, 1)
        node.kubectl("exec", name, "--", "touch", "/tmp/end")
        assert first.communicate(timeout=SECONDS) == (b"", b"")
        assert (line[:5], first.returncode) == (b"life ", 0)
    node.wait_pod(name, lambda it: container(it).get("restartCount") == 1 and "running" in container(it)["state"])
    with plain.session("logs", "-f", name) as second:
        (other,) = lines(second, 1)
        assert (other[:5], other == line) == (b"life ", False)
        assert plain.run("logs", name, "--previous").stdout == line
        node.kubectl("delete", "pod", name, "--wait=true")
        assert second.communicate(timeout=SECONDS) == (b"", b"")
        assert second.returncode == 0
