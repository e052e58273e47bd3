"""What an outcome means, and the words of its event: pkg/probe and the kubelet's prober.go."""

import pytest

from bridge.probes.verdict import Verdict, of_exec, of_health, of_http, of_tcp
from bridge.runtime import ExecEnd
from bridge.wire.exchange import Answer, Broken, Health, Late


@pytest.mark.parametrize(
    ("status", "result"),
    [(200, "success"), (299, "success"), (300, "warning"), (399, "warning"), (400, "failure"), (101, "failure")],
)
def test_http_statuses(status: int, result: str) -> None:
    assert of_http(Answer(status, {}, b"x")).result == result


def test_http_words() -> None:
    assert of_http(Answer(503, {}, b"secret")).event("liveness") == (
        "Unhealthy",
        "Liveness probe failed: HTTP probe failed with statuscode: 503",
    )
    warning = of_http(Answer(302, {}, b'<a href="http://0.0.0.0/">Found</a>.\n\n'))
    assert warning.passed
    assert warning.event("liveness") == (
        "ProbeWarning",
        'Liveness probe warning: Probe terminated redirects, Response body: <a href="http://0.0.0.0/">Found</a>.\n\n',
    )
    assert of_http(Broken('Get "x": EOF')).event("startup") == ("Unhealthy", 'Startup probe failed: Get "x": EOF')
    broken = of_http(Answer(200, {}, b"", "unexpected EOF"))
    assert broken.passed is None
    assert broken.event("readiness") == (
        "Unhealthy",
        "Readiness probe errored and resulted in failure state: unexpected EOF",
    )
    assert of_http(Answer(200)).event("readiness") is None


def test_tcp() -> None:
    assert of_tcp(None).passed
    assert of_tcp(Broken("dial tcp 1.2.3.4:5: i/o timeout")) == Verdict("failure", "dial tcp 1.2.3.4:5: i/o timeout")


@pytest.mark.parametrize(
    ("health", "output"),
    [
        (Health("OK", serving="SERVING"), ""),
        (Health("OK", serving="NOT_SERVING"), 'service unhealthy (responded with "NOT_SERVING")'),
        (
            Health("Unimplemented", "unknown service"),
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service",
        ),
        (Health("DeadlineExceeded", "x"), "timeout: health rpc did not complete within 5s"),
        (Late(connected=True), "timeout: health rpc did not complete within 5s"),
        (
            Late(connected=False),
            'timeout: failed to connect service "10.0.0.1:80" within 5s: context deadline exceeded',
        ),
        (Health("NotFound", "no"), "error: health rpc probe failed: rpc error: code = NotFound desc = no"),
    ],
)
def test_grpc(health: Health | Late, output: str) -> None:
    assert of_health(health, "10.0.0.1", 80, 5.0) == Verdict("failure" if output else "success", output)


def test_exec() -> None:
    assert of_exec(ExecEnd(0, b"fine"), ["x"], 1).passed
    assert of_exec(ExecEnd(2, b"a" * 20000), ["x"], 1) == Verdict("failure", "a" * 10240)
    late = of_exec(ExecEnd(failure="rpc error", timed_out=True), ["sh", "-c", "sleep 9"], 80)
    assert late == Verdict("failure", 'command timed out: "sh -c sleep 9" timed out after 1m20s')
    odd = of_exec(ExecEnd(failure="rpc error: code = NotFound desc = gone"), ["x"], 1)
    assert odd.passed is None
    assert odd.event("liveness") == (
        "Unhealthy",
        "Liveness probe errored and resulted in unknown state: rpc error: code = NotFound desc = gone",
    )
