"""The sentences of CRI that the bridge relies on, held against the fake and against a real containerd."""

import time
from pathlib import Path

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from tests.contract.conftest import Guest
from tests.contract.fake_runtime import SHELL_IMAGE
from tests.waiting import PATIENCE, wait_for
from vkcri.errors import Conflict, Invalid, NotFound, Unavailable, VkcriError


def wait_exited(guest: Guest, container: str, seconds: float = PATIENCE) -> cri.ContainerStatus:
    deadline = time.monotonic() + seconds
    while (status := guest.container(container)).state != cri.CONTAINER_EXITED:
        assert time.monotonic() < deadline, f"still {cri.ContainerState.Name(status.state)}"
        time.sleep(0.02)
    return status


def listed(guest: Guest, **chosen: object) -> list[cri.PodSandbox]:
    chosen.setdefault("label_selector", {"test": guest.label})
    request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(**chosen))  # type: ignore[arg-type]
    return list(guest.runtime.list_pod_sandbox(request).items)


def containers(guest: Guest, **chosen: object) -> list[cri.Container]:
    request = cri.ListContainersRequest(filter=cri.ContainerFilter(**chosen))  # type: ignore[arg-type]
    return list(guest.runtime.list_containers(request).containers)


def test_a_runtime_says_who_it_is_and_whether_it_is_ready(guest: Guest) -> None:
    version = guest.runtime.version(cri.VersionRequest(version="v1"))
    conditions = guest.runtime.status(cri.StatusRequest()).status.conditions
    assert version.runtime_api_version == "v1"
    assert version.runtime_name
    assert {"RuntimeReady": True, "NetworkReady": True}.items() <= {
        item.type: item.status for item in conditions
    }.items()


def test_a_sandbox_keeps_metadata_labels_and_annotations_and_has_an_address(guest: Guest) -> None:
    before = time.time_ns()
    sandbox = guest.run("kept")
    status, (item,) = guest.status(sandbox), listed(guest)
    config = guest.sandbox_config("kept")
    for found in (status, item):
        assert (found.id, found.state) == (sandbox, cri.SANDBOX_READY)
        assert found.metadata == config.metadata
        assert dict(found.labels) == dict(config.labels)
        assert dict(found.annotations) == dict(config.annotations)
        assert before <= found.created_at <= time.time_ns()
    assert status.network.ip.count(".") == 3


def test_a_handler_that_is_not_configured_is_refused_by_its_name(guest: Guest) -> None:
    request = cri.RunPodSandboxRequest(config=guest.sandbox_config("foreign"), runtime_handler="kata-qemu")
    with pytest.raises(VkcriError, match='no runtime for "kata-qemu" is configured'):
        guest.runtime.run_pod_sandbox(request)
    assert listed(guest) == []


def test_sandboxes_are_found_by_id_state_and_every_label(guest: Guest) -> None:
    first, second = guest.run("one"), guest.run("two")
    guest.stop_sandbox(second)
    ready, stopped = cri.SANDBOX_READY, cri.SANDBOX_NOTREADY
    assert {item.id for item in listed(guest)} == {first, second}
    assert [item.id for item in listed(guest, state=cri.PodSandboxStateValue(state=ready))] == [first]
    assert [item.id for item in listed(guest, state=cri.PodSandboxStateValue(state=stopped))] == [second]
    assert [item.id for item in listed(guest, id=second)] == [second]
    assert [item.id for item in listed(guest, label_selector={"test": guest.label, "name": "one"})] == [first]
    assert listed(guest, label_selector={"test": guest.label, "name": "none"}) == []


def test_a_second_sandbox_of_the_same_name_and_attempt_is_a_conflict(guest: Guest) -> None:
    first = guest.run("same")
    with pytest.raises(Conflict, match="reserved"):
        guest.run("same")
    guest.stop_sandbox(first)
    with pytest.raises(Conflict, match="reserved"):
        guest.run("same")
    second = guest.run("same", attempt=1)
    assert {item.metadata.attempt for item in listed(guest)} == {0, 1}
    assert guest.status(second).state == cri.SANDBOX_READY


def test_stopping_a_sandbox_ends_its_containers_and_is_idempotent(guest: Guest) -> None:
    sandbox = guest.run()
    container = guest.start(sandbox)
    for _ in range(2):
        guest.stop_sandbox(sandbox)
        assert guest.status(sandbox).state == cri.SANDBOX_NOTREADY
        assert guest.container(container).state == cri.CONTAINER_EXITED
        assert guest.container(container).exit_code == 137
    assert guest.status(sandbox).network.ip == ""


def test_removing_a_sandbox_removes_its_containers_and_is_idempotent(guest: Guest) -> None:
    sandbox = guest.run()
    container = guest.start(sandbox)
    guest.stop_sandbox(sandbox)
    guest.remove_sandbox(sandbox)
    guest.remove_sandbox(sandbox)
    guest.stop_sandbox(sandbox)
    assert listed(guest) == []
    assert not guest.exists(container)
    with pytest.raises(NotFound):
        guest.status(sandbox)


def test_a_ready_sandbox_may_be_removed_at_once(guest: Guest) -> None:
    sandbox = guest.run()
    container = guest.start(sandbox)
    guest.remove_sandbox(sandbox)
    assert listed(guest) == []
    assert not guest.exists(container)


def test_what_is_unknown_is_not_found_but_stops_and_goes_without_an_error(guest: Guest) -> None:
    runtime = guest.runtime
    guest.stop("none", 1)
    guest.stop_sandbox("none")
    guest.remove_sandbox("none")
    runtime.remove_container(cri.RemoveContainerRequest(container_id="none"))
    calls = (
        lambda: runtime.container_status(cri.ContainerStatusRequest(container_id="none")),
        lambda: runtime.start_container(cri.StartContainerRequest(container_id="none")),
        lambda: runtime.exec_sync(cri.ExecSyncRequest(container_id="none", cmd=["true"])),
        lambda: runtime.reopen_container_log(cri.ReopenContainerLogRequest(container_id="none")),
        lambda: runtime.exec(cri.ExecRequest(container_id="none", cmd=["true"], stdout=True)),
        lambda: runtime.attach(cri.AttachRequest(container_id="none", stdout=True)),
        lambda: runtime.port_forward(cri.PortForwardRequest(pod_sandbox_id="none", port=[80])),
    )
    for call in calls:
        with pytest.raises(NotFound):
            call()
    assert containers(guest, id="none") == []


def test_a_container_is_created_runs_and_ends_with_its_code(guest: Guest) -> None:
    sandbox = guest.run()
    # It lives a while: containerd notes the start after the fact, so a very short life ends before it began.
    container = guest.create(sandbox, command=("sh", "-c", "sleep 2; exit 7"))
    created = guest.container(container)
    assert (created.state, created.started_at, created.finished_at) == (cri.CONTAINER_CREATED, 0, 0)
    guest.runtime.start_container(cri.StartContainerRequest(container_id=container))
    if guest.fake:
        guest.fake.exit(container, 7)
    ended = wait_exited(guest, container)
    assert (ended.exit_code, ended.reason) == (7, "Error")
    assert 0 < ended.created_at <= ended.started_at <= ended.finished_at
    assert ended.log_path == str(guest.logs / "pod" / "main" / "0.log")


def test_success_is_completed(guest: Guest) -> None:
    container = guest.start(guest.run(), command=("true",))
    if guest.fake:
        guest.fake.exit(container, 0)
    ended = wait_exited(guest, container)
    assert (ended.exit_code, ended.reason) == (0, "Completed")


def test_a_container_keeps_metadata_labels_and_image(guest: Guest) -> None:
    sandbox = guest.run()
    container = guest.create(sandbox, "named")
    status, (item,) = guest.container(container), containers(guest, pod_sandbox_id=sandbox)
    for found in (status, item):
        assert (found.id, found.metadata.name, found.metadata.attempt) == (container, "named", 0)
        assert dict(found.labels) == {"container": "named"}
        assert found.image.image == SHELL_IMAGE
        assert found.image_ref.startswith("sha256:")
    assert item.pod_sandbox_id == sandbox


def test_containers_are_found_by_id_state_sandbox_and_label(guest: Guest) -> None:
    sandbox, other = guest.run("one"), guest.run("two")
    created, running = guest.create(sandbox, "created"), guest.start(sandbox, "running")
    elsewhere = guest.create(other, "created")
    chosen = cri.ContainerStateValue(state=cri.CONTAINER_RUNNING)
    assert {item.id for item in containers(guest, pod_sandbox_id=sandbox)} == {created, running}
    assert [item.id for item in containers(guest, pod_sandbox_id=sandbox, state=chosen)] == [running]
    assert [item.id for item in containers(guest, id=elsewhere)] == [elsewhere]
    found = containers(guest, pod_sandbox_id=sandbox, label_selector={"container": "created"})
    assert [item.id for item in found] == [created]


def test_a_second_container_of_the_same_name_and_attempt_is_a_conflict(guest: Guest) -> None:
    sandbox = guest.run()
    guest.create(sandbox)
    with pytest.raises(Conflict, match="reserved"):
        guest.create(sandbox)


def test_a_container_starts_once(guest: Guest) -> None:
    container = guest.start(guest.run())
    with pytest.raises(Conflict, match="CONTAINER_RUNNING"):
        guest.runtime.start_container(cri.StartContainerRequest(container_id=container))
    guest.stop(container, 1)
    with pytest.raises(Conflict, match="CONTAINER_EXITED"):
        guest.runtime.start_container(cri.StartContainerRequest(container_id=container))


def test_a_command_that_does_not_exist_fails_to_start_and_is_exited_with_128(guest: Guest) -> None:
    container = guest.create(guest.run(), command=("/nonesuch",))
    with pytest.raises(Unavailable, match=r"/nonesuch.*no such file or directory"):
        guest.runtime.start_container(cri.StartContainerRequest(container_id=container))
    status = guest.container(container)
    assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 128, "StartError")
    assert "no such file or directory" in status.message
    assert status.finished_at > 0


def test_a_stopped_container_ends_by_its_own_code_within_the_grace(guest: Guest) -> None:
    container = guest.start(guest.run())
    guest.wait_trapped(container)
    guest.stop(container, 100)
    assert guest.container(container).exit_code == 143
    guest.stop(container, 20)


def test_a_container_that_ignores_the_signal_is_killed_after_the_grace(guest: Guest) -> None:
    if guest.fake:
        guest.fake.stops_on_term = False
    container = guest.start(
        guest.run(), command=("sh", "-c", "trap '' TERM; echo trapped; while :; do sleep 0.05; done")
    )
    guest.wait_trapped(container)
    guest.stop(container, 1)
    status = guest.container(container)
    assert (status.state, status.exit_code, status.reason) == (cri.CONTAINER_EXITED, 137, "Error")


def test_a_grace_of_zero_kills_at_once(guest: Guest) -> None:
    container = guest.start(guest.run())
    guest.stop(container, 0)
    assert guest.container(container).exit_code == 137


def test_a_running_container_may_be_removed_at_once_and_twice(guest: Guest) -> None:
    container = guest.start(guest.run())
    for _ in range(2):
        guest.runtime.remove_container(cri.RemoveContainerRequest(container_id=container))
        assert not guest.exists(container)


def test_no_container_starts_in_a_stopped_sandbox(guest: Guest) -> None:
    sandbox = guest.run()
    guest.stop_sandbox(sandbox)
    with pytest.raises(VkcriError):  # containerd 1.x refuses to create it, 2.x to start it
        guest.start(sandbox)


def test_a_container_needs_its_image(guest: Guest) -> None:
    with pytest.raises(NotFound, match="image"):
        guest.create(guest.run(), image="localhost/vkcri/none:latest")


def test_commands_run_in_a_running_container_only(guest: Guest) -> None:
    if guest.fake:
        guest.fake.exec_answer = cri.ExecSyncResponse(stdout=b"out\n", stderr=b"err\n", exit_code=4)
    container = guest.start(guest.run())
    request = cri.ExecSyncRequest(
        container_id=container, cmd=["sh", "-c", "echo out; echo err >&2; exit 4"], timeout=20
    )
    answer = guest.runtime.exec_sync(request)
    assert (answer.stdout, answer.stderr, answer.exit_code) == (b"out\n", b"err\n", 4)
    guest.stop(container, 1)
    with pytest.raises(Conflict, match="CONTAINER_EXITED"):
        guest.runtime.exec_sync(request)


def test_streams_are_served_at_urls_and_want_a_stream(guest: Guest) -> None:
    sandbox = guest.run()
    container = guest.start(sandbox)
    runtime = guest.runtime
    urls = [
        runtime.exec(cri.ExecRequest(container_id=container, cmd=["sh"], stdin=True, stdout=True)).url,
        runtime.attach(cri.AttachRequest(container_id=container, stdout=True)).url,
        runtime.port_forward(cri.PortForwardRequest(pod_sandbox_id=sandbox, port=[80])).url,
    ]
    assert all(url.startswith("http://127.0.0.1:") for url in urls)
    assert len(set(urls)) == 3
    with pytest.raises(Invalid):
        runtime.exec(cri.ExecRequest(container_id=container, cmd=["sh"]))


def test_a_log_is_reopened_while_the_container_runs(guest: Guest) -> None:
    container = guest.start(guest.run())
    guest.runtime.reopen_container_log(cri.ReopenContainerLogRequest(container_id=container))
    guest.stop(container, 1)
    with pytest.raises(Conflict):
        guest.runtime.reopen_container_log(cri.ReopenContainerLogRequest(container_id=container))


def test_images_are_known_by_name_and_by_id_and_an_unknown_one_is_no_error(guest: Guest) -> None:
    def image(name: str) -> cri.ImageStatusResponse:
        return guest.runtime.image_status(cri.ImageStatusRequest(image=cri.ImageSpec(image=name)))

    found = image(SHELL_IMAGE).image
    assert SHELL_IMAGE in found.repo_tags
    assert image(found.id).image.id == found.id
    assert not image("localhost/vkcri/none:latest").HasField("image")
    assert found.id in {item.id for item in guest.runtime.list_images(cri.ListImagesRequest()).images}
    guest.runtime.remove_image(cri.RemoveImageRequest(image=cri.ImageSpec(image="localhost/vkcri/none:latest")))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("127.0.0.1:1/none:latest", Unavailable, "connection refused"),
        ("Not A Name", Invalid, "invalid reference format"),
    ],
)
def test_a_pull_that_fails_says_why(guest: Guest, name: str, error: type[VkcriError], words: str) -> None:
    with pytest.raises(error, match=words):
        guest.runtime.pull_image(cri.PullImageRequest(image=cri.ImageSpec(image=name)), seconds=30)


def test_the_image_file_system_is_named(guest: Guest) -> None:
    (usage,) = guest.runtime.image_fs_info(cri.ImageFsInfoRequest()).image_filesystems
    assert Path(usage.fs_id.mountpoint).is_absolute()
    assert usage.timestamp > 0


@pytest.mark.container
@pytest.mark.parametrize("guest", ["containerd"], indirect=True)  # the fake runs no process that could write a log
def test_a_log_line_has_time_stream_and_tag(guest: Guest) -> None:
    long = "x" * 20000
    script = f"echo out; echo err >&2; printf {long}; echo; printf partial"
    status = wait_exited(guest, guest.start(guest.run(), command=("sh", "-c", script)))
    log = Path(status.log_path)  # which is written on its own, maybe after the end
    wait_for("five lines", lambda: log.read_text().count("\n") >= 5)
    lines = [line.split(" ", 3) for line in log.read_text().splitlines()]
    out = [line for line in lines if line[1] == "stdout"]
    assert [line[2:] for line in lines if line[1] == "stderr"] == [["F", "err"]]
    assert [line[2] for line in out] == ["F", "P", "F", "P"]
    assert out[1][3] + out[2][3] == long
    assert (len(out[1][3]), out[3][3]) == (16384, "partial")
    assert all(line[0].endswith("Z") and "." in line[0] for line in lines)
