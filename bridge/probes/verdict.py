"""What comes of one probe, from what the wire or CRI said. Pure; pkg/probe and the kubelet's prober are its source."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bridge.wire.exchange import BODY_BYTES, Answer, Broken, Health, Late
from bridge.wire.words import duration, join, quote

if TYPE_CHECKING:
    from bridge.runtime import ExecEnd

OUTPUT_BYTES = 10 * 1024
"""How much of a command's output is kept."""


@dataclass(frozen=True)
class Verdict:
    """result: as pkg/probe names it. error: why the probe could not be made; then it counts for nothing. output: what
    the event says."""

    result: Literal["success", "warning", "failure", "unknown"]
    output: str = ""
    error: str = ""

    @property
    def passed(self) -> bool | None:
        """None where it counts for nothing."""
        return None if self.error else self.result in ("success", "warning")

    def event(self, kind: str) -> tuple[str, str] | None:
        """(reason, message) of the Warning event that it is worth; kind: startup, readiness or liveness."""
        name = kind.capitalize()
        if self.error:
            return "Unhealthy", f"{name} probe errored and resulted in {self.result} state: {self.error}"
        if self.result == "warning":
            return "ProbeWarning", f"{name} probe warning: {self.output}"
        if self.result == "failure":
            return "Unhealthy", f"{name} probe failed: {self.output}"
        return None


def of_http(result: Answer | Broken) -> Verdict:
    """Success from 200 to 399; a redirect that was not followed is a success with a warning."""
    if isinstance(result, Broken):
        return Verdict("failure", str(result))
    if result.fault and len(result.body) < BODY_BYTES:
        return Verdict("failure", error=result.fault)
    if 200 <= result.status < 300:
        return Verdict("success")
    if 300 <= result.status < 400:
        body = result.body.decode(errors="replace")
        return Verdict("warning", f"Probe terminated redirects, Response body: {body}")
    return Verdict("failure", f"HTTP probe failed with statuscode: {result.status}")


def of_tcp(broken: Broken | None) -> Verdict:
    return Verdict("success") if broken is None else Verdict("failure", str(broken))


def of_health(health: Health | Late, host: str, port: int, seconds: float) -> Verdict:
    """Success exactly for SERVING; everything else is a failure, never an error."""
    if isinstance(health, Late) and not health.connected:
        where = f"{quote(join(host, port))} within {duration(seconds)}"
        return Verdict("failure", f"timeout: failed to connect service {where}: context deadline exceeded")
    if isinstance(health, Late) or health.code == "DeadlineExceeded":
        return Verdict("failure", f"timeout: health rpc did not complete within {duration(seconds)}")
    if health.code == "OK":
        if health.serving == "SERVING":
            return Verdict("success")
        return Verdict("failure", f"service unhealthy (responded with {quote(health.serving)})")
    if health.code == "Unimplemented":
        about = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return Verdict("failure", f"{about}: {health.message}")
    about = f"rpc error: code = {health.code} desc = {health.message}"
    return Verdict("failure", f"error: health rpc probe failed: {about}")


def of_exec(end: "ExecEnd", command: Sequence[str], seconds: float) -> Verdict:
    """Success exactly for exit code 0. A command whose time is over has failed; one that could not be run says
    nothing."""
    if end.timed_out:
        words = f"command timed out: {quote(' '.join(command))} timed out after {duration(seconds)}"
        return Verdict("failure", words)
    if end.exit_code is None:
        return Verdict("unknown", error=end.failure)
    output = end.output[:OUTPUT_BYTES].decode(errors="replace")
    return Verdict("success" if end.exit_code == 0 else "failure", output)
