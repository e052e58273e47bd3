"""What may be removed, and what may not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bridge.collect import Collector, log_folders, surplus
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.relist import Box
from bridge.roster import rebuild
from bridge.spec import names
from vkcri.errors import Unavailable

READY, NOT_READY = cri.SANDBOX_READY, cri.SANDBOX_NOTREADY
RUNNING, EXITED = cri.CONTAINER_RUNNING, cri.CONTAINER_EXITED


def sandbox(name: str, state: int, age: int) -> Box:
    return Box(name, "uid", "", name, state, -age)


def container(name: str, state: int, age: int, box: str = "s1") -> Box:
    return Box(f"{name}{age}", "uid", name, box, state, -age)


def test_one_dead_container_of_each_name_stays() -> None:
    boxes = [
        sandbox("s1", READY, 9),
        container("a", RUNNING, 0),
        container("a", EXITED, 1),
        container("a", EXITED, 2),
        container("a", EXITED, 3),
        container("b", EXITED, 5),
    ]
    assert [box.id for box in surplus(boxes)] == ["a2", "a3"]


def test_a_created_container_is_not_collected() -> None:
    assert surplus([container("a", cri.CONTAINER_CREATED, 0), container("a", EXITED, 1)]) == []


def test_a_dead_sandbox_goes_once_a_newer_one_has_its_place_and_nothing_is_in_it() -> None:
    old, older, oldest = sandbox("s1", NOT_READY, 1), sandbox("s2", NOT_READY, 2), sandbox("s3", READY, 3)
    boxes = [sandbox("s0", READY, 0), old, older, oldest, container("a", EXITED, 1, "s1")]
    assert [box.id for box in surplus(boxes)] == ["s2"]
    assert surplus([sandbox("s0", NOT_READY, 0)]) == []


def test_log_folders_are_found_by_their_pods(tmp_path: Path) -> None:
    for name in ("default_web-0_uid-1", "kube-system_dns.x_uid-2", "somebody", "a_b"):
        (tmp_path / name).mkdir()
    (tmp_path / "default_file_uid-3").write_text("not a folder")
    (tmp_path / "default_link_uid-4").symlink_to(tmp_path)
    found = [(uid, path.name) for uid, path in log_folders(tmp_path)]
    assert found == [("uid-1", "default_web-0_uid-1"), ("uid-2", "kube-system_dns.x_uid-2")]
    assert log_folders(tmp_path / "none") == []


LABELS = {names.POD_NAME: "web", names.POD_NAMESPACE: "shop", names.POD_UID: "uid"}


class TestRebuild:
    def test_a_pod_comes_back_from_labels_and_annotations(self) -> None:
        annotations = {names.TERMINATION_GRACE: "7", "kubernetes.io/config.source": "file"}
        found = rebuild("uid", [Box("s", "uid", "", "s", READY, 0, LABELS, annotations)], 1_800_000_000.0)
        assert found is not None
        assert found["metadata"] == {
            "name": "web",
            "namespace": "shop",
            "uid": "uid",
            "annotations": {"kubernetes.io/config.source": "file"},
            "deletionTimestamp": "2027-01-15T08:00:00Z",
        }
        assert found["spec"] == {"containers": [], "terminationGracePeriodSeconds": 7}

    def test_the_deletions_grace_is_found_too(self) -> None:
        annotations = {names.TERMINATION_GRACE: "x", names.DELETION_GRACE: "3"}
        found = rebuild("uid", [Box("s", "uid", "", "s", READY, 0, LABELS, annotations)], 0.0)
        assert found is not None
        assert found["metadata"]["deletionGracePeriodSeconds"] == 3
        assert "terminationGracePeriodSeconds" not in found["spec"]

    def test_what_lacks_our_labels_is_left_alone(self) -> None:
        assert rebuild("uid", [sandbox("s", READY, 0)], 0.0) is None


class Runtime:
    """One that removes everything but what it holds."""

    held = "a3"

    def container_status(self, request: cri.ContainerStatusRequest) -> cri.ContainerStatusResponse:
        return cri.ContainerStatusResponse(status=cri.ContainerStatus(id=request.container_id))

    def remove_container(self, request: cri.RemoveContainerRequest) -> None:
        if request.container_id == self.held:
            raise Unavailable("it is busy")

    def remove_pod_sandbox(self, request: cri.RemovePodSandboxRequest) -> None:
        del request


def test_each_that_is_gone_is_told_and_is_progress(tmp_path: Path) -> None:
    dead = [container("a", EXITED, age) for age in (1, 2, 3)]
    boxes = [sandbox("s0", READY, 0), sandbox("s2", NOT_READY, 2), *dead]
    relist: Any = SimpleNamespace(relisted=1.0, listing={"uid": frozenset(boxes)})
    roster: Any = SimpleNamespace(complete=lambda: False)
    gone: list[str] = []
    told: list[None] = []
    runtime: Any = Runtime()
    collector = Collector(runtime, relist, roster, None, None, tmp_path, gone.append)  # type: ignore[arg-type]
    collector.collect(lambda: told.append(None))
    assert gone == ["a2", "s2"]
    assert len(told) == 3


def test_short_of_disk_all_that_is_left_of_ended_pods_goes(tmp_path: Path) -> None:
    listing = {
        "over": frozenset([sandbox("s1", NOT_READY, 1), container("b", EXITED, 1, "s1")]),
        "running": frozenset([sandbox("s2", READY, 1), container("c", EXITED, 1, "s2")]),
        "unknown": frozenset([sandbox("s3", NOT_READY, 1)]),
    }
    workers = {"over": SimpleNamespace(over=True), "running": SimpleNamespace(over=False)}
    relist: Any = SimpleNamespace(relisted=1.0, listing=listing)
    roster: Any = SimpleNamespace(complete=lambda: False, worker=workers.get)
    gone: list[str] = []
    runtime: Any = Runtime()
    told: list[None] = []
    collector = Collector(runtime, relist, roster, None, None, tmp_path, gone.append)  # type: ignore[arg-type]
    collector.delete_unused(lambda: told.append(None))
    assert (gone, len(told)) == (["b1", "s1"], 2)


class Disk:
    """Volumes, cgroups and a roster; as soon as the first stray is torn down, the pods in `come` are known."""

    def __init__(self, *uids: str, come: tuple[str, ...] = ()) -> None:
        self.uids = set(uids)
        self.come = come
        self.wanted: set[str] = set()
        self.removed: list[str] = []

    def known(self) -> set[str]:
        return set(self.uids)

    def teardown(self, uid: str, progress: object) -> None:
        del progress
        self.removed.append(uid)
        self.wanted |= set(self.come)

    def remove_pod(self, uid: str) -> None:
        assert uid in self.removed

    def roster(self) -> Any:
        return SimpleNamespace(complete=lambda: True, known=lambda: set(self.wanted), worker=lambda _uid: None)


def test_a_pod_that_comes_while_strays_are_removed_keeps_its_volumes_and_logs(tmp_path: Path) -> None:
    disk = Disk("a", "b", "c", come=("b", "new"))
    for uid in ("a", "new", "old"):
        (tmp_path / f"default_web_{uid}").mkdir()
    relist: Any = SimpleNamespace(relisted=1.0, listing={"c": frozenset()})
    volumes: Any = disk
    Collector(Runtime(), relist, disk.roster(), volumes, volumes, tmp_path, print).collect()  # type: ignore[arg-type]
    assert disk.removed == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["default_web_new"]
