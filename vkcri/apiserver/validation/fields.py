"""Rules for single values: names, labels, ports, paths, quantities. Each yields FieldErrors for one path. Pure.

Patterns and wording are those of apimachinery's util/validation and core/validation, since people search for them.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.apiserver.status import FieldError

Errors = Iterator[FieldError]
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SEARCH: Final = re.compile(r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*")
_QUALIFIED: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_ENV_NAME: Final = re.compile(r"[ -<>-~]+")
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_PORT_NAME: Final = re.compile(r"[-a-z0-9]+")
_RELAXED_ENV: Final = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_LABEL_TEXT: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_TEXT: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_SEARCH_TEXT: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_SEARCH.pattern}')"
)
_QUALIFIED_TEXT: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_TEXT: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return FieldError("FieldValueInvalid", path, detail, value)


def required(path: str, detail: str = "") -> FieldError:
    return FieldError("FieldValueRequired", path, detail)


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError("FieldValueForbidden", path, detail)


def duplicate(path: str, value: Any) -> FieldError:
    return FieldError("FieldValueDuplicate", path, "", value)


def not_found(path: str, value: Any) -> FieldError:
    return FieldError("FieldValueNotFound", path, "", value)


def too_long(path: str, most: int) -> FieldError:
    return FieldError("FieldValueTooLong", path, f"may not be more than {most} bytes")


def too_many(path: str, count: int, most: int) -> FieldError:
    return FieldError("FieldValueTooMany", path, f"must have at most {most} items", count)


def one_of(path: str, value: Any, supported: Sequence[str], *, optional: bool = False) -> Errors:
    """An enumerated value; `supported` in the order that an error tells them in."""
    if not value:
        if not optional:
            yield required(path)
    elif value not in supported:
        names = ", ".join(f'"{name}"' for name in supported)
        yield FieldError("FieldValueNotSupported", path, f"supported values: {names}", value)


def dns_label(path: str, value: str) -> Errors:
    """A DNS-1123 label: containers, volumes, namespaces."""
    if len(value) > 63:
        yield invalid(path, value, "must be no more than 63 characters")
    if not _LABEL.fullmatch(value):
        yield invalid(path, value, _LABEL_TEXT)


def dns_subdomain(path: str, value: str) -> Errors:
    """A DNS-1123 subdomain: most objects' names."""
    if len(value) > 253:
        yield invalid(path, value, "must be no more than 253 characters")
    if not _SUBDOMAIN.fullmatch(value):
        yield invalid(path, value, _SUBDOMAIN_TEXT)


def dns_search(path: str, value: str) -> Errors:
    """A search domain: a subdomain whose labels may begin with and hold an underscore."""
    if len(value) > 253:
        yield invalid(path, value, "must be no more than 253 characters")
    if not _SEARCH.fullmatch(value):
        yield invalid(path, value, _SEARCH_TEXT)


def qualified_name(path: str, value: str) -> Errors:
    """A label's or an annotation's key: `[prefix/]name`."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        text = f"a qualified name must consist of alphanumeric characters: {_QUALIFIED_TEXT} with an optional prefix"
        yield invalid(path, value, text)
        return
    if slash and not prefix:
        yield invalid(path, value, "prefix part must be non-empty")
    elif slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
        yield invalid(path, value, f"prefix part {_SUBDOMAIN_TEXT}")
    if not name:
        yield invalid(path, value, "name part must be non-empty")
    elif len(name) > 63:
        yield invalid(path, value, "name part must be no more than 63 characters")
    if not _QUALIFIED.fullmatch(name):
        yield invalid(path, value, _QUALIFIED_TEXT)


def label_value(path: str, value: str) -> Errors:
    if len(value) > 63:
        yield invalid(path, value, "must be no more than 63 characters")
    elif value and not _QUALIFIED.fullmatch(value):
        yield invalid(path, value, _VALUE_TEXT)


def labels(path: str, given: Mapping[str, str] | None) -> Errors:
    """A map of labels, or a selector of equal values."""
    for key, value in (given or {}).items():
        yield from qualified_name(path, key)
        yield from label_value(path, value)


def annotations(path: str, given: Mapping[str, str] | None) -> Errors:
    """Keys as labels', in lower case at most once; 256 KiB in all."""
    total = 0
    for key, value in (given or {}).items():
        yield from qualified_name(path, key.lower())
        total += len(key.encode()) + len(value.encode())
    if total > 256 * 1024:
        yield too_long(path, 256 * 1024)


def environment_name(path: str, value: str) -> Errors:
    """An environment variable's name by the rule of Kubernetes 1.34: printable ASCII but "="."""
    if not value:
        yield required(path)
    elif not _ENV_NAME.fullmatch(value):
        yield invalid(path, value, _RELAXED_ENV)


def config_key(path: str, value: str) -> Errors:
    """A key of a ConfigMap or Secret, which becomes a file's name: so no "..", no "/"."""
    if len(value) > 253:
        yield invalid(path, value, "must be no more than 253 characters")
    if not _KEY.fullmatch(value):
        yield invalid(path, value, _KEY_TEXT)
    elif value == ".":
        yield invalid(path, value, "must not be '.'")
    elif value == "..":
        yield invalid(path, value, "must not be '..'")
    elif value.startswith(".."):
        yield invalid(path, value, "must not start with '..'")


def network(path: str, value: str) -> Errors:
    """An address range in CIDR notation."""
    try:
        ipaddress.ip_network(value)
    except ValueError:
        yield invalid(path, value, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")


def port_number(path: str, value: Any) -> Errors:
    if not isinstance(value, int) or not 1 <= value <= 65535:
        yield invalid(path, value, "must be between 1 and 65535, inclusive")


def port_name(path: str, value: str) -> Errors:
    """An IANA service name: a container port's name, or a probe's port by name."""
    if not value or len(value) > 15:
        yield invalid(path, value, "must be no more than 15 characters" if value else "must be at least 1 character")
        return
    if not _PORT_NAME.fullmatch(value):
        yield invalid(path, value, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        yield invalid(path, value, "must contain at least one letter (a-z)")
    if "--" in value:
        yield invalid(path, value, "must not contain consecutive hyphens")
    if value[0] == "-" or value[-1] == "-":
        yield invalid(path, value, "must not begin or end with a hyphen")


def port(path: str, value: int | str | None) -> Errors:
    """A port by number or by name."""
    if isinstance(value, str):
        yield from port_name(path, value)
    else:
        yield from port_number(path, value if value is not None else 0)


def not_negative(path: str, value: int | None) -> Errors:
    if value is not None and value < 0:
        yield invalid(path, value, "must be greater than or equal to 0")


def relative_path(path: str, value: str) -> Errors:
    """A path below a volume: not absolute, no ".." element."""
    if value.startswith("/"):
        yield invalid(path, value, "must be a relative path")
    yield from no_backsteps(path, value)


def local_path(path: str, value: str) -> Errors:
    """A file inside a projected volume: relative, no "..", and no first element that begins with ".."."""
    if value.startswith("/"):
        yield invalid(path, value, "must be a relative path")
    backsteps = list(no_backsteps(path, value))
    yield from backsteps
    if value.startswith("..") and not backsteps:
        yield invalid(path, value, "must not start with '..'")


def no_backsteps(path: str, value: str) -> Errors:
    if ".." in value.split("/"):
        yield invalid(path, value, "must not contain '..'")
