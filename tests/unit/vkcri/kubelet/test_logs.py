"""Log files against an oracle that reads the whole file and thinks in lists."""

import io
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vkcri.api import loglines, times
from vkcri.errors import NotFound
from vkcri.kubelet import logs
from vkcri.kubelet.logs import Options

START = times.parse("2026-11-23T10:00:00Z")


def record(second: float, content: bytes, *, partial: bool = False, stream: bytes = b"stdout") -> bytes:
    return loglines.format(START + int(second * times.NANO), stream, content, partial=partial)


def text(path: Path, **options: object) -> bytes:
    return b"".join(logs.read(path, Options(**options)))  # type: ignore[arg-type]


_RECORDS = st.lists(
    st.builds(
        lambda time, content, partial, stream: record(time / 10, content, partial=partial, stream=stream),
        st.integers(0, 50),
        st.one_of(
            st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"\r")),
            st.integers(0, 200).map(lambda size: b"x" * size),
            st.sampled_from([b" stdout F ", b"2026-11-23T10:00:00.000000000Z stdout P x", b""]),
        ),
        st.booleans(),
        st.sampled_from([b"stdout", b"stderr"]),
    )
    | st.sampled_from([b"\n", b"rubbish\n", b"2026-11-23T10:00:00Z stdin F x\n", b"2026-11-23T10:00:00Z stdout X x\n"])
    | st.just(b"2026-11-23T12:00:01.5+02:00 stdout F elsewhere\n"),
    max_size=30,
)
_REST = st.sampled_from([b"", b"2026", b"2026-11-23T10:00:09Z stdout F unfin", b"2026-11-23T10:00:09Z stderr P x"])


def _oracle_lines(data: bytes) -> list[list[bytes]]:
    """The file's records in lists, a list a line; the last may lack its newline."""
    lines: list[list[bytes]] = [[]]
    for item in data.splitlines(keepends=True) if b"\r" not in data else io.BytesIO(data).readlines():
        lines[-1].append(item)
        tag = item.split(b" ")[2:3]
        if not tag or tag[0].split(b":")[0] != b"P":
            lines.append([])
    return [line for line in lines if line]


def _oracle(data: bytes, rest: bytes, options: Options) -> bytes:
    lines = _oracle_lines(data)
    if options.tail is not None:
        lines = lines[len(lines) - options.tail :] if options.tail < len(lines) else lines
    records = [item for line in lines for item in line] + ([rest] if rest and options.tail != 0 else [])
    result, line_start = b"", True
    for item in records:
        try:
            parsed = loglines.parse(item)
        except ValueError:
            raise
        except Exception:  # noqa: BLE001, S112 - Invalid: the oracle leaves it out
            continue
        content = parsed.content if item.endswith(b"\n") else parsed.content.removesuffix(b"\n")
        stamp = times.nanoseconds(parsed.nanos).encode() if parsed.timestamp.endswith(b"Z") else b""
        prefix = (stamp or b"2026-11-23T12:00:01.500000000+02:00") + b" "
        if (options.since is None or parsed.nanos >= options.since) and options.stream in (None, parsed.stream):
            result += (prefix if options.timestamps and line_start else b"") + content
        line_start = not content or content.endswith(b"\n")
    return result if options.limit is None else result[: options.limit]


@given(
    _RECORDS,
    _REST,
    st.builds(
        Options,
        tail=st.none() | st.integers(0, 12),
        since=st.none() | st.integers(0, 60).map(lambda tenth: START + tenth * times.NANO // 10),
        limit=st.none() | st.integers(1, 400),
        timestamps=st.booleans(),
        stream=st.sampled_from([None, None, b"stdout", b"stderr"]),
    ),
    st.integers(3, 200),
)
@example([record(0, b"a", partial=True), record(0, b"b")], b"", Options(tail=1), 50)
@settings(max_examples=500)
def test_any_file_with_any_options_reads_as_the_oracle(
    records: list[bytes], rest: bytes, options: Options, block: int
) -> None:
    data = b"".join(records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "BLOCK", block)
        patch.setattr(logs, "_TAIL_BLOCK", block)
        file = io.BytesIO(data + rest)
        file.seek(0 if options.tail is None else logs.tail_offset(file, len(data + rest), options.tail))
        result = b"".join(logs._read(file, len(data + rest), options))
    assert result == _oracle(data, rest, options)


_WHOLE = st.builds(
    lambda second, fraction, zone, stream, content: (
        b"2026-11-23T%02d:00:%02d%b%b %b F %b\n"
        % (10 + (zone == b"+02:00") * 2, second, fraction, zone, stream, content)
    ),
    st.integers(0, 9),
    st.sampled_from([b"", b".5", b".000000001", b".123456789", b".1234"]),
    st.sampled_from([b"Z", b"Z", b"Z", b"Z", b"+02:00", b"+00:00"]),
    st.sampled_from([b"stdout", b"stderr"]),
    st.sampled_from([b"", b"x", b" stdout F y", b"z" * 50]),
)


@given(
    st.lists(_WHOLE, max_size=8)
    | st.lists(_WHOLE, max_size=8).map(lambda items: [x.replace(b"Z", b"+02:00") for x in items])
    | _RECORDS,
    st.none() | st.integers(0, 100).map(lambda tenth: START + tenth * times.NANO // 10),
    st.booleans(),
    st.sampled_from([None, b"stdout"]),
)
@settings(max_examples=500)
def test_quick_way_agrees_with_the_exact_one(
    records: list[bytes], since: int | None, timestamps: bool, stream: bytes | None
) -> None:
    data, options = b"".join(records), Options(since=since, timestamps=timestamps, stream=stream)
    quick = logs.Renderer(options)._whole_lines(data)
    assert quick is None or quick == b"".join(logs.Renderer(options)._each(data))


def test_quick_way_is_taken_for_what_containerd_writes() -> None:
    data = b"".join(record(second, b"line %d" % second) for second in range(1000)) + record(5, b"no zeros").replace(
        b".000000000Z", b"+01:00"
    )
    assert logs.Renderer(Options())._whole_lines(data) is not None
    data = data.replace(b"Z ", b"+01:00 ").replace(b".000000000+", b".5+")
    for options in (Options(), Options(timestamps=True), Options(since=START), Options(stream=b"stderr")):
        assert logs.Renderer(options)._whole_lines(data) is not None


def test_partial_records_are_one_line_with_one_timestamp(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(
        record(0, b"before") + record(1, b"ab", partial=True) + record(1.5, b"cd", partial=True) + record(2, b"ef")
    )
    assert text(path) == b"before\nabcdef\n"
    assert text(path, tail=1) == b"abcdef\n"
    assert text(path, tail=1, timestamps=True) == b"2026-11-23T10:00:01.000000000Z abcdef\n"


def test_tail_of_a_large_file_reads_only_its_end(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    with path.open("wb") as file:
        file.seek(4 << 30)  # sparse: reading it all would take seconds, and its zeros are no records
        file.write(b"\n" + b"".join(record(index, b"%d" % index) for index in range(5000)))
    reads = []

    class Counting(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
            reads.append(size or 0)
            return super().read(-1 if size is None else size)

    with Counting(path) as counting:
        offset = logs.tail_offset(counting, path.stat().st_size, 1000)  # type: ignore[arg-type]
    assert sum(reads) < 200_000
    assert path.stat().st_size - offset == sum(len(record(index, b"%d" % index)) for index in range(4000, 5000))


def test_record_without_end_does_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RECORD_LIMIT", 1000)
    monkeypatch.setattr(logs, "BLOCK", 100)
    path = tmp_path / "0.log"
    path.write_bytes(b"x" * 5000 + b"\n" + record(1, b"after"))
    assert text(path) == b"after\n"
    assert text(path, tail=1) == b"after\n"


def test_limit_cuts_inside_a_line(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(record(0, b"first") + record(1, b"second"))
    assert text(path, limit=8) == b"first\nse"
    assert text(path, limit=8, tail=1) == b"second\n"


def test_missing_file_is_not_found_before_the_first_block(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"0\.log"):
        logs.read(tmp_path / "0.log", Options())


def test_what_is_written_while_it_is_read_waits_for_the_next_reader(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(record(0, b"first"))
    blocks = logs.read(path, Options())
    with path.open("ab") as file:
        file.write(record(1, b"second"))
    assert b"".join(blocks) == b"first\n"
