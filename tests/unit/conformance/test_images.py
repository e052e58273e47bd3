"""Images for the end-to-end tests: what is in them, when they are assembled anew, and that a containerd takes them."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bridge.images_local import Entry, layer_of, oci_archive
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.conformance import debian, images, oci, recipes
from tests.conformance.recipes import Content, Programs
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused

NAME = "registry.example/e2e-test-images/tool:1.4"


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, Path]:
    """Programs of Kubernetes that only say their name."""
    made = {}
    for name in recipes.PROGRAMS:
        made[name] = tmp_path / name
        made[name].write_text(f"#!/bin/sh\necho {name}\n")
    return made


def counting(made: list[Programs]) -> Callable[[Programs], Content]:
    def recipe(programs: Programs) -> Content:
        made.append(programs)
        return Content([Entry("hello", 0o644, b"hello\n")], {"Cmd": ["none"]})

    return recipe


def by_path(content: Content) -> Mapping[str, Entry]:
    return {entry.path: entry for entry in content.entries}


def test_a_recipe_is_found_by_the_path_of_a_name_whatever_host_and_tag() -> None:
    assert recipes.recipe_of("registry.example/pause:3.10.2") is recipes.pause
    assert recipes.recipe_of("127.0.0.1:5000/e2e-test-images/agnhost:2.55") is recipes.agnhost
    assert recipes.recipe_of("registry.example/private/agnhost:2.6") is None
    assert recipes.recipe_of("registry.example/e2e-test-images/unheard-of:1") is None
    assert recipes.recipe_of("registry.example/e2e-test-images/kitten:1.8") in recipes.FURTHER


def test_a_picture_is_told_apart_by_its_name(programs: dict[str, Path]) -> None:
    contents = [by_path(recipe(programs))["data.json"].content for recipe in (recipes.kitten, recipes.nautilus)]
    assert [json.loads(content or b"")["image"] for content in contents] == ["kitten.jpg", "nautilus.jpg"]


def test_an_image_is_assembled_once_and_again_when_what_goes_into_it_changes(
    tmp_path: Path, programs: dict[str, Path]
) -> None:
    made: list[Programs] = []
    said: list[str] = []
    folder = tmp_path / "cache"
    first = images.assemble(counting(made), [NAME], programs, folder, said.append)
    assert images.assemble(counting(made), [NAME], programs, folder, said.append) == first
    assert (len(made), len(said)) == (1, 1)
    programs["agnhost"].write_text("another")
    second = images.assemble(counting(made), [NAME], programs, folder, said.append)
    assert len(made) == 2
    assert list(folder.iterdir()) == [second[NAME]] != [first[NAME]]


def test_a_newer_archive_replaces_that_of_its_own_name_only(tmp_path: Path, programs: dict[str, Path]) -> None:
    longer = f"{NAME}.2"
    first = images.assemble(counting([]), [NAME, longer], programs, tmp_path / "cache", str)
    programs["agnhost"].write_text("another")
    images.assemble(counting([]), [NAME], programs, tmp_path / "cache", str)
    assert (first[NAME].exists(), first[longer].exists()) == (False, True)


def test_two_tags_of_a_recipe_share_their_layer_and_are_two_images(tmp_path: Path, programs: dict[str, Path]) -> None:
    made: list[Programs] = []
    archives = images.assemble(counting(made), [NAME, f"{NAME}-2"], programs, tmp_path / "cache", str)
    assert len(made) == 1
    found, layers = [], []
    for path in archives.values():
        with tarfile.open(path) as archive:
            image, blobs = oci.image_in(archive), oci.blobs_in(archive)
            found.append(image.config)
            layers.append(json.loads(blobs[image.manifest])["layers"])
    assert found[0] != found[1]
    assert layers[0] == layers[1]


def test_an_archive_tells_its_manifest_and_its_id() -> None:
    data = oci_archive(NAME, layer_of([Entry("hello", 0o644, b"hello\n")]), {"Cmd": ["none"]})
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        image, blobs = oci.image_in(archive), oci.blobs_in(archive)
    assert json.loads(blobs[image.manifest])["config"]["digest"] == image.config
    assert json.loads(blobs[image.config])["config"] == {"Cmd": ["none"]}
    assert len(blobs) == 3


def test_a_shell_that_hands_on_every_variable_is_in_the_busybox_image(programs: dict[str, Path]) -> None:
    entries = by_path(recipes.busybox(programs))
    content = entries["usr/bin/sh"].content
    assert content is not None
    assert b"GNU bash" in content
    (path,) = recipes.busybox(programs).config["Env"]
    assert path.split(":").index("/usr/bin") < path.split(":").index("/bin")
    assert (entries["bin/sh"].link, entries["bin/env"].link) == ("/bin/busybox", "/bin/busybox")


def test_the_program_without_new_privileges_belongs_to_root_with_the_bit_set(programs: dict[str, Path]) -> None:
    entry = by_path(recipes.nonewprivs(programs))["usr/local/bin/nnp"]
    assert (entry.mode, entry.content) == (0o6755, b"#!/bin/sh\necho nonewprivs\n")


def test_agnhost_has_its_program_its_tools_its_users_and_a_registry(
    programs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    netcat, busybox = Entry("bin/nc.openbsd", 0o755, b""), Entry("bin/busybox", 0o755, b"")
    monkeypatch.setattr(recipes, "root_file_system", lambda _: [netcat, busybox])
    monkeypatch.setattr(recipes, "with_applets", lambda entries: list(entries))
    content = recipes.agnhost(programs)
    entries = by_path(content)
    assert content.config["Entrypoint"] == ["/agnhost"]
    assert entries["agnhost"].content == programs["agnhost"].read_bytes()
    assert (entries["agnhost-2"].link, entries["usr/bin/nc"].link) == ("agnhost", "/bin/nc.openbsd")
    assert b"group-defined-in-image:x:50000:user-defined-in-image\n" in (entries["etc/group"].content or b"")
    digest = (entries["var/registry/pause/manifests/testing"].content or b"").decode().strip().removeprefix("sha256:")
    manifest = json.loads(
        entries[f"var/registry/pause/manifests/sha256/{digest[:2]}/{digest}/data"].content or b"",
    )
    for blob in (manifest["config"], *manifest["layers"]):
        name = blob["digest"].removeprefix("sha256:")
        content_of_blob = entries[f"var/registry/pause/blobs/sha256/{name[:2]}/{name}/data"].content
        assert content_of_blob is not None
        assert len(content_of_blob) == blob["size"]
    assert entries["var/registry/pause/manifests"].content is None


def test_busybox_answers_only_to_names_that_nothing_else_has() -> None:
    program = debian.program_in(recipes.busybox({}).entries, "busybox")
    entries = [program, Entry("usr/bin/wget", 0o755, b"the real one"), Entry("opt/vi", 0o755, b"not in PATH")]
    added = {entry.path: entry.link for entry in debian.with_applets(entries)[3:]}
    assert added["usr/local/bin/vi"] == "/bin/busybox"
    assert "usr/local/bin/wget" not in added
    assert "usr/local/bin/busybox" not in added


def test_a_program_that_no_package_has_is_told() -> None:
    with pytest.raises(Refused, match="no program dig"):
        debian.program_in([Entry("opt/dig", 0o755, b"")], "dig")


def test_a_package_that_debian_does_not_have_is_told_in_apts_words(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    real = debian._run

    def offline(command: list[str]) -> str:
        commands.append(command)
        return "" if command[-1] == "update" else real(command)

    monkeypatch.setattr(debian, "_run", offline)
    with pytest.raises(Refused, match=r"apt-get -y: .*vkcri-there-is-no-such-package"):
        debian.root_file_system(["vkcri-there-is-no-such-package"])
    assert [command[-1] for command in commands] == [
        "vkcri-there-is-no-such-package",
        "update",
        "vkcri-there-is-no-such-package",
    ]


@pytest.mark.container
def test_images_are_loaded_once_and_those_without_a_recipe_are_named(
    containerd_settings: RuntimeSettings, containerd_runtime: Runtime, programs: dict[str, Path], tmp_path: Path
) -> None:
    said: list[str] = []
    names = ["registry.example/e2e-test-images/nonroot:1.5", "registry.example/pause:3.10.2", "registry.example/x/y:1"]
    for _ in range(2):
        assert images.provide(names, programs, tmp_path / "cache", containerd_settings, said.append) == names[2:]
    assert [line for line in said if line.startswith("loaded")] == [f"loaded {name}" for name in names[:2]]
    for name, user in ((names[0], 1234), (names[1], 65535)):
        answer = containerd_runtime.image_status(cri.ImageStatusRequest(image=cri.ImageSpec(image=name)), seconds=10.0)
        assert answer.image.uid.value == user
        containerd_runtime.remove_image(cri.RemoveImageRequest(image=cri.ImageSpec(image=name)))


def test_images_without_a_recipe_are_said_in_one_line_by_their_last_names() -> None:
    assert images.shortened(["registry.example/b/two:2", "registry.example/one:1"]) == "one:1, two:2"
    assert images.shortened([]) == "none"
