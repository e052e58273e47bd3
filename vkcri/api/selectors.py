"""Label selectors, as text and as LabelSelector objects, and field selectors: parse, print, match.

Pure. The grammar is that of Kubernetes' labels.Parse and fields.ParseSelector; errors are Invalid with a message
that an API server may send as it is (status 400).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vkcri.errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_TOKEN = re.compile(r"\s*(==|!=|[=!<>(),]|[^\s=!<>(),]+)")
_OBJECT_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}
_TEXT = {"=": "{0}={1}", "!=": "{0}!={1}", "in": "{0} in ({1})", "notin": "{0} notin ({1})", "exists": "{0}"}
_TEXT |= {"!": "!{0}", ">": "{0}>{1}", "<": "{0}<{1}"}


@dataclass(frozen=True)
class Requirement:
    """One term. operator: "=", "!=", "in", "notin", "exists", "!", ">" or "<"."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """A missing key satisfies "!=", "notin" and "!" only."""
        label = labels.get(self.key)
        if self.operator in ("=", "in"):
            return label is not None and label in self.values
        if self.operator in ("!=", "notin"):
            return label is None or label not in self.values
        if self.operator in ("exists", "!"):
            return (label is not None) == (self.operator == "exists")
        if label is None or not re.fullmatch(r"[+-]?\d+", label):
            return False
        return int(label) > int(self.values[0]) if self.operator == ">" else int(label) < int(self.values[0])

    def __str__(self) -> str:
        return _TEXT[self.operator].format(self.key, ",".join(sorted(self.values)))


@dataclass(frozen=True)
class LabelSelector:
    """All requirements must hold; none at all selects everything, `nothing` selects nothing (a null LabelSelector)."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        return not self.nothing and all(requirement.matches(labels or {}) for requirement in self.requirements)

    @property
    def empty(self) -> bool:
        """Whether it selects everything."""
        return not self.requirements and not self.nothing

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


@dataclass(frozen=True)
class FieldSelector:
    """Terms (path, equal?, value), all of which must hold. `matches` takes the selectable fields of one object; which
    paths a kind supports is its server's business: see `paths`."""

    terms: tuple[tuple[str, bool, str], ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path, _, _ in self.terms)

    def matches(self, fields: Mapping[str, str]) -> bool:
        """A path that the object lacks counts as the empty string, as in fields.Set."""
        return all((fields.get(path, "") == value) == equal for path, equal, value in self.terms)

    def required(self, path: str) -> str | None:
        """The one value that `path` must have, or None where the selector does not fix it."""
        return next((value for name, equal, value in self.terms if name == path and equal), None)

    def __str__(self) -> str:
        return ",".join(f"{path}{'=' if equal else '!='}{_escape(value)}" for path, equal, value in self.terms)


def parse_labels(text: str | None) -> LabelSelector:
    """labels.Parse: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`. Empty or None selects everything. Raises Invalid."""
    tokens = _tokens(text or "")
    requirements: list[Requirement] = []
    position = 0
    while position < len(tokens):
        requirement, position = _requirement(tokens, position, text or "")
        requirements.append(requirement)
        if position < len(tokens):
            if tokens[position] != "," or position + 1 == len(tokens):
                raise Invalid(f"unable to parse requirement: found '{tokens[position]}' in {text!r}")
            position += 1
    return LabelSelector(tuple(sorted(requirements, key=lambda item: item.key)))


def from_object(selector: Mapping[str, Any] | None) -> LabelSelector:
    """A metav1.LabelSelector `{matchLabels, matchExpressions}`: null selects nothing, {} everything. Raises Invalid."""
    if selector is None:
        return LabelSelector(nothing=True)
    requirements = [_checked(key, "=", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or []:
        operator = _OBJECT_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise Invalid(f"{expression.get('operator')!r} is not a valid label selector operator")
        requirements.append(_checked(expression.get("key", ""), operator, tuple(expression.get("values") or ())))
    return LabelSelector(tuple(sorted(requirements, key=lambda item: item.key)))


def from_map(labels: Mapping[str, str] | None) -> LabelSelector:
    """A plain map (a Service's selector, a nodeSelector): every label must be equal; empty selects everything."""
    return LabelSelector(tuple(Requirement(key, "=", (value,)) for key, value in sorted((labels or {}).items())))


def parse_fields(text: str | None) -> FieldSelector:
    """fields.ParseSelector: `a=b,c==d,e!=f` with backslash before , = and backslash in values. Raises Invalid."""
    terms = []
    for term in _split_fields(text or ""):
        found = re.match(r"([^=!\\,]*)(!=|==|=)", term)
        if not found:
            raise Invalid(f"invalid selector: {text!r}; can't understand {term!r}")
        terms.append((found.group(1), found.group(2) != "!=", _unescape(term[found.end() :])))
    return FieldSelector(tuple(terms))


def check_key(key: str) -> None:
    """Raises Invalid unless key is a qualified label name, `[prefix/]name`."""
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name) or (slash and (not _PREFIX.fullmatch(prefix) or len(prefix) > 253)):
        raise Invalid(
            f"key: Invalid value: {key!r}: a qualified name is alphanumerics, '-', '_' or '.', "
            "with an optional DNS subdomain prefix and '/'"
        )


def check_value(value: str, key: str = "") -> None:
    """Raises Invalid unless value may stand as a label's value."""
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise Invalid(
            f"values[{key}]: Invalid value: {value!r}: a label is empty or at most 63 alphanumerics, '-', '_' or '.'"
        )


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        found = _TOKEN.match(stripped, position)
        if not found:
            raise Invalid(f"unable to parse requirement: {text!r}")
        tokens.append(found.group(1))
        position = found.end()
    return tokens


def _requirement(tokens: Sequence[str], position: int, text: str) -> tuple[Requirement, int]:
    """One requirement from tokens[position:], and where the next begins."""
    if tokens[position] == "!":
        if position + 1 >= len(tokens):
            raise Invalid(f"unable to parse requirement: no key after '!' in {text!r}")
        return _checked(tokens[position + 1], "!", ()), position + 2
    key = tokens[position]
    operator = tokens[position + 1] if position + 1 < len(tokens) else ","
    if operator == ",":
        return _checked(key, "exists", ()), position + 1
    if operator in ("in", "notin"):
        values, position = _values(tokens, position + 2, text)
        return _checked(key, operator, values), position
    if operator not in ("=", "==", "!=", ">", "<"):
        raise Invalid(f"unable to parse requirement: found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
    follows = tokens[position + 2] if position + 2 < len(tokens) else ","
    value = "" if follows == "," else follows
    return _checked(key, "=" if operator == "==" else operator, (value,)), position + (2 if follows == "," else 3)


def _values(tokens: Sequence[str], position: int, text: str) -> tuple[tuple[str, ...], int]:
    """The values of `(a,b)` that begin at tokens[position], and the position behind the parenthesis."""
    if position >= len(tokens) or tokens[position] != "(" or ")" not in tokens[position:]:
        raise Invalid(f"unable to parse requirement: expected '(' and ')' in {text!r}")
    end = tokens.index(")", position)
    values: list[str] = [""]
    for token in tokens[position + 1 : end]:
        if token == ",":
            values.append("")
        elif values[-1]:
            raise Invalid(f"unable to parse requirement: found '{token}', expected ',' or ')' in {text!r}")
        else:
            values[-1] = token
    return tuple(values), end + 1


def _checked(key: str, operator: str, values: tuple[str, ...]) -> Requirement:
    check_key(key)
    for value in values:
        check_value(value, key)
    if operator in ("in", "notin") and not values:
        raise Invalid("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty")
    if operator in ("exists", "!") and values:
        raise Invalid("values: Invalid value: values set must be empty for exists and does not exist")
    if operator in (">", "<") and not re.fullmatch(r"[+-]?\d+", values[0]):
        raise Invalid(
            f"values[0]: Invalid value: {values[0]!r}: for 'Gt', 'Lt' operators, the value must be an integer"
        )
    return Requirement(key, operator, values)


def _split_fields(text: str) -> list[str]:
    return [term for term in re.findall(r"(?:\\.|[^,\\])+", text, re.DOTALL) if term]


def _escape(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)


def _unescape(value: str) -> str:
    for found in re.finditer(r"\\(.?)|[,=]", value, re.DOTALL):
        if found.group(1) is None:
            raise Invalid(f"invalid field selector: unescaped character in value: {ord(found.group())}")
        if found.group(1) not in ("\\", ",", "="):
            raise Invalid(f"invalid field selector: invalid escape sequence: {found.group()}")
    return re.sub(r"\\([\\,=])", r"\1", value)
