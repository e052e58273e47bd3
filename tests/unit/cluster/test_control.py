from pathlib import Path

import pytest

from tests.cluster import control
from tests.cluster.place import Place


@pytest.mark.parametrize("text", ["", '{"version": "v1'])
def test_what_a_killed_start_left_half_written_counts_as_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(Place, "folder", tmp_path)
    assert control._kept(Place(1, "")) == {}
    (tmp_path / "cluster.json").write_text(text)
    assert control._kept(Place(1, "")) == {}
