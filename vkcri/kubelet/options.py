"""The query of /containerLogs as options, decoded and validated as Kubernetes' PodLogOptions are. Pure."""

from collections.abc import Mapping

from vkcri.api import times
from vkcri.errors import Invalid
from vkcri.kubelet.logs import Options


def log_options(query: Mapping[str, str], now: float) -> Options:
    """Raises Invalid for what cannot be decoded, ValueError for what is not allowed."""
    tail = query.get("tail") or query.get("tailLines")  # `tail` is the kubelet's old name
    lines = None if tail is None or (query.get("tail") == "all") else _integer(tail)
    since_seconds = _integer(query["sinceSeconds"]) if "sinceSeconds" in query else None
    since_time = query.get("sinceTime") or None
    since = None if since_time in (None, "null") else times.parse(str(since_time))
    limit = _integer(query["limitBytes"]) if "limitBytes" in query else None
    stream = query.get("stream") or "All"
    if (lines is not None and lines < 0) or (limit is not None and limit < 1) or (since_seconds or 1) < 1:
        raise ValueError("tailLines, limitBytes or sinceSeconds")
    if since_seconds == 0 or (since_seconds is not None and since is not None):
        raise ValueError("sinceSeconds and sinceTime")
    if stream not in ("All", "Stdout", "Stderr") or (stream != "All" and lines is not None):
        raise ValueError("stream")
    if since_seconds is not None:
        since = times.of(now) - since_seconds * times.NANO
    return Options(
        tail=lines,
        since=since,
        limit=limit,
        timestamps=boolean(query, "timestamps"),
        previous=boolean(query, "previous"),
        follow=boolean(query, "follow"),
        stream=None if stream == "All" else stream.lower().encode(),
    )


def boolean(query: Mapping[str, str], name: str) -> bool:
    """As Kubernetes decodes query parameters: there and neither false nor 0."""
    return name in query and query[name].lower() not in ("false", "0")


def _integer(value: str) -> int:
    digits = value[1:] if value[:1] in ("-", "+") else value
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise Invalid(f"{value!r} is no number")
    return int(value)
