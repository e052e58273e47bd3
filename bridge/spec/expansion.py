"""$(VAR) references in env values, commands, arguments and subPathExpr, by Kubernetes' expansion rules. Pure.

`$$` is a dollar sign, so `$$(VAR)` is never expanded; a reference to an unknown variable stays as it is written.
"""

import re
from collections.abc import Iterable, Mapping

from vkcri.errors import Invalid

_TOKEN = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, *sources: Mapping[str, str]) -> str:
    """The text with its references resolved; the first source that has a name wins."""

    def resolved(found: re.Match[str]) -> str:
        if found.group(1) is None:
            return "$"
        return next((source[found.group(1)] for source in sources if found.group(1) in source), found.group(0))

    return _TOKEN.sub(resolved, text)


def expand_all(words: Iterable[str] | None, source: Mapping[str, str]) -> list[str]:
    return [expand(str(word), source) for word in words or ()]


def expand_strict(text: str, source: Mapping[str, str]) -> str:
    """As expand, but raises Invalid where a variable is unknown (subPathExpr)."""
    for found in _TOKEN.finditer(text):
        if found.group(1) is not None and found.group(1) not in source:
            raise Invalid(f'missing value for "{found.group(1)}"')
    return expand(text, source)
