"""What is read of a pod from CRI: states, addresses, and how a container ended."""

import os
from pathlib import Path

import pytest

from bridge.observe import Container, Observed, Reader, container_of, ports, pre_stop, termination_message
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.spec import names
from bridge.spec.resources import Sizes
from tests.contract.fake_runtime import FakeRuntime
from tests.unit.bridge.test_relist import LABEL, make

LOG = b"2026-11-23T21:41:00.000000001Z stdout F "


def ended(**more: object) -> Container:
    fields: dict[str, object] = {"exit_code": 1, "annotations": {}, **more}
    return Container("id", "app", "s0", "exited", **fields)  # type: ignore[arg-type]


def by_log(path: Path, **more: object) -> Container:
    return ended(annotations={names.MESSAGE_POLICY: "FallbackToLogsOnError"}, log_path=str(path), **more)


class TestTerminationMessage:
    def test_is_the_end_of_the_file(self, tmp_path: Path) -> None:
        file = tmp_path / "message"
        file.write_bytes(b"x" * 5000 + b"end")
        assert termination_message(ended(), str(file)) == "x" * 4093 + "end"

    def test_is_empty_without_a_file(self, tmp_path: Path) -> None:
        assert termination_message(ended(), str(tmp_path / "none")) == ""
        assert termination_message(ended(), "") == ""

    def test_never_reads_a_pipe_or_a_link(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "link").symlink_to(tmp_path / "secret")
        for name in ("pipe", "link"):
            assert termination_message(ended(), str(tmp_path / name)) == ""

    def test_is_the_end_of_the_log_by_policy(self, tmp_path: Path) -> None:
        log = tmp_path / "0.log"
        log.write_bytes(b"".join(LOG + b"line %d\n" % number for number in range(100)))
        lines = termination_message(by_log(log), "").splitlines()
        assert (len(lines), lines[0], lines[-1]) == (80, "line 20", "line 99")

    def test_holds_at_most_two_kibibytes_of_log(self, tmp_path: Path) -> None:
        log = tmp_path / "0.log"
        log.write_bytes(LOG + b"y" * 9000 + b"\n" + LOG + b"z" * 3000 + b"\n")
        assert termination_message(by_log(log), "") == "z" * 2047 + "\n"

    def test_joins_partial_lines_of_the_log(self, tmp_path: Path) -> None:
        log = tmp_path / "0.log"
        log.write_bytes(LOG.replace(b" F ", b" P ") + b"one " + b"\n" + LOG + b"two\n" + b"nonsense")
        assert termination_message(by_log(log), "") == "one two\n"

    def test_the_log_is_not_read_for_a_good_end_or_where_the_file_says_something(self, tmp_path: Path) -> None:
        log, file = tmp_path / "0.log", tmp_path / "message"
        log.write_bytes(LOG + b"from the log\n")
        file.write_text("from the file")
        assert termination_message(by_log(log, exit_code=0), "") == ""
        assert termination_message(by_log(log), str(file)) == "from the file"
        assert termination_message(by_log(tmp_path / "none"), "") == ""

    def test_the_log_is_not_read_where_the_runtime_could_not_run_it(self, tmp_path: Path) -> None:
        """The kubelet's rule: it has no log of its own. What it left in its file counts nevertheless."""
        log, file = tmp_path / "0.log", tmp_path / "message"
        log.write_bytes(LOG + b"from the log\n")
        file.write_text("from the file")
        for reason, text in (("ContainerCannotRun", ""), ("StartError", "from the log\n"), ("Error", "from the log\n")):
            ended = by_log(log, exit_code=127, reason=reason)
            assert termination_message(ended, "") == text
            assert termination_message(ended, str(file)) == "from the file"


def test_the_message_of_the_runtime_comes_before_the_containers_own(tmp_path: Path) -> None:
    file = tmp_path / "message"
    file.write_text("own words")
    status = cri.ContainerStatus(
        id="id",
        metadata=cri.ContainerMetadata(name="app", attempt=3),
        state=cri.CONTAINER_EXITED,
        message="runtime's words",
        annotations={names.MESSAGE_PATH: "/dev/termination-log"},
        mounts=[cri.Mount(container_path="/dev/termination-log", host_path=str(file))],
    )
    found = container_of(status, "s0")
    assert found.message == "runtime's words: own words"
    assert (found.name, found.restart_count, found.state) == ("app", 3, "exited")


@pytest.mark.parametrize(
    "words",
    ["failed to create shim task: context canceled: unknown", "failed to start shim: start failed: : signal: killed"],
)
def test_a_start_that_its_asker_did_not_live_to_see_is_none(words: str) -> None:
    status = cri.ContainerStatus(id="id", state=cri.CONTAINER_EXITED, exit_code=128, reason="StartError")
    status.message = f"failed to create containerd task: {words}"
    assert container_of(status, "s0").state == "created"
    status.message = 'exec: "/none": stat /none: no such file or directory'
    assert container_of(status, "s0").state == "exited"


def test_a_state_that_nobody_knows_is_unknown_and_counts_as_alive() -> None:
    found = container_of(cri.ContainerStatus(id="id", state=cri.CONTAINER_UNKNOWN), "s0")
    assert (found.state, found.alive) == ("unknown", True)


@pytest.mark.parametrize(("text", "seconds"), [("20", 20.0), ("", 0.0), ("-5", 0.0), ("soon", 0.0)])
def test_a_back_off_is_a_whole_number_or_none(text: str, seconds: float) -> None:
    assert ended(annotations={"vkcri/backoff": text}).backoff == seconds


def test_annotations_that_are_no_json_are_left_out() -> None:
    assert pre_stop(ended(annotations={names.PRE_STOP: '{"exec": {"command": ["x"]}}'})) == {"exec": {"command": ["x"]}}
    assert pre_stop(ended(annotations={names.PRE_STOP: "nonsense"})) == {}
    assert ports(ended(annotations={names.PORTS: '[{"containerPort": 1}]'})) == [{"containerPort": 1}]
    assert ports(ended(annotations={names.PORTS: "{}"})) == []


def test_a_pod_is_read_whole_and_newest_first(fake: FakeRuntime) -> None:
    fake.add_image("shell")
    runtime = Runtime(fake.endpoint)
    sandbox, container = make(runtime, "a")
    make(runtime, "b")
    reader = Reader(runtime, "a", LABEL)
    seen = reader.read()
    assert [box.id for box in seen.sandboxes] == [sandbox]
    assert seen.sandboxes[0].ips
    assert [(item.id, item.sandbox_id, item.state) for item in seen.containers] == [(container, sandbox, "running")]
    fake.exit(container, 1)
    first = reader.read()
    calls = fake.count("ContainerStatus")
    assert reader.read() == first
    assert fake.count("ContainerStatus") == calls, "what has ended does not change"
    runtime.close()


def test_what_runs_is_asked_about_once_until_it_changes_or_is_wanted_afresh(fake: FakeRuntime) -> None:
    fake.add_image("shell")
    runtime = Runtime(fake.endpoint)
    sandbox, container = make(runtime, "a")
    reader = Reader(runtime, "a", LABEL)

    def asked(*, afresh: bool = False) -> tuple[Observed, int, int]:
        before = fake.count("PodSandboxStatus"), fake.count("ContainerStatus")
        seen = reader.read(afresh=afresh)
        return seen, fake.count("PodSandboxStatus") - before[0], fake.count("ContainerStatus") - before[1]

    first = asked()
    assert first[1:] == (1, 1)
    assert asked() == (first[0], 0, 0)
    fake.containers[container].resources.linux.cpu_shares = 512
    seen, *calls = asked(afresh=True)
    assert (seen.containers[0].sizes, calls) == (Sizes(512, None, None), [1, 1])
    fake.exit(container, 1)
    seen, *calls = asked()
    assert (seen.containers[0].state, calls) == ("exited", [0, 1])
    runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    assert not asked()[0].sandboxes[0].ready
    runtime.close()


def test_what_was_killed_is_looked_at_again(fake: FakeRuntime) -> None:
    fake.add_image("shell")
    runtime = Runtime(fake.endpoint)
    _, container = make(runtime, "a")
    reader = Reader(runtime, "a", LABEL)
    fake.exit(container, 137, reason="Error")
    assert reader.read().containers[0].reason == "Error"
    fake.containers[container].reason = "OOMKilled"
    assert reader.read().containers[0].reason == "OOMKilled"
    runtime.close()


def test_a_log_that_is_written_after_the_end_is_still_the_message(fake: FakeRuntime, tmp_path: Path) -> None:
    fake.add_image("shell")
    runtime = Runtime(fake.endpoint)
    _, container = make(runtime, "a")
    reader, log = Reader(runtime, "a", LABEL), tmp_path / "0.log"
    fake.containers[container].annotations[names.MESSAGE_POLICY] = "FallbackToLogsOnError"
    fake.containers[container].log_path = str(log)
    fake.exit(container, 1)
    assert reader.read().containers[0].message == ""
    log.write_bytes(LOG + b"first words\n")
    assert reader.read().containers[0].message == "first words\n"
    log.write_bytes(LOG + b"first words\n" + LOG + b"last words\n")
    assert reader.read().containers[0].message == "first words\nlast words\n"
    runtime.close()
