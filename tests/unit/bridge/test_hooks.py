"""postStart and preStop by httpGet, against real servers; by exec they are in the contract tests."""

import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.hooks import run_hook
from bridge.wire.client import Client
from bridge.wire.connection import PLAIN_HTTP
from bridge.wire.exchange import Answer
from bridge.wire.request import Get
from tests.ports import closed_port
from tests.unit.bridge.wire.servers import answering, read_head, response, server_context, serving
from vkcri.errors import Invalid, Unavailable


def run(client: Client, address: str = "127.0.0.1", **action: Any) -> str:
    container = {"name": "app", "ports": [{"name": "web", "containerPort": action.pop("named", 1)}]}
    hook = {"httpGet": {"path": "/hook", "scheme": "HTTP", **action}}
    runtime: Any = None
    return run_hook(runtime, client.get_and_wait, hook, "c1", container, address, 30.0, threading.Event())


def test_any_answer_of_the_pod_will_do(client: Client) -> None:
    heads: list[list[str]] = []
    with serving(answering(response("500 Oops"), heads=heads)) as port:
        assert run(client, port="web", named=port) == ""
    assert heads[0][:3] == ["GET /hook HTTP/1.1", f"Host: 127.0.0.1:{port}", "User-Agent: kube-lifecycle/1.37"]


def test_https_without_a_good_certificate(client: Client) -> None:
    with serving(answering(response()), tls=server_context()) as port:
        assert run(client, port=port, scheme="HTTPS") == ""


def test_https_falls_back_to_http_without_credentials(client: Client) -> None:
    heads: list[list[str]] = []

    def serve(connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) == b"G":
            heads.append(read_head(connection))
        connection.sendall(response("400 Bad Request"))

    headers = [{"name": "Authorization", "value": "Basic eDp5"}, {"name": "X-Kept", "value": "1"}]
    with serving(serve) as port:
        note = run(client, port=port, scheme="HTTPS", httpHeaders=headers)
    where = f"127.0.0.1:{port}"
    assert note == f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded"
    assert "X-Kept: 1" in heads[0]
    assert not any(line.startswith("Authorization") for line in heads[0])


def test_the_second_try_has_what_the_first_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    given: list[tuple[str, float]] = []

    def fetch(get: Get, seconds: float) -> Answer:
        given.append((get.scheme, seconds))
        now[0] += 7.0
        if get.scheme == "https":
            raise Unavailable(get.failed(PLAIN_HTTP))
        return Answer(200)

    monkeypatch.setattr("bridge.hooks.time", SimpleNamespace(monotonic=lambda: now[0]))
    hook = {"httpGet": {"port": 80, "scheme": "HTTPS"}}
    run_hook(None, fetch, hook, "c1", {}, "10.0.0.5", 10.0, threading.Event())  # type: ignore[arg-type]
    assert given == [("https", 10.0), ("http", 3.0)]


def test_what_cannot_be_reached_is_said(client: Client) -> None:
    with closed_port() as port:
        refused = f'Get "http://127.0.0.1:{port}/hook": dial tcp .*: connection refused'
        with pytest.raises(Unavailable, match=refused):
            run(client, port=port)
    with pytest.raises(Unavailable, match="the pod has no address"):
        run(client, "", port=port)
    with pytest.raises(Invalid, match='port "nobody" not found'):
        run(client, port="nobody")


class Waits(threading.Event):
    """An event that never comes and takes no time; `asked` is how long it was waited for."""

    asked: float | None = None

    def wait(self, timeout: float | None = None) -> bool:
        self.asked = timeout
        return False


@pytest.mark.parametrize(("given", "slept"), [(3, 3.0), (60, 10.0)])
def test_a_sleep_lasts_its_seconds_and_no_longer_than_the_hook_may(given: int, slept: float) -> None:
    nobody: Any = None
    cancelled = Waits()
    hook = {"sleep": {"seconds": given}}
    assert run_hook(nobody, nobody, hook, "c1", {"name": "app"}, "", 10.0, cancelled) == ""
    assert cancelled.asked == slept
