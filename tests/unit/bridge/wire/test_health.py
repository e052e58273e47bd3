"""The gRPC health check against grpc's own server, and against what is none."""

import contextlib
import select
import socket
import time
from typing import Any

import grpc
import pytest

from bridge.pb.grpc.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from bridge.wire.client import Client
from bridge.wire.exchange import Health, Late
from tests.ports import closed_port
from tests.unit.bridge.wire.servers import answering, health_server, response, serving
from tests.waiting import PATIENCE, wait_for


def check(client: Client, port: int, service: str = "", seconds: float = 20.0, *, tls: bool = False) -> Health | Late:
    results: list[Health | Late] = []
    client.loop.call(
        lambda: (client.check("127.0.0.1", port, service, seconds, results.append, tls=tls), None)[1],
    )
    wait_for("the check", lambda: results, seconds + PATIENCE)
    return results[0]


def test_a_server_says_how_it_is(client: Client) -> None:
    seen: list[tuple[str, str, float]] = []

    def answer(request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        agent = str(dict(context.invocation_metadata())["user-agent"])
        seen.append((request.service, agent, context.time_remaining() or 0.0))
        return HealthCheckResponse(status="SERVING" if request.service == "a.b.C" else "NOT_SERVING")

    with health_server(answer) as port:
        assert check(client, port, "a.b.C") == Health("OK", serving="SERVING")
        assert check(client, port) == Health("OK", serving="NOT_SERVING")
    assert [item[:2] for item in seen] == [("a.b.C", "kube-probe/1.37"), ("", "kube-probe/1.37")]
    assert all(5 < item[2] <= 20 for item in seen)


def test_tls(client: Client) -> None:
    with health_server(lambda *_: HealthCheckResponse(status="SERVING"), tls=True) as port:
        assert check(client, port, tls=True) == Health("OK", serving="SERVING")
        assert check(client, port, seconds=0.5) == Late(connected=False)


def test_a_status_of_grpcs_is_told(client: Client) -> None:
    def answer(request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service} ü")
        raise AssertionError

    with health_server(answer) as port:
        assert check(client, port, "x") == Health("NotFound", "unknown service x ü")


def test_a_server_without_the_service_does_not_implement_it(client: Client) -> None:
    with health_server(lambda *_: HealthCheckResponse(), service="other.Service") as port:
        found = check(client, port)
    assert isinstance(found, Health)
    assert found.code == "Unimplemented"


def test_an_answer_that_does_not_come_is_late(client: Client) -> None:
    def answer(request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        del request
        wait_for("the client's end", lambda: not context.is_active())
        return HealthCheckResponse()

    with health_server(answer) as port:
        for seconds in (0.5, 2, 8, 20):  # until there is time enough for grpc's settings
            if (found := check(client, port, seconds=seconds)) != Late(connected=False):
                break
    assert found in (Late(connected=True), Health("DeadlineExceeded", "Deadline Exceeded"))


def test_a_refused_connection_is_tried_until_the_deadline(client: Client) -> None:
    with closed_port() as port:
        began = time.monotonic()
        assert check(client, port, seconds=0.6) == Late(connected=False)
    assert time.monotonic() - began >= 0.6


def test_a_server_that_comes_up_meanwhile_is_found(client: Client) -> None:
    results: list[Health | Late] = []
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))  # and does not listen yet
        port = later.getsockname()[1]
        client.loop.call(lambda: (client.check("127.0.0.1", port, "", 20, results.append, tls=False), None)[1])
        time.sleep(0.2)
        later.listen(1)
        with health_server(lambda *_: HealthCheckResponse(status="SERVING")) as behind:
            carry_to(behind, later, results)
            wait_for("the check", lambda: results)
    assert results == [Health("OK", serving="SERVING")]


def carry_to(port: int, server: socket.socket, until: list[Any]) -> None:
    """Carry the bytes of one connection of the server's to that port, until there is something in the list or an end
    has gone."""
    server.settimeout(PATIENCE)
    connection, _ = server.accept()
    with connection, socket.create_connection(("127.0.0.1", port)) as behind:
        ends = {connection: behind, behind: connection}
        with contextlib.suppress(OSError):  # the client that has its answer goes at once
            while not until:
                for source in select.select(list(ends), [], [], 0.05)[0]:
                    if not (data := source.recv(4096)):
                        return
                    ends[source].sendall(data)


@pytest.mark.parametrize("data", [b"", response("400 Bad Request"), b"SSH-2.0-x\r\n"])
def test_what_speaks_no_http2_is_never_connected(client: Client, data: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)

    with serving(serve) as port:
        assert check(client, port, seconds=0.5) == Late(connected=False)
    with serving(answering(data)) as port:
        assert check(client, port, seconds=0.5) == Late(connected=False)
