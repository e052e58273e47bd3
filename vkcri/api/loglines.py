"""The CRI log line: `TIME STREAM TAGS CONTENT`, one a line, TAGS' first being P (partial, goes on) or F (full, ends).

Pure, bytes in and bytes out: a container may write anything. Source: kubernetes' kubelet-cri-logging and CRI's
"log_path". Content of a partial line has no newline of its own; the full line that ends it brings it.
"""

from dataclasses import dataclass

from vkcri.api import times
from vkcri.errors import Invalid

STDOUT = b"stdout"
STDERR = b"stderr"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One parsed line. `timestamp` is the text as written (`nanos` parses it); `content` ends in a newline exactly
    if the line is not partial."""

    timestamp: bytes
    stream: bytes
    partial: bool
    content: bytes

    @property
    def nanos(self) -> int:
        """The timestamp in nanoseconds since the epoch. Raises Invalid."""
        return times.parse(self.timestamp.decode("ascii", "replace"))


def parse(line: bytes) -> LogLine:
    """Parse one line, with or without its newline. Raises Invalid, naming what is wrong, for anything else."""
    body = line.removesuffix(b"\n")
    timestamp, _, rest = body.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tags, separator, content = rest.partition(b" ")
    if stream not in (STDOUT, STDERR):
        raise Invalid(f"unexpected stream type {stream[:40]!r}")
    if not tags or (not separator and content):
        raise Invalid("log tag is not found")
    first = tags.split(b":", 1)[0]
    if first not in (b"P", b"F"):
        raise Invalid(f"unexpected log tag {first[:40]!r}")
    parsed = LogLine(timestamp, stream, first == b"P", content if first == b"P" else content + b"\n")
    if not timestamp or not timestamp[:4].isdigit():
        raise Invalid(f"unexpected timestamp {timestamp[:40]!r}")
    return parsed


def format(nanos: int, stream: bytes, content: bytes, *, partial: bool = False) -> bytes:  # noqa: A001 - loglines.format
    """One line with its newline. content must not contain one, save at the end of a full line. Raises Invalid."""
    if stream not in (STDOUT, STDERR):
        raise Invalid(f"unexpected stream type {stream[:40]!r}")
    body = content if partial else content.removesuffix(b"\n")
    if b"\n" in body:
        raise Invalid("a log line's content holds no newline")
    tag = b"P" if partial else b"F"
    return b" ".join((times.nanoseconds(nanos).encode("ascii"), stream, tag, body)) + b"\n"
