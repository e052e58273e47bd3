"""The log API for people, over real sockets: logs as text and events, and everybody who must stay outside."""

import logging
import re
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.vkcri.kubelet.node import Node, running, terminated
from tests.unit.vkcri.kubelet.test_logs import START, record
from tests.waiting import PATIENCE, until
from vkcri.api import times
from vkcri.config import KubeletSettings
from vkcri.errors import Invalid
from vkcri.kubelet import downloads, logapi, webpage
from vkcri.kubelet.logs import Blocks
from vkcri.kubelet.metrics import Counters


def _text(node: Node, path: str) -> tuple[int, str]:
    with node.people(path) as response:
        return response.status, response.read().decode()


def _raw(node: Node, head: str) -> str:
    """The status line for a request with exactly these lines."""
    with socket.create_connection(("127.0.0.1", node.settings.log_api_port), PATIENCE) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        return connection.recv(65536).decode().partition("\r\n")[0]


def test_pods_and_containers_with_their_state(node: Node) -> None:
    node.run_pod("web")
    node.put_pod("done", "one", "two")
    node.put_status("done", [terminated("one"), running("two", restartCount=3)], phase="Running")
    until(lambda: len(node.people_pods()) == 2)
    done = node.people_pods()[0]
    assert (done["namespace"], done["name"], done["phase"]) == ("default", "done", "Running")
    assert [(item["name"], item["state"], item["restartCount"], item["exitCode"]) for item in done["containers"]] == [
        ("one", "terminated", 0, 0),
        ("two", "running", 3, None),
    ]
    assert done["containers"][0]["logs"] == "/logs/default/done/one"


def test_log_with_each_option(calm_node: Node) -> None:
    calm_node.run_pod("web", b"".join(record(second, b"line %d" % second) for second in range(5)))
    assert _text(calm_node, "/logs/default/web/main") == (200, "".join(f"line {number}\n" for number in range(5)))
    assert _text(calm_node, "/logs/default/web?tail=1") == (200, "line 4\n")
    assert _text(calm_node, "/logs/default/web?since=2026-11-23T10:00:04Z&timestamps=1") == (
        200,
        "2026-11-23T10:00:04.000000000Z line 4\n",
    )
    assert _text(calm_node, "/logs/default/web?since=3650d&tail=2") == (200, "line 3\nline 4\n")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/logs/default/absent", 404, 'pod "absent" does not exist\n'),
        ("/logs/default/two", 400, 'pod "two" has the containers one, other: name one\n'),
        ("/logs/default/two/absent", 404, 'container "absent" not found in pod "two"\n'),
        ("/logs/default/two/one?previous=1", 400, 'previous terminated container "one" in pod "two" not found\n'),
        ("/logs/default/two/one?tail=-1", 400, "tail='-1': a number of lines\n"),
        ("/logs/default/two/one?follow=yes", 400, "follow='yes': 1 or 0\n"),
        ("/logs/default/two/one?folow=1", 400, "unknown parameter 'folow': see / for those there are\n"),
        ("/logs/default/two/one?since=yesterday", 400, "'yesterday' is not an RFC 3339 time\n"),
        ("/nothing", 404, "404 Not Found\n"),
    ],
)
def test_wrong_requests_say_what_is_wrong(calm_node: Node, path: str, status: int, message: str) -> None:
    calm_node.put_pod("two", "one", "other")
    calm_node.put_status("two", [running("one"), running("other")])
    calm_node.until_known("two")
    until(lambda: _text(calm_node, path) == (status, message))


def test_follow_as_text(node: Node) -> None:
    path = node.run_pod("web", record(0, b"before"))
    with node.people("/logs/default/web?follow=1&tail=0") as response, path.open("ab", buffering=0) as file:
        file.write(record(1, b"after"))
        assert response.readline() == b"after\n"
        node.put_status("web", [terminated()])
        assert response.read() == b""


@pytest.mark.parametrize("how", ["query", "header"])
def test_follow_as_server_sent_events(node: Node, how: str) -> None:
    path = node.run_pod("web", record(0, b"before"))
    headers = {**node.bearer, "Accept": "text/event-stream"} if how == "header" else {}
    query = "" if how == "header" else f"&sse=1&token={node.token}"
    with node.people(f"/logs/default/web?follow=1{query}", headers) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        assert [response.readline(), response.readline()] == [b"data: before\n", b"\n"]
        with path.open("ab", buffering=0) as file:
            file.write(record(1, b"a\rb \xff"))
        expected = [b"data: a\n", "data: b \N{REPLACEMENT CHARACTER}\n".encode(), b"\n"]
        assert [response.readline() for _ in expected] == expected
        node.put_status("web", [terminated()])
        assert response.read() == b"event: end\ndata: the log has ended\n\n"


def test_logs_are_found_with_both_neighbours_away() -> None:
    node = Node()
    try:
        node.log_file("old").write_bytes(record(0, b"from the files"))
        node.start()
        assert _text(node, "/logs/default/old/main") == (200, "from the files\n")
        with node.people("/logs/default/old/main?follow=1") as response:
            assert response.readline() == b"from the files\n"
        for path in ("/logs/default/..%2f/main", "/logs/*/old/main", "/logs/default/old/*", "/logs/default/old/.."):
            assert _text(node, path)[0] == 404
    finally:
        node.close()


@pytest.mark.parametrize("path", ["/pods", "/logs/default/web/main", "/logs/default/web?follow=1&sse=1", "/nothing"])
def test_everything_wants_the_token(calm_node: Node, path: str) -> None:
    calm_node.run_pod("web", record(0, b"secret"))
    sign = "&" if "?" in path else "?"
    for headers, query in (
        ({}, ""),
        ({}, f"{sign}token=wrong"),
        ({}, f"{sign}token={calm_node.token[:-1]}"),
        ({"Authorization": "Bearer wrong"}, ""),
        ({"Authorization": "Bearer wrong"}, f"{sign}token={calm_node.token}"),
        ({"Authorization": f"Basic {calm_node.token}"}, ""),
        ({"Authorization": "Bearer admin-token"}, ""),
        ({"Authorization": "Bearer \xff"}, ""),
    ):
        with calm_node.people(path + query, headers) as response:
            body = response.read()
            assert response.status == 401
            assert b"secret" not in body
            assert calm_node.token.encode() not in body


def test_every_route_but_the_page_and_a_tickets_wants_the_token(calm_node: Node) -> None:
    parts: Any = SimpleNamespace(counters=Counters())
    nobody: Any = None
    rules = logapi.make_app(parts, calm_node.settings, "token", nobody, nobody).url_map.iter_rules()
    paths = {(re.sub("<[^>]*>", "x", rule.rule), method) for rule in rules for method in rule.methods or ()}
    assert {("/overview", "GET"), ("/programs/x/restart", "POST"), ("/logs/x/x/x", "GET")} <= paths
    for path, method in sorted(paths):
        for headers in ({}, {"Authorization": "Bearer rubbish"}):
            with calm_node.people(path, headers, method) as response:
                response.read()
            if method in ("GET", "POST"):
                assert (response.status == 401) is (path not in (*webpage.PUBLIC, downloads.PATH)), (path, method)
            else:
                assert response.status == 405


def test_index_says_how_without_a_token(calm_node: Node) -> None:
    with calm_node.people("/", {}) as response:
        body = response.read().decode()
    assert response.status == 200
    assert "GET /logs/NAMESPACE/POD[/CONTAINER]" in body
    assert f"http://127.0.0.1:{calm_node.settings.log_api_port}/pods" in body
    assert calm_node.token not in body


def test_foreign_host_is_refused_before_anything_else(calm_node: Node) -> None:
    port, token = calm_node.settings.log_api_port, calm_node.token
    good = ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"]
    bad = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0.0.0.0", "10.0.0.1", "[::2]", ""]
    for name in good:
        assert _raw(calm_node, f"GET /pods?token={token} HTTP/1.1\r\nHost: {name}:{port}").endswith(" 200 OK")
    for name in bad:
        for path in ("/", f"/pods?token={token}"):
            assert " 421 " in _raw(calm_node, f"GET {path} HTTP/1.1\r\nHost: {name}:{port}")
    for host in ("localhost", f"localhost:{port + 1}", "127.0.0.1", f"localhost:{port}:{port}"):
        assert " 421 " in _raw(calm_node, f"GET / HTTP/1.1\r\nHost: {host}")
    assert " 421 " in _raw(calm_node, "GET / HTTP/1.0")


def test_address_that_the_client_connected_to_is_ours() -> None:
    settings = KubeletSettings(log_api_address="0.0.0.0")
    assert logapi.host_is_ours("10.1.2.3:10255", settings, ("10.1.2.3", 10255))
    assert logapi.host_is_ours("10.1.2.3:10255", settings, ("::ffff:10.1.2.3", 10255, 0, 0))
    assert logapi.host_is_ours("[fd00::1]:10255", settings, ("fd00::1", 10255, 0, 0))
    assert not logapi.host_is_ours("10.1.2.4:10255", settings, ("10.1.2.3", 10255))
    assert not logapi.host_is_ours("[fd00::2]:10255", settings, ("fd00::1", 10255, 0, 0))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "localhost:80"])
def test_a_host_that_names_no_port_means_80(host: str) -> None:
    settings = KubeletSettings()
    assert logapi.host_is_ours(host, settings, ("127.0.0.1", 80))
    assert not logapi.host_is_ours(host, settings, ("127.0.0.1", 10255))
    assert not logapi.host_is_ours("evil.example", settings, ("127.0.0.1", 80))


def test_no_other_site_may_read_an_answer(calm_node: Node) -> None:
    for method in ("GET", "OPTIONS", "POST", "HEAD"):
        headers = {**calm_node.bearer, "Origin": "http://evil.example", "Access-Control-Request-Method": "GET"}
        with calm_node.people("/pods", headers, method) as response:
            response.read()
        assert response.status == {"GET": 200, "POST": 403}.get(method, 405)
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"


def test_token_is_kept_private_and_never_logged(node: Node, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    with node.people(f"/pods?token={node.token}", {}) as response:
        assert response.status == 200
    with node.people("/pods?token=wrong-token-of-somebody", {}) as response:
        assert response.status == 401
    until(lambda: "/pods: 401" in caplog.text)
    assert node.token not in caplog.text
    assert "wrong-token-of-somebody" not in caplog.text
    assert stat.S_IMODE(node.instance.log_api_token_file.stat().st_mode) == 0o600
    path = tmp_path / "token"
    assert logapi.load_token(path) == logapi.load_token(path) == path.read_text().strip()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("90", -90.0),
        ("90s", -90.0),
        ("1.5s", -1.5),
        ("5m", -300.0),
        ("1h30m", -5400.0),
        ("2d", -172800.0),
        ("2026-11-23T09:59:59Z", -1.0),
        ("2026-11-23T11:00:00+01:00", 0.0),
    ],
)
def test_since_takes_durations_and_times(value: str, expected: float) -> None:
    options = logapi.log_options({"since": value}, START / times.NANO)
    assert options.since == START + int(expected * times.NANO)


@pytest.mark.parametrize("value", ["m", "5x", "-5m", "2026-11-23", "1m1h"])
def test_since_refuses_what_is_neither(value: str) -> None:
    with pytest.raises(Invalid):
        logapi.log_options({"since": value}, 0)


def test_events_of_blocks_that_end_anywhere() -> None:
    blocks = Blocks(iter([b"a", b"b\nc\n", b"", b"d"]), lambda: None)
    assert b"".join(logapi.server_sent(blocks)) == (
        b"data: ab\n\ndata: c\n\ndata: d\n\nevent: end\ndata: the log has ended\n\n"
    )
