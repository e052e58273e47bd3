"""What a request may be asked besides its object, checked first: ListOptions, DeleteOptions and those of writes. Pure.

The rules and words are those of apimachinery's validation of these kinds: options that contradict each other or mean
nothing are refused with 422, for one that was silently dropped would do something else than was asked for.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError, StatusError

_MATCH: Final = "resourceVersionMatch"
_MATCHES: Final = ("Exact", "NotOlderThan")
_INITIAL: Final = "sendInitialEvents"
_POLICIES: Final = ("Foreground", "Background", "Orphan")
_VALIDATIONS: Final = ("Ignore", "Strict", "Warn")
_KINDS: Final = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


def check(query: Mapping[str, str], *, watch: bool) -> None:
    """Raises StatusError 400 for a number that is none, 422 for what does not go together."""
    for name in ("limit", "timeoutSeconds"):
        number(query, name)
    wrong = list(_watch(query) if watch else _list(query))
    _refuse("ListOptions", wrong)
    if query.get("continue") and query.get("resourceVersion", "") not in ("", "0"):
        raise StatusError.bad_request("specifying resource version is not allowed when using continue")


def check_write(verb: str, query: Mapping[str, str]) -> None:
    """The options of a create, an update or a patch. Raises StatusError 422."""
    dry_run, mode = query.get("dryRun", ""), query.get("fieldValidation", "")
    wrong = list(_dry_run([dry_run] if dry_run else []))
    if mode and mode not in _VALIDATIONS:
        wrong.append(_unsupported("fieldValidation", mode, ("", *_VALIDATIONS)))
    _refuse(_KINDS.get(verb, "DeleteOptions"), wrong)


def check_delete(options: Mapping[str, Any]) -> None:
    """A DeleteOptions whose fields have their types. Raises StatusError 422."""
    policy, wrong = options.get("propagationPolicy"), []
    if policy is not None and options.get("orphanDependents") is not None:
        text = "orphanDependents and deletionPropagation cannot be both set"
        wrong.append(FieldError("FieldValueInvalid", "propagationPolicy", text, policy))
    if policy is not None and policy not in _POLICIES:
        wrong.append(_unsupported("propagationPolicy", policy, (*_POLICIES, "nil")))
    wrong.extend(_dry_run(options.get("dryRun") or []))
    _refuse("DeleteOptions", wrong)


def number(query: Mapping[str, str], name: str) -> int:
    """A whole number of the query, 0 where it is not given. Raises StatusError 400 in the words of Go's parser."""
    text = query.get(name) or "0"
    try:
        return int(text)
    except ValueError as error:
        raise StatusError.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from error


def _list(query: Mapping[str, str]) -> Iterator[FieldError]:
    match, version = query.get(_MATCH, ""), query.get("resourceVersion", "")
    if match:
        if not version:
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden unless resourceVersion is provided")
        if query.get("continue"):
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided")
        if match not in _MATCHES:
            yield _unsupported(_MATCH, match, (*_MATCHES, ""))
        if match == "Exact" and version == "0":
            yield _forbidden(_MATCH, f'{_MATCH} "exact" is forbidden for resourceVersion "0"')
    if _INITIAL in query:
        yield _forbidden(_INITIAL, f"{_INITIAL} is forbidden for list")


def _watch(query: Mapping[str, str]) -> Iterator[FieldError]:
    match = query.get(_MATCH, "")
    if _INITIAL in query and match != "NotOlderThan":
        yield _forbidden(_MATCH, f"{_INITIAL} requires setting {_MATCH} to NotOlderThan")
    if match:
        if _INITIAL not in query:
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden for watch unless {_INITIAL} is provided")
        if match != "NotOlderThan":
            yield _unsupported(_MATCH, match, ("NotOlderThan",))
        if query.get("continue"):
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided")


def _forbidden(name: str, text: str) -> FieldError:
    return FieldError("FieldValueForbidden", name, text)


def _dry_run(values: list[str]) -> Iterator[FieldError]:
    if set(values) - {"All"}:
        yield _unsupported("dryRun", values, ("All",))


def _unsupported(name: str, value: Any, supported: tuple[str, ...]) -> FieldError:
    words = ", ".join(f'"{item}"' for item in supported)
    return FieldError("FieldValueNotSupported", name, f"supported values: {words}", value)


def _refuse(kind: str, wrong: list[FieldError]) -> None:
    if wrong:
        raise StatusError.invalid(kind, "", wrong, group="meta.k8s.io")
