"""Probes and lifecycle hooks: one action each, times that make sense. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_ACTIONS: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_ACTIONS: Final = ("exec", "httpGet", "tcpSocket", "sleep")
_REAL_TIME: Final = (
    *("SIGRTMIN", *(f"SIGRTMIN+{number}" for number in range(1, 16))),
    *("SIGRTMAX", *(f"SIGRTMAX-{number}" for number in range(1, 15))),
)
_SIGNALS: Final = tuple(
    sorted(
        (
            *("SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT"),
            *("SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV"),
            *("SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG"),
            *("SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ", *_REAL_TIME),
        )
    )
)
_WINDOWS_SIGNALS: Final = ("SIGKILL", "SIGTERM")
_TIMES: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def probe(path: str, given: Mapping[str, Any], *, kind: str) -> Errors:
    """A probe; `kind` livenessProbe, readinessProbe or startupProbe."""
    yield from _action(path, given, _ACTIONS)
    for name in _TIMES:
        yield from fields.not_negative(f"{path}.{name}", given.get(name))
    grace = given.get("terminationGracePeriodSeconds")
    if grace is not None and kind == "readinessProbe":
        text = "must not be set for readinessProbes"
        yield fields.invalid(f"{path}.terminationGracePeriodSeconds", grace, text)
    elif grace is not None and grace <= 0:
        yield fields.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if kind != "readinessProbe" and given.get("successThreshold", 1) != 1:
        yield fields.invalid(f"{path}.successThreshold", given["successThreshold"], "must be 1")


def lifecycle(path: str, given: Mapping[str, Any], spec: Mapping[str, Any]) -> Errors:
    """postStart, preStop and the stop signal of a container in a pod with this spec."""
    grace = spec.get("terminationGracePeriodSeconds")
    for name in ("postStart", "preStop"):
        if given.get(name) is not None:
            yield from _action(f"{path}.{name}", given[name], _HOOK_ACTIONS)
            sleep = given[name].get("sleep")
            if sleep is not None and grace is not None and not 0 <= sleep.get("seconds", 0) <= grace:
                text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                yield fields.invalid(f"{path}.{name}.sleep", sleep.get("seconds", 0), text)
    if given.get("stopSignal") is not None:
        yield from _stop_signal(f"{path}.stopSignal", given["stopSignal"], (spec.get("os") or {}).get("name"))


def _stop_signal(path: str, given: str, system: str | None) -> Errors:
    if system is None:
        yield fields.forbidden(path, "may not be set for containers with empty `spec.os.name`")
    elif given not in (_WINDOWS_SIGNALS if system == "windows" else _SIGNALS):
        names = ", ".join(f'"{name}"' for name in (_WINDOWS_SIGNALS if system == "windows" else _SIGNALS))
        yield FieldError("FieldValueNotSupported", path, f"supported values: {names}", given)


def _action(path: str, given: Mapping[str, Any], actions: tuple[str, ...]) -> Errors:
    """Exactly one of the actions, and that one right."""
    found = [name for name in actions if given.get(name) is not None]
    if not found:
        yield fields.required(path, "must specify a handler type")
    for name in found[1:]:
        yield fields.forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    if not found:
        return
    first, where = given[found[0]], f"{path}.{found[0]}"
    if found[0] == "exec" and not first.get("command"):
        yield fields.required(f"{where}.command")
    elif found[0] == "httpGet":
        yield from _http_get(where, first)
    elif found[0] in ("tcpSocket", "grpc"):
        yield from fields.port(f"{where}.port", first.get("port"))
        yield from fields.one_of(f"{where}.mode", first.get("mode"), ("Plaintext", "TLS"), optional=True)


def _http_get(path: str, action: Mapping[str, Any]) -> Errors:
    if not action.get("path"):
        yield fields.required(f"{path}.path")
    yield from fields.port(f"{path}.port", action.get("port"))
    yield from fields.one_of(f"{path}.scheme", action.get("scheme"), ("HTTP", "HTTPS"))
    yield from fields.one_of(f"{path}.protocol", action.get("protocol"), ("HTTP1", "HTTP2"), optional=True)
    if action.get("protocol") == "HTTP2" and action.get("scheme") != "HTTP":
        yield fields.invalid(f"{path}.protocol", "HTTP2", "is only supported with HTTP (H2C)")
    elif action.get("protocol") == "HTTP2" and action.get("host"):
        yield fields.invalid(f"{path}.host", action["host"], 'must be empty when `protocol` is "HTTP2"')
    for header in action.get("httpHeaders") or []:
        name = header.get("name") or ""
        if not name or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in name):
            text = (
                "a valid HTTP header must consist of alphanumeric characters or '-' "
                "(e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
            )
            yield fields.invalid(f"{path}.httpHeaders", name, text)
