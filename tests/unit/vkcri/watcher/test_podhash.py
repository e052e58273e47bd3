"""The UID of a static pod is the real kubelet's, which tests/data/podhash has for each of its manifests."""

from pathlib import Path

import pytest

from vkcri.watcher import manifests, podhash

DATA = Path(__file__).parents[3] / "data" / "podhash"
UIDS = dict(reversed(line.split("\t")) for line in (DATA / "uids.tsv").read_text().splitlines())
EMPTY, A = 0x6C62272E07BB014262B821756295C58D, 0xD228CB696F1A8CAF78912B704E4A8964


def test_fnv_has_the_known_values() -> None:
    assert (podhash.fnv128a(b""), podhash.fnv128a(b"a")) == (EMPTY, A)


def test_every_manifest_has_its_uid() -> None:
    assert {path.name for path in DATA.iterdir() if path.suffix in (".yaml", ".json")} == set(UIDS)


@pytest.mark.parametrize("name", UIDS)
def test_a_manifests_uid_is_the_kubelets(name: str) -> None:
    pod = manifests.read((DATA / name).read_bytes(), name, "node-1").pod
    assert pod["metadata"]["uid"] == UIDS[name]
