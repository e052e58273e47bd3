"""The folder of manifests is what source `file` of `pods` has, with no API server anywhere."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.living import living
from tests.waiting import until
from vkcri.instance import Instance
from vkcri.queue import Publisher
from vkcri.queue.notices import Notices
from vkcri.watcher import staticpods
from vkcri.watcher.staticpods import BAD_SECONDS, StaticPods


def manifest(name: str, image: str = "shell:1", **metadata: Any) -> str:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    return json.dumps(pod)


class House:
    """A folder, what was published of it, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = Publisher(folder / "none.sock", ("pods", "notices"), sources={"pods": ("api", "file")})
        self.now = 100.0
        self.changes: list[str] = []
        self.static = StaticPods(self.publisher, Notices(self.publisher), folder, "n1", clock=lambda: self.now)
        self.static.changed = self.changes.append

    def write(self, file: str, text: str) -> Path:
        path = self.folder / file
        path.write_text(text)
        return path

    def pods(self) -> dict[str, dict[str, Any]]:
        """Full name -> pod, as published."""
        found = [json.loads(value) for value in self.publisher.items("pods").values()]
        return {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod for pod in found}

    def look(self) -> dict[str, str]:
        """Full name -> image of its container, after a reading."""
        self.static.look()
        return {name: pod["spec"]["containers"][0]["image"] for name, pod in self.pods().items()}

    def notices(self) -> list[str]:
        return sorted(self.publisher.items("notices"))


@pytest.fixture
def house(tmp_path: Path) -> House:
    folder = tmp_path / "manifests"
    folder.mkdir()
    return House(folder)


def test_a_folder_that_is_not_there_is_an_empty_one(tmp_path: Path) -> None:
    house = House(tmp_path / "none")
    assert not house.static.synced()
    assert house.look() == {}
    assert house.static.synced()


def test_every_file_is_a_pod_and_hidden_ones_and_folders_are_none(house: House, tmp_path: Path) -> None:
    house.write("a.yaml", manifest("a"))
    house.write("b", manifest("b", namespace="kube-system"))
    house.write(".c.yaml", manifest("c"))
    (house.folder / "d").mkdir()
    (tmp_path / "elsewhere").write_text(manifest("e"))
    (house.folder / "e.yaml").symlink_to(tmp_path / "elsewhere")
    (house.folder / "f.yaml").symlink_to(tmp_path / "nowhere")
    os.mkfifo(house.folder / "g")
    assert set(house.look()) == {"default/a-n1", "kube-system/b-n1", "default/e-n1"}
    assert house.notices() == []


def test_a_single_file_serves_too(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(manifest("a"))
    assert set(House(tmp_path / "one.yaml").look()) == {"default/a-n1"}


def test_pods_come_change_and_go_and_each_is_told(house: House) -> None:
    path = house.write("a.yaml", manifest("a"))
    house.look()
    first = house.pods()["default/a-n1"]
    house.look()
    assert house.changes == ["default/a-n1"], "nothing has changed since"
    path.write_text(manifest("a", "shell:2"))
    assert house.look() == {"default/a-n1": "shell:2"}
    second = house.pods()["default/a-n1"]
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    assert house.static.get("default/a-n1") == second
    path.unlink()
    assert house.look() == {}
    assert house.static.get("default/a-n1") is None
    assert house.changes == ["default/a-n1"] * 3


def test_a_pod_keeps_the_time_at_which_it_was_first_seen(house: House) -> None:
    path = house.write("a.yaml", manifest("a"))
    house.look()
    seen = house.pods()["default/a-n1"]["metadata"]["annotations"]["kubernetes.io/config.seen"]
    path.write_text(manifest("a") + "\n")
    house.look()
    assert house.pods()["default/a-n1"]["metadata"]["annotations"]["kubernetes.io/config.seen"] == seen


def test_a_renamed_file_is_another_pod(house: House) -> None:
    path = house.write("a.yaml", manifest("a"))
    house.look()
    before = house.pods()["default/a-n1"]["metadata"]["uid"]
    path.rename(house.folder / "b.yaml")
    house.look()
    assert [pod["metadata"]["uid"] == before for pod in house.pods().values()] == [False]


def test_of_two_files_with_one_name_the_later_counts(house: House) -> None:
    house.write("a.yaml", manifest("a", "shell:1"))
    later = house.write("b.yaml", manifest("a", "shell:2"))
    assert house.look() == {"default/a-n1": "shell:2"}
    later.unlink()
    assert house.look() == {"default/a-n1": "shell:1"}


def test_a_bad_file_is_said_and_the_others_go_on(house: House) -> None:
    house.write("a.yaml", manifest("a"))
    bad = house.write("b.yaml", "a: [")
    assert set(house.look()) == {"default/a-n1"}
    assert house.notices() == [f"static:{bad}"]
    house.write("b.yaml", manifest("b"))
    assert set(house.look()) == {"default/a-n1", "default/b-n1"}
    assert house.notices() == []
    house.write("b.yaml", "a: [")
    house.look()
    bad.unlink()
    house.look()
    assert house.notices() == []


def test_a_pod_whose_file_has_become_bad_goes_on_for_a_while(house: House) -> None:
    path = house.write("a.yaml", manifest("a"))
    house.look()
    path.write_text("")  # half written
    assert house.look() == {"default/a-n1": "shell:1"}
    house.now += BAD_SECONDS - 1
    assert house.look() == {"default/a-n1": "shell:1"}
    house.now += 1
    assert house.look() == {}
    path.write_text(manifest("a"))
    assert house.look() == {"default/a-n1": "shell:1"}


def test_the_bytes_of_a_bad_file_are_parsed_once(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parsed: list[bytes] = []

    def read(data: bytes, _file: str, _node_name: str) -> staticpods.manifests.Manifest:
        parsed.append(data)
        raise KeyError("surprise")

    path = house.write("a.yaml", manifest("a"))
    house.look()
    monkeypatch.setattr(staticpods.manifests, "read", read)
    path.write_text("one")
    for _ in range(3):
        assert set(house.look()) == {"default/a-n1"}
        house.now += BAD_SECONDS / 3
    assert set(house.look()) == set(), "its time is judged without it"
    assert house.notices() == [f"static:{path}"]
    path.write_text("two")
    house.look()
    house.look()
    assert parsed == [b"one", b"two"]
    assert len([record for record in caplog.records if record.exc_info]) == 2, "each is told once"


def test_a_file_that_is_too_large_is_not_parsed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    text = manifest("a")
    monkeypatch.setattr(staticpods.manifests, "MOST_BYTES", len(text))
    path = house.write("a.yaml", text + " ")
    assert house.look() == {}
    assert house.notices() == [f"static:{path}"]
    path.write_text(text)
    assert set(house.look()) == {"default/a-n1"}
    assert house.notices() == []


def test_each_file_is_progress(house: House) -> None:
    house.write("a.yaml", manifest("a"))
    house.write("b.yaml", "a: [")
    found: list[int] = []
    house.static.look(lambda: found.append(len(found)))
    assert found == [0, 1]


def test_a_bug_in_one_file_is_said_and_the_others_go_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = staticpods.manifests.read

    def read(data: bytes, file: str, node_name: str) -> staticpods.manifests.Manifest:
        if file.endswith("b.yaml"):
            raise KeyError("surprise")
        return reading(data, file, node_name)

    monkeypatch.setattr(staticpods.manifests, "read", read)
    house.write("a.yaml", manifest("a"))
    bad = house.write("b.yaml", manifest("b"))
    assert set(house.look()) == {"default/a-n1"}
    assert house.notices() == [f"static:{bad}"]


def test_a_folder_that_cannot_be_read_changes_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("a.yaml", manifest("a"))
    house.look()

    def denied(_path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "iterdir", denied)
        assert set(house.look()) == {"default/a-n1"}
        assert house.notices() == [f"static:{house.folder}"]
    house.look()
    assert house.notices() == []


def test_of_two_files_with_one_uid_of_their_own_the_later_counts_and_the_other_is_said(house: House) -> None:
    first = house.write("a.yaml", manifest("a", uid="mine"))
    later = house.write("b.yaml", manifest("b", uid="mine"))
    for _ in range(2):
        assert set(house.look()) == {"default/b-n1"}
        assert house.notices() == [f"static:{first} (its UID)"]
        assert house.static.names() == ["default/b-n1"]
    later.unlink()
    assert set(house.look()) == {"default/a-n1"}
    assert house.notices() == []
    house.write("b.yaml", manifest("b", uid="mine"))
    house.look()
    first.unlink()
    house.look()
    assert house.notices() == []


def test_a_file_that_vanishes_as_it_is_opened_leaves_no_notice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    path = house.write("a.yaml", "a: [")
    house.look()
    assert house.notices() == [f"static:{path}"]
    listed = house.static._listed

    def vanishing() -> list[Path]:
        found = listed()
        path.unlink()
        return found

    monkeypatch.setattr(house.static, "_listed", vanishing)
    house.look()
    assert house.notices() == []


def test_a_pod_that_no_queue_takes_is_said_and_the_others_go_on(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vkcri.queue.messages.MAX_FRAME", 3000)
    big = house.write("a.yaml", manifest("a", annotations={"own": "x" * 3000}))
    house.write("b.yaml", manifest("b"))
    for _ in range(2):
        assert set(house.look()) == {"default/b-n1"}
        assert house.notices() == [f"static:{big}"]
    assert len([record for record in caplog.records if record.levelname != "INFO"]) == 1


def test_a_watch_that_is_refused_is_said_once_and_as_long_as_it_is(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_observer: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    with monkeypatch.context() as patched:
        patched.setattr("vkcri.watcher.staticpods.Observer.start", refuse)
        assert not house.static._watched()
        assert not house.static._watched()
        assert house.notices() == [f"static:{house.folder} (its watch)"]
        assert len(caplog.records) == 1
    try:
        assert house.static._watched()
        assert house.notices() == []
    finally:
        house.static._watch.close()


def test_a_folder_that_is_a_link_is_watched_where_it_leads(
    tmp_path: Path, claim: Callable[[str], Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staticpods, "REREAD_SECONDS", 3600.0)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    house = House(tmp_path / "link")
    with living("test", claim("static")) as process:
        house.static.start(process)
        until(house.static.synced)
        house.write("a.yaml", manifest("a"))
        until(lambda: "default/a-n1" in house.pods())


def test_changes_are_seen_as_they_happen(
    house: House, claim: Callable[[str], Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the watch alone: the next reading without a hint is an hour away. The folder itself may come and go."""
    monkeypatch.setattr(staticpods, "REREAD_SECONDS", 3600.0)
    monkeypatch.setattr(staticpods, "UNWATCHED_SECONDS", 0.05)
    house.folder.rmdir()
    with living("test", claim("static")) as process:
        house.static.start(process)
        until(house.static.synced)
        house.folder.mkdir()
        path = house.write("a.yaml", manifest("a"))
        until(lambda: "default/a-n1" in house.pods())
        path.write_text(manifest("a", "shell:2"))
        until(lambda: house.pods()["default/a-n1"]["spec"]["containers"][0]["image"] == "shell:2")
        path.rename(house.folder / ".hidden")
        until(lambda: house.pods() == {})
        (house.folder / ".hidden").rename(path)
        until(lambda: "default/a-n1" in house.pods())
        path.unlink()
        house.folder.rmdir()
        until(lambda: house.pods() == {})
        house.folder.mkdir()
        house.write("b.yaml", manifest("b"))
        until(lambda: set(house.pods()) == {"default/b-n1"})
