"""The client against a real HTTP server: errors by what the caller does, deadlines, credentials read again."""

import base64
import json
import ssl
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.unit.vkcri.kube.scripted import Call, Server, kubeconfig, status_object
from tests.waiting import PATIENCE, until
from vkcri.errors import ConfigError, Conflict, Invalid, NotFound, Refused, Unavailable, VkcriError
from vkcri.kube import client as client_module
from vkcri.kube.client import Client
from vkcri.kube.failures import Expired, Overloaded
from vkcri.kube.kubeconfig import Kubeconfig, wait_for


def client_of(tmp_path: Path, server: Server, user: dict[str, Any] | None = None, **cluster: Any) -> Client:
    return Client(Kubeconfig(kubeconfig(tmp_path / "kubeconfig", server.url, user, **cluster), "vkcri/test"))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Invalid),
        (401, Refused),
        (403, Refused),
        (404, NotFound),
        (409, Conflict),
        (410, Expired),
        (415, Invalid),
        (422, Invalid),
        (429, Overloaded),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_refusal_becomes_the_error_that_says_what_to_do(
    tmp_path: Path, status: int, expected: type[VkcriError]
) -> None:
    with Server(lambda call: call.fail(status, "no, because")) as server:
        with pytest.raises(expected, match="GET /api/v1/nodes: no, because"):
            client_of(tmp_path, server).get("/api/v1/nodes")


def test_an_answer_that_is_no_status_object_is_quoted(tmp_path: Path) -> None:
    with Server(lambda call: call.send(502, b"<html>bad gateway</html>")) as server:
        with pytest.raises(Unavailable, match="bad gateway"):
            client_of(tmp_path, server).get("/version")


def test_a_version_that_the_server_has_not_seen_is_expired(tmp_path: Path) -> None:
    body = status_object(504, "Too large resource version", causes=[{"reason": "ResourceVersionTooLarge"}])
    with Server(lambda call: call.send(504, body)) as server:
        with pytest.raises(Expired):
            client_of(tmp_path, server).get("/api/v1/pods")


def test_retry_after_is_waited_out_within_the_deadline(tmp_path: Path) -> None:
    waits: list[float] = []

    def script(call: Call) -> None:
        if len(server.calls) < 3:
            call.fail(429, "slow down", Retry_After="2")
        else:
            call.send(200, {"kind": "Node"})

    with Server(script) as server:
        config = Kubeconfig(kubeconfig(tmp_path / "k", server.url), "t")
        client = Client(config, wait=lambda seconds: bool(waits.append(seconds)))
        assert client.get("/api/v1/nodes/a") == {"kind": "Node"}
    assert waits == [2.0, 2.0]


def test_retry_after_beyond_the_deadline_is_the_callers_to_wait(tmp_path: Path) -> None:
    with Server(lambda call: call.fail(503, "later", Retry_After="60")) as server:
        with pytest.raises(Overloaded) as caught:
            client_of(tmp_path, server).get("/api/v1/nodes")
        assert caught.value.retry_after == 60.0
        assert len(server.calls) == 1


def test_a_silent_server_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    with Server(lambda call: call.hold()) as server:
        client = client_of(tmp_path, server)
        assert client.server == server.url
        began = time.monotonic()
        with pytest.raises(Unavailable):
            client.get("/api/v1/nodes", timeout=0.3)
        assert time.monotonic() - began < PATIENCE / 2


def test_a_body_that_drips_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    def drip(call: Call) -> None:
        call.begin()
        while not call.gone.wait(0.05):
            call.chunk(b" ")

    with Server(drip) as server:
        client = client_of(tmp_path, server)
        with pytest.raises(Unavailable, match="too slow"):
            client.get("/api/v1/nodes", timeout=5.0)


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with Server(lambda call: call.send(200, {})) as server:
        client = client_of(tmp_path, server)
    with pytest.raises(Unavailable, match="/api/v1/nodes"):
        client.get("/api/v1/nodes")


def test_a_get_survives_a_kept_connection_that_the_server_closed(tmp_path: Path) -> None:
    def script(call: Call) -> None:
        if len(server.calls) == 2:
            call.cut()
        else:
            call.send(200, {"n": len(server.calls)})

    with Server(script) as server:
        client = client_of(tmp_path, server)
        client.get("/version")
        assert client.get("/version") == {"n": 3}


def test_a_post_is_never_sent_twice(tmp_path: Path) -> None:
    with Server(lambda call: call.cut()) as server:
        with pytest.raises(Unavailable):
            client_of(tmp_path, server).create("/api/v1/nodes", {"kind": "Node"})
        assert len(server.calls) == 1


def test_bodies_and_content_types_go_out_as_asked(tmp_path: Path) -> None:
    with Server(lambda call: call.send(200, {})) as server:
        client = client_of(tmp_path, server)
        client.patch("/p", {"status": {"a": None}})
        client.delete("/d", {"gracePeriodSeconds": 0})
        client.update("/u", {"x": 1})
        patch, delete, update = server.calls
    assert (patch.method, patch.body) == ("PATCH", {"status": {"a": None}})
    assert patch.headers["Content-Type"] == "application/strategic-merge-patch+json"
    assert (delete.method, delete.body) == ("DELETE", {"gracePeriodSeconds": 0})
    assert (update.method, update.body) == ("PUT", {"x": 1})
    assert patch.headers["User-Agent"] == "vkcri/test"


def test_a_list_is_read_in_pages(tmp_path: Path) -> None:
    def script(call: Call) -> None:
        rest = {} if "continue" in call.params else {"continue": "tok/1+2="}
        call.send(200, {"metadata": rest, "items": [call.params]})

    with Server(script) as server:
        parts = list(client_of(tmp_path, server).pages("/api/v1/pods", params={"fieldSelector": "a=b"}, page=2))
    assert [part["items"] for part in parts] == [
        [{"fieldSelector": "a=b", "limit": "2"}],
        [{"fieldSelector": "a=b", "limit": "2", "continue": "tok/1+2="}],
    ]


def test_a_watch_gives_complete_lines_however_they_are_cut(tmp_path: Path) -> None:
    def script(call: Call) -> None:
        call.begin()
        for piece in (b"on", b"e\ntw", b"o\n\nthree\n", b"never whole"):
            call.chunk(piece)
        call.end()

    with Server(script) as server, client_of(tmp_path, server).watch("/w", params={}, read_timeout=5) as stream:
        assert list(stream) == [b"one", b"two", b"three"]


def test_a_watch_that_breaks_is_unavailable_and_its_half_line_dropped(tmp_path: Path) -> None:
    def script(call: Call) -> None:
        call.begin()
        call.chunk(b"one\nhal")
        call.cut()

    lines: list[bytes] = []
    with Server(script) as server, client_of(tmp_path, server).watch("/w", params={}, read_timeout=5) as stream:
        with pytest.raises(Unavailable):
            lines.extend(stream)
    assert lines in ([b"one"], [])


def test_a_silent_watch_ends_quietly_after_the_read_timeout(tmp_path: Path) -> None:
    def script(call: Call) -> None:
        call.begin()
        call.chunk(b"one\n")
        call.hold()

    with Server(script) as server, client_of(tmp_path, server).watch("/w", params={}, read_timeout=5.0) as stream:
        assert list(stream) == [b"one"]


@pytest.mark.parametrize("tls", [False, True])
def test_another_thread_ends_a_blocked_watch(tmp_path: Path, tls: bool) -> None:
    def script(call: Call) -> None:
        call.begin()
        call.chunk(b"one\n")
        call.hold()

    authority = trustme.CA()
    context = _server_context(authority) if tls else None
    cluster = {"certificate-authority-data": _b64(authority.cert_pem.bytes())} if tls else {}
    seen: list[bytes] = []
    with Server(script, context) as server:
        stream = client_of(tmp_path, server, **cluster).watch("/w", params={}, read_timeout=60)
        reader = threading.Thread(target=lambda: seen.extend(stream))
        reader.start()
        until(lambda: seen)
        stream.close()
        reader.join(PATIENCE)
        assert not reader.is_alive()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _server_context(authority: trustme.CA, *, demand: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if demand:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("as_files", [False, True])
def test_a_client_certificate_is_presented_and_its_key_left_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_files: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    authority = trustme.CA()
    mine = authority.issue_cert("me")
    certificate, key = mine.cert_chain_pems[0].bytes(), mine.private_key_pem.bytes()
    if as_files:
        (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
        (tmp_path / "me.pem").write_bytes(certificate)
        (tmp_path / "me.key").write_bytes(key)
        user = {"client-certificate": "me.pem", "client-key": "me.key"}  # relative to the kubeconfig
        cluster = {"certificate-authority": "ca.pem"}
    else:
        user = {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
        cluster = {"certificate-authority-data": _b64(authority.cert_pem.bytes())}
    with Server(lambda call: call.send(200, {"hello": "you"}), _server_context(authority, demand=True)) as server:
        client = client_of(tmp_path, server, user, **cluster)
        assert client.get("/version") == {"hello": "you"}
        assert client.ca == authority.cert_pem.bytes().decode()
    assert list(scratch.iterdir()) == []


def test_a_server_of_another_ca_is_unavailable(tmp_path: Path) -> None:
    cluster = {"certificate-authority-data": _b64(trustme.CA().cert_pem.bytes())}
    with Server(lambda call: call.send(200, {}), _server_context(trustme.CA())) as server:
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            client_of(tmp_path, server, None, **cluster).get("/version")


def _wants(token: str) -> Callable[[Call], None]:
    def script(call: Call) -> None:
        if call.headers.get("authorization") == f"Bearer {token}":
            call.send(200, {"ok": True})
        else:
            call.fail(401, "who are you?", "Unauthorized")

    return script


def test_a_rewritten_kubeconfig_is_read_again_after_a_401(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LOOK_SECONDS", 3600.0)
    with Server(_wants("old")) as server:
        client = client_of(tmp_path, server, {"token": "old"})
        assert client.get("/version") == {"ok": True}
        server.script = _wants("new")
        kubeconfig(tmp_path / "kubeconfig", server.url, {"token": "new"})
        assert client.get("/version") == {"ok": True}
        assert [call.headers["authorization"] for call in server.calls] == ["Bearer old", "Bearer old", "Bearer new"]


def test_a_changed_kubeconfig_is_used_without_a_401_and_leaves_a_running_watch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(client_module, "LOOK_SECONDS", 0.0)
    more = threading.Event()

    def script(call: Call) -> None:
        if not call.is_watch:
            call.send(200, {"token": call.headers["authorization"]})
            return
        call.begin()
        call.event("ADDED", {"metadata": {"resourceVersion": "1"}})
        more.wait(PATIENCE)
        call.event("ADDED", {"metadata": {"resourceVersion": "2"}})
        call.end()

    with Server(script) as server:
        client = client_of(tmp_path, server, {"token": "old"})
        with client.watch("/api/v1/pods", params={}, read_timeout=PATIENCE) as stream:
            lines = iter(stream)
            next(lines)
            kubeconfig(tmp_path / "kubeconfig", server.url, {"token": "new"})
            assert client.get("/version") == {"token": "Bearer new"}
            (tmp_path / "kubeconfig").write_text("{", encoding="utf-8")  # half written
            assert client.get("/version") == {"token": "Bearer new"}
            assert client.get("/version") == {"token": "Bearer new"}
            assert caplog.text.count("the old credentials stay") == 1
            more.set()
            assert [json.loads(line)["object"]["metadata"]["resourceVersion"] for line in lines] == ["2"]
        kubeconfig(tmp_path / "kubeconfig", server.url, {"token": "newest"})
        assert client.get("/version") == {"token": "Bearer newest"}


def test_files_that_a_kubeconfig_names_are_watched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LOOK_SECONDS", 0.0)
    (tmp_path / "token").write_text("old", encoding="ascii")
    with Server(lambda call: call.send(200, {"token": call.headers["authorization"]})) as server:
        client = client_of(tmp_path, server, {"tokenFile": "token"})
        assert client.get("/version") == {"token": "Bearer old"}
        (tmp_path / "token").write_text("new", encoding="ascii")
        assert client.get("/version") == {"token": "Bearer new"}


def test_a_401_that_stays_is_refused_and_not_asked_for_ever(tmp_path: Path) -> None:
    with Server(_wants("right")) as server:
        client = client_of(tmp_path, server, {"token": "wrong"})
        with pytest.raises(Refused, match="who are you"):
            client.get("/version")
        assert len(server.calls) == 1


def test_a_new_ca_in_the_kubeconfig_is_used_after_a_failed_handshake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LOOK_SECONDS", 3600.0)
    authority = trustme.CA()
    with Server(lambda call: call.send(200, {"ok": True}), _server_context(authority)) as server:
        old = {"certificate-authority-data": _b64(trustme.CA().cert_pem.bytes())}
        client = client_of(tmp_path, server, None, **old)
        assert client.server == server.url
        new = {"certificate-authority-data": _b64(authority.cert_pem.bytes())}
        kubeconfig(tmp_path / "kubeconfig", server.url, None, **new)
        assert client.get("/version") == {"ok": True}


def test_a_kubeconfig_that_names_another_server_is_not_followed_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "LOOK_SECONDS", 3600.0)
    with Server(_wants("old")) as server, Server(_wants("new")) as other:
        client = client_of(tmp_path, server, {"token": "old"})
        client.get("/version")
        server.script = _wants("new")
        kubeconfig(tmp_path / "kubeconfig", other.url, {"token": "new"})
        with pytest.raises(Refused, match="restart api-watcher"):
            client.get("/version")
        assert other.calls == []


def _plugin(tmp_path: Path, script: str) -> dict[str, Any]:
    program = tmp_path / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "args": ["x"]}}


def test_an_exec_plugin_gives_the_token(tmp_path: Path) -> None:
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-plugin"},
    }
    with Server(_wants("from-plugin")) as server:
        client = client_of(tmp_path, server, _plugin(tmp_path, f"echo '{json.dumps(answer)}'"))
        assert client.get("/version") == {"ok": True}


def _credential(token: str, expires: float) -> dict[str, Any]:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
    status = {"token": token, "expirationTimestamp": stamp}
    return {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}


def test_a_token_that_expires_is_renewed_and_a_failing_plugin_does_not_stop_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vkcri.kube.client.RELOAD_SECONDS", 0.0)
    answer = tmp_path / "answer"
    answer.write_text(json.dumps(_credential("one", time.time() + 30)), encoding="utf-8")
    with Server(lambda call: call.send(200, {"as": call.headers["authorization"]})) as server:
        client = client_of(tmp_path, server, _plugin(tmp_path, f"cat {answer}"))
        assert client.server == server.url
        answer.unlink()
        assert client.get("/version") == {"as": "Bearer one"}
        assert "were not renewed" in caplog.text
        answer.write_text(json.dumps(_credential("two", time.time() + 3600)), encoding="utf-8")
        assert client.get("/version") == {"as": "Bearer two"}
        answer.unlink()
        assert client.get("/version") == {"as": "Bearer two"}


def test_the_server_may_have_another_name_than_its_address(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.example.org").configure_cert(context)
    cluster = {"certificate-authority-data": _b64(authority.cert_pem.bytes()), "tls-server-name": "api.example.org"}
    with Server(lambda call: call.send(200, {"ok": True}), context) as server:
        assert client_of(tmp_path, server, None, **cluster).get("/version") == {"ok": True}


def test_an_exec_plugin_that_fails_is_refused_not_anonymous(tmp_path: Path) -> None:
    with Server(_wants("x")) as server:
        with pytest.raises(Refused, match="exec plugin"):
            client_of(tmp_path, server, _plugin(tmp_path, "exit 3")).get("/version")
        assert server.calls == []


def test_an_exec_plugin_that_hangs_is_unavailable(tmp_path: Path) -> None:
    user = _plugin(tmp_path, f"while [ ! -e {tmp_path}/end ]; do sleep 0.05; done; exit 1")
    path = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1", user)
    config = Kubeconfig(path, "t", load_seconds=0.2)
    with pytest.raises(Unavailable, match="did not answer"):
        config.load()
    with pytest.raises(Unavailable, match="still has not answered"):
        config.load()
    (tmp_path / "end").touch()
    assert config._loader is not None
    config._loader.join(PATIENCE)


@pytest.mark.parametrize("text", ["", "}{", "a: [", "kind: Config\nclusters: []\n", '{"current-context": "nowhere"}'])
def test_a_broken_kubeconfig_is_a_configuration_error_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=str(path)):
        Kubeconfig(path, "t").load()


def test_a_kubeconfig_that_appears_later_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "later"
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 3:
            path.touch()
        return False

    assert wait_for(Kubeconfig(path, "t"), wait)
    assert len(waits) == 3
    assert [str(path) in record.message for record in caplog.records] == [True]
    path.unlink()
    assert not wait_for(Kubeconfig(path, "t"), lambda _: True)
