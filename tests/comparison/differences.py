"""Two JSON values, field by field, after what must differ was replaced by what it is. Pure.

`plain` keeps a field that a server made up and hides its value only: a UID that is missing, a time without its zone
are differences. `differences` names each by its path.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MADE_UP = {
    "uid": (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
    "resourceVersion": (r"[0-9]+", "<version>"),
    "creationTimestamp": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
    "deletionTimestamp": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
    "lastTransitionTime": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "<time>"),
}
_SUFFIX = re.compile(r"\b(kube-api-access-|generated-|same-)[bcdfghjklmnpqrstvwxz2456789]{5}\b")
_ADDRESS = re.compile(r"10\.\d+\.\d+\.\d+")


@dataclass(frozen=True)
class Difference:
    """`ours` is the embedded server's value, `theirs` the real one's; MISSING where there is none."""

    path: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.path}: embedded {self.ours!r}, real {self.theirs!r}"


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()


def plain(value: Any, given: Any = None, name: str = "") -> Any:
    """A value without what the server made up; `given` is what the request had there, which stays as it is."""
    if isinstance(value, dict):
        given = given if isinstance(given, dict) else {}
        return {key: plain(item, given.get(key), key) for key, item in value.items() if key != "managedFields"}
    if isinstance(value, list):
        items = given if isinstance(given, list) else []
        return [plain(item, items[index] if index < len(items) else None, name) for index, item in enumerate(value)]
    if value == given or (given not in (None, "") and not isinstance(given, dict | list)):
        return value
    if isinstance(value, str):
        pattern, word = _MADE_UP.get(name, ("", ""))
        if pattern and re.fullmatch(pattern, value):
            return word
        if name in ("clusterIP", "clusterIPs") and _ADDRESS.fullmatch(value):
            return "<address>"
        return _SUFFIX.sub(r"\1<suffix>", value)
    if name in ("nodePort", "healthCheckNodePort") and value >= 30000:  # a dry run draws it beyond the range
        return "<port>"
    return value


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[Difference]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted(ours.keys() | theirs.keys()):
            where = f"{path}.{key}" if path else key
            yield from differences(ours.get(key, MISSING), theirs.get(key, MISSING), where)
    elif isinstance(ours, list) and isinstance(theirs, list):
        for index in range(max(len(ours), len(theirs))):
            one, other = (items[index] if index < len(items) else MISSING for items in (ours, theirs))
            yield from differences(one, other, f"{path}[{index}]")
    elif ours != theirs or type(ours) is not type(theirs):
        yield Difference(path, ours, theirs)
