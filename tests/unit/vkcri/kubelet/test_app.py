"""The kubelet API, asked over real TLS sockets."""

import http.client
import itertools
import json
import os
import socket
import ssl
import statistics
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.routing import MapAdapter

from tests.unit.vkcri.kubelet.node import Node, running, terminated, waiting
from tests.unit.vkcri.kubelet.test_logs import record
from tests.waiting import PATIENCE, until
from vkcri import certs
from vkcri.api import times
from vkcri.errors import Invalid
from vkcri.kubelet import metrics
from vkcri.kubelet.app import make_app
from vkcri.kubelet.auth import subresources
from vkcri.kubelet.metrics import Counters

LOG = "/containerLogs/default/web/main"


def test_logs_with_each_option(calm_node: Node) -> None:
    log = b"".join(
        record(second, b"line %d" % second, stream=(b"stdout", b"stderr")[second % 2]) for second in range(5)
    )
    calm_node.run_pod("web", log)
    assert calm_node.get(LOG) == (200, "".join(f"line {number}\n" for number in range(5)))
    assert calm_node.get(f"{LOG}?tailLines=2") == (200, "line 3\nline 4\n")
    assert calm_node.get(f"{LOG}?tail=1") == (200, "line 4\n")
    assert calm_node.get(f"{LOG}?tail=all&limitBytes=8") == (200, "line 0\nl")
    assert calm_node.get(f"{LOG}?sinceTime=2026-11-23T10:00:03Z&timestamps=true&tailLines=4") == (
        200,
        "2026-11-23T10:00:03.000000000Z line 3\n2026-11-23T10:00:04.000000000Z line 4\n",
    )
    assert calm_node.get(f"{LOG}?stream=Stderr&follow=false") == (200, "line 1\nline 3\n")
    assert calm_node.get(f"{LOG}?sinceSeconds=315360000&tailLines=1") == (200, "line 4\n")
    assert calm_node.get(f"{LOG}?sinceSeconds=1&tailLines=1") == (200, "")


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("tailLines=x", 400, "Unable to decode query."),
        ("sinceTime=yesterday", 400, "Unable to decode query."),
        ("tailLines=-1", 422, "Invalid request."),
        ("limitBytes=0", 422, "Invalid request."),
        ("sinceSeconds=0", 422, "Invalid request."),
        ("sinceSeconds=1&sinceTime=2026-11-23T10:00:03Z", 422, "Invalid request."),
        ("stream=Both", 422, "Invalid request."),
        ("stream=Stdout&tailLines=1", 422, "Invalid request."),
    ],
)
def test_wrong_options_are_refused_as_by_the_kubelet(calm_node: Node, query: str, status: int, message: str) -> None:
    calm_node.run_pod("web")
    code, body = calm_node.get(f"{LOG}?{query}")
    assert (code, json.loads(body)) == (status, {"message": message})


def test_unknown_pods_and_containers_are_not_found(calm_node: Node) -> None:
    calm_node.run_pod("web")
    assert calm_node.get("/containerLogs/default/absent/main") == (404, 'pod "absent" does not exist')
    assert calm_node.get("/containerLogs/other/web/main") == (404, 'pod "web" does not exist')
    assert calm_node.get("/containerLogs/default/web/absent") == (404, 'container "absent" not found in pod "web"')
    assert calm_node.get("/containerLogs/default/web/..")[0] == 404


@pytest.mark.parametrize(
    ("status", "query", "message"),
    [
        (waiting("ContainerCreating"), "", 'container "main" in pod "web" is waiting to start: ContainerCreating'),
        (waiting("ErrImagePull"), "", 'container "main" in pod "web" is waiting to start: image can\'t be pulled'),
        (
            waiting("ImagePullBackOff"),
            "",
            'container "main" in pod "web" is waiting to start: trying and failing to pull image',
        ),
        ({"name": "main", "state": {}}, "", 'container "main" in pod "web" is waiting to start - no logs yet'),
        (running(), "?previous=true", 'previous terminated container "main" in pod "web" not found'),
        (terminated(container_id=""), "", 'container "main" in pod "web" is terminated'),
        ({"name": "other"}, "", 'container "main" in pod "web" is not available'),
    ],
)
def test_container_without_a_log_says_why_as_the_kubelet(
    calm_node: Node, status: dict[str, object], query: str, message: str
) -> None:
    calm_node.put_pod("web")
    calm_node.put_status("web", [status])
    calm_node.until_known("web")
    until(lambda: calm_node.get(f"{LOG}{query}") == (400, message))


def test_provider_says_why_there_is_no_log(node: Node) -> None:
    node.run_pod("web")
    node.log_paths["default", "web", "main", False] = Invalid("not started, says the provider")
    assert node.get(LOG) == (400, "not started, says the provider")


def test_a_containers_path_is_asked_for_once_and_its_next_ones_anew(node: Node) -> None:
    path = node.run_pod("web", record(0, b"first life"))
    assert node.get(LOG) == (200, "first life\n")
    node.log_paths["default", "web", "main", False] = Invalid("asked again")
    assert node.get(LOG) == (200, "first life\n")
    path.unlink()
    assert node.get(LOG) == (400, "asked again")
    path.write_bytes(record(0, b"found again"))
    assert node.get(LOG) == (200, "found again\n")
    node.put_status("web", [running(container_id="containerd://c2")])
    until(lambda: node.get(LOG) == (400, "asked again"))


def test_previous_log_and_the_last_one_of_a_crashing_container(node: Node) -> None:
    node.run_pod("web", record(0, b"second life"))
    older = node.log_file("web", number=7)
    older.write_bytes(record(0, b"first life"))
    node.log_paths["default", "web", "main", True] = {"path": str(older), "containerID": "c0", "running": False}
    last = {"lastState": terminated(container_id="containerd://c0")["state"]}
    node.put_status("web", [running(**last)])
    until(lambda: node.get(f"{LOG}?previous=true") == (200, "first life\n"))
    last = {"lastState": terminated(container_id="containerd://c1")["state"]}
    node.put_status("web", [waiting("CrashLoopBackOff", **last)])
    assert node.get(LOG) == (200, "second life\n")


def test_logs_are_read_while_the_provider_is_away(node: Node) -> None:
    node.run_pod("web", record(0, b"old"))
    node.log_file("web", number=1).write_bytes(record(0, b"new"))
    last = {"lastState": terminated(container_id="containerd://c0")["state"]}
    node.put_status("web", [running(**last)])
    until(lambda: node.get(f"{LOG}?previous=true")[0] == 404)
    node.stop_neighbour("provider")
    assert node.get(LOG) == (200, "new\n")
    assert node.get(f"{LOG}?previous=true") == (200, "old\n")


def test_follow_sends_its_head_at_once_and_ends_with_the_container(node: Node) -> None:
    path = node.run_pod("web")
    client = node.kubelet()
    client.request("GET", f"{LOG}?follow=true", headers={"Authorization": "Bearer admin-token"})
    response = client.getresponse()
    assert response.status == 200
    with path.open("ab", buffering=0) as file:
        for number in range(3):
            file.write(record(0, b"%d" % number))
            assert response.readline() == b"%d\n" % number
        path.rename(path.with_name("0.log.20261123-100000"))
        with path.open("ab", buffering=0) as new:
            new.write(record(0, b"after rotation"))
            assert response.readline() == b"after rotation\n"
            node.put_status("web", [terminated()])
            assert response.read() == b""
    client.close()


def test_a_log_comes_before_its_end_however_short(node: Node) -> None:
    node.run_pod("web", record(0, b"so far"))
    client = node.kubelet()
    client.connect()
    client.sock.sendall(f"GET {LOG} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin-token\r\n\r\n".encode())
    assert client.sock.recv(65536).endswith(b"\r\n\r\n7\r\nso far\n\r\n")  # a record of TLS each
    assert client.sock.recv(65536) == b"0\r\n\r\n"
    client.close()


def test_a_followed_log_is_cut_where_the_server_ends(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.run_pod("web", record(0, b"so far"))
    client, headers = node.kubelet(), {"Authorization": "Bearer admin-token"}
    client.request("GET", LOG, headers=headers)
    with client.getresponse() as whole:
        assert whole.read() == b"so far\n"
    client.request("GET", f"{LOG}?follow=true", headers=headers)
    response = client.getresponse()
    events = node.people("/logs/default/web?follow=1&sse=1")
    assert response.readline() == b"so far\n"
    assert events.readline() == b"data: so far\n"
    node.process.drain()
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    with events, pytest.raises(http.client.IncompleteRead):
        events.read()
    client.close()
    assert [item.getMessage() for item in caplog.records if item.levelname == "ERROR"] == []


def test_follow_goes_on_while_the_provider_restarts(node: Node) -> None:
    path = node.run_pod("web")
    client = node.kubelet()
    client.request("GET", f"{LOG}?follow=true", headers={"Authorization": "Bearer admin-token"})
    response = client.getresponse()
    node.stop_neighbour("provider")
    with path.open("ab", buffering=0) as file:
        file.write(record(0, b"meanwhile"))
    assert response.readline() == b"meanwhile\n"
    node.start_provider()
    node.put_status("web", [terminated()])
    assert response.read() == b""
    client.close()


def test_follow_ends_when_the_pod_is_gone(node: Node) -> None:
    node.run_pod("web", record(0, b"all"))
    client = node.kubelet()
    client.request("GET", f"{LOG}?follow=true", headers={"Authorization": "Bearer admin-token"})
    response = client.getresponse()
    assert response.readline() == b"all\n"
    node.publisher("watcher").delete("pods", "uid-web", source="api")
    node.publisher("provider").delete("pod-status", "uid-web")
    assert response.read() == b""
    client.close()


def test_pods_carry_the_newest_status(node: Node) -> None:
    node.run_pod("web")
    node.put_pod("fresh")
    until(lambda: len(json.loads(node.get("/pods")[1])["items"]) == 2)
    body = json.loads(node.get("/pods")[1])
    assert (body["kind"], body["apiVersion"]) == ("PodList", "v1")
    phases = {item["metadata"]["name"]: item["status"]["phase"] for item in body["items"]}
    assert phases == {"web": "Running", "fresh": "Pending"}


def test_pods_say_whence_and_since_when_as_the_kubelets(node: Node) -> None:
    before = time.time()
    node.put_pod("web")
    until(lambda: len(json.loads(node.get("/pods")[1])["items"]) == 1)
    (listed,) = json.loads(node.get("/pods")[1])["items"]
    assert not {"kind", "apiVersion"} & set(listed)
    annotations = listed["metadata"]["annotations"]
    assert annotations["kubernetes.io/config.source"] == "api"
    seen = annotations["kubernetes.io/config.seen"]
    assert before - 1 < times.to_epoch(seen) < time.time() + 1
    node.put_status("web", [running()])
    until(lambda: json.loads(node.get("/pods")[1])["items"][0]["status"]["phase"] == "Running")
    assert json.loads(node.get("/pods")[1])["items"][0]["metadata"]["annotations"] == annotations


def test_metrics_join_every_process_that_answers(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "ASK_SECONDS", PATIENCE)
    node.get("/healthz")
    status, body = node.get("/metrics")
    lines = body.splitlines()
    assert status == 200
    assert 'watches{process="api-watcher"} 3' in lines
    assert 'vkcri_process_up{process="cri-bridge"} 0' in lines  # it has no figures here
    assert 'vkcri_process_up{process="kube-proxy"} 0' in lines
    assert any(line.startswith('vkcri_http_requests_total{process="log-server"') for line in lines)
    assert len([line for line in lines if line.startswith("# TYPE vkcri_process_up")]) == 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        *((path, "404 page not found\n") for path in ("/nothing", "/", "/metrics/nothing", "/metrics/", "/healthz/")),
        *((path, "404: Page Not Found") for path in ("/containerLogs", "/pods/more", "/exec/default/web", "/stats/")),
    ],
)
def test_unknown_routes_are_not_found_in_the_words_of_their_kind(calm_node: Node, path: str, words: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert calm_node.get(path, method=method) == (404, words)
    assert calm_node.get(path, method="HEAD") == (404, "")


@pytest.mark.parametrize("path", ["/healthz", "/healthz/ping", "/metrics", "/metrics/resource", "/configz"])
def test_plain_handlers_take_every_method(calm_node: Node, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert calm_node.get(path, method=method)[0] == 200


@pytest.mark.parametrize("path", ["/runningpods", "/stats", "/logs"])
def test_path_of_a_folder_is_sent_on_to_it(calm_node: Node, path: str) -> None:
    moved = f'<a href="{path}/?a=b">Temporary Redirect</a>.\n\n'
    assert calm_node.get(f"{path}?a=b") == (307, moved)
    assert calm_node.get(f"{path}?a=b", method="POST") == (307, "")
    assert calm_node.get(f"{path}?a=b", "pod-token")[0] == 403


def test_debugging_is_told_to_be_disabled(calm_node: Node) -> None:
    assert calm_node.get("/debug/pprof/") == (405, "profiling endpoint is disabled.\n")
    assert calm_node.get("/debug/flags/v", method="PUT") == (405, "flags endpoint is disabled.\n")


ROUTES = {
    "/pods": ["pods", "proxy"],
    "/pods/": ["pods", "proxy"],
    "/healthz": ["healthz", "proxy"],
    "/healthz/ping": ["healthz", "proxy"],
    "/runningpods/": ["pods", "proxy"],
    "/configz": ["configz", "proxy"],
    "/metrics": ["metrics"],
    "/metrics/cadvisor": ["metrics"],
    "/metrics/resource": ["metrics"],
    "/metrics/probes": ["metrics"],
    "/stats/summary": ["stats"],
    "/stats": ["stats"],
    "/logs/": ["log"],
    "/logs/wtmp": ["log"],
    "/statusz": ["statusz"],
    "/flagz": ["configz"],
    "/allocatedPods/default/web": ["pods", "proxy"],
    "/checkpoint/default/web/main": ["checkpoint"],
    "/containerLogs/default/web/main": ["proxy"],
    "/exec/default/web/main?command=id&output=1": ["proxy"],
    "/exec/default/web/uid-web/main?command=id&output=1": ["proxy"],
    "/attach/default/web/main?output=1": ["proxy"],
    "/attach/default/web/uid-web/main?output=1": ["proxy"],
    "/portForward/default/web": ["proxy"],
    "/portForward/default/web/uid-web": ["proxy"],
    "/run/default/web/main": ["proxy"],
    "/run/default/web/uid-web/main": ["proxy"],
    "/debug/pprof/": ["proxy"],
    "/debug/flags/v": ["proxy"],
    "/nothing": ["proxy"],
    "/metricsx": ["proxy"],
}


@pytest.mark.parametrize("path", ROUTES)
def test_path_is_judged_by_the_kubelets_attributes(path: str) -> None:
    assert subresources(path.partition("?")[0]) == ROUTES[path]


def test_table_has_every_route() -> None:
    """A route that is added and does not come into the table is a route whose guard nobody has tested."""
    parts: Any = SimpleNamespace(pods=None, gate=None, counters=Counters())
    urls = make_app(parts).url_map.bind("")
    found = {urls.match(path.partition("?")[0], method)[0] for path in ROUTES for method in methods(urls, path)}
    assert found == {rule.endpoint for rule in urls.map.iter_rules()}


def methods(urls: MapAdapter, path: str) -> list[str]:
    return [method for method in ("GET", "POST") if urls.test(path.partition("?")[0], method)]


@pytest.mark.parametrize("credential", ["none", "unknown", "basic", "pod", "scraper", "admin", "certificate"])
def test_every_route_asks_for_a_good_credential(calm_node: Node, credential: str) -> None:
    calm_node.run_pod("web", record(0, b"secret"))
    context = (
        calm_node.trust(calm_node.authority.issue_client("admin", ["masters"])) if credential == "certificate" else None
    )
    token = {"basic": "Basic YWRtaW46YWRtaW4tdG9rZW4=", "unknown": "rubbish", "pod": "pod-token"}
    token |= {"scraper": "scraper-token", "admin": "admin-token"}
    if context is not None:
        until(lambda: calm_node.get("/healthz", "", context=context)[0] == 200)
    for path, wanted in ROUTES.items():
        status, body = calm_node.get(path, token.get(credential, ""), context=context)
        if credential in ("none", "unknown", "basic"):
            assert (status, body) == (401, "Unauthorized"), path
            assert calm_node.get(path, token.get(credential, ""), method="POST") == (401, "Unauthorized"), path
        elif credential == "pod" or (credential == "scraper" and not {"metrics", "healthz"} & set(wanted)):
            assert status == 403, path
            assert f"verb=get, resource=nodes, subresource(s)=[{' '.join(wanted)}]" in body
            assert "secret" not in body
            status, body = calm_node.get(path, token.get(credential, ""), method="POST")
            assert status == 403, path
            assert f"verb=create, resource=nodes, subresource(s)=[{' '.join(wanted)}]" in body
        else:
            assert status in (200, 307, 400, 404, 405, 500, 501), path


def test_foreign_certificate_is_nobody(calm_node: Node) -> None:
    until(lambda: _knows_ca(calm_node))
    foreign = certs.CertificateAuthority.create("cluster-ca").issue_client("admin", ["system:masters"])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        calm_node.get("/pods", "", context=calm_node.trust(foreign))


def _knows_ca(node: Node) -> bool:
    return node.get("/pods", "", context=node.trust(node.authority.issue_client("admin")))[0] == 200


def test_certificate_that_the_cluster_does_not_favour_is_forbidden(node: Node) -> None:
    until(lambda: _knows_ca(node))
    weak = node.trust(node.authority.issue_client("somebody", ["system:masters-not"]))
    assert node.get("/pods", "", context=weak)[0] == 403
    spec = [body for kind, body in node.reviews if kind == "access"][-1]
    assert (spec["user"], spec["groups"]) == ("somebody", ["system:masters-not", "system:authenticated"])


def test_verb_is_the_methods(node: Node) -> None:
    node.get("/exec/default/web/main?output=1", method="POST")
    assert node.reviews[-1][1]["resourceAttributes"]["verb"] == "create"
    assert node.get("/pods", method="HEAD")[0] == 405
    assert node.get("/pods", method="OPTIONS")[0] == 405
    assert node.get("/pods", method="DELETE") == (405, "405: Method Not Allowed")


WORDS = st.sampled_from(
    [b"GET", b"POST", b"/pods", b"/metrics", b"//", b"/..", b"%", b"\0", b" ", b"HTTP/1.1", b"\xff"]
)
LINES = st.sampled_from(
    [b"Host: x", b"Host:", b"Authorization: Bearer \xff", b"Authorization: Bearer", b"Content-Length: 9", b":", b" x"]
) | st.binary(max_size=60)
MALFORMED = st.builds(
    lambda words, lines: b" ".join(words) + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n",
    st.lists(WORDS, max_size=4),
    st.lists(LINES, max_size=4),
)


@pytest.mark.filterwarnings("ignore:Do not use the .random. module")  # the server's own threads draw from it meanwhile
def test_log_server_goes_on_after_whatever_it_is_sent_and_its_memory_stays_level(calm_node: Node) -> None:
    """A leak grows in every round after the first; an allocator's new arena is one round's alone."""
    context = calm_node.trust()

    @given(st.lists(MALFORMED, min_size=20, max_size=20))
    @settings(max_examples=10, database=None)
    def send_all(requests: list[bytes]) -> None:
        for data in requests:
            with socket.create_connection(("localhost", calm_node.settings.kubelet_port), PATIENCE) as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as connection:
                    connection.sendall(data)
                    with suppress(OSError):
                        connection.recv(1)

    send_all()
    sizes = [resident()]
    for _ in range(3):
        send_all()
        sizes.append(resident())
    assert statistics.median(after - before for before, after in itertools.pairwise(sizes)) < 8 * 1024 * 1024, sizes
    assert calm_node.get("/healthz/ping") == (200, "ok")
    assert calm_node.get("/pods", "") == (401, "Unauthorized")


def resident() -> int:
    """Bytes of this process, in which log-server runs, in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_reviews_are_asked_once_a_while(node: Node) -> None:
    for _ in range(3):
        assert node.get("/pods")[0] == 200
        assert node.get("/pods", "pod-token")[0] == 403
    assert [kind for kind, _ in node.reviews].count("token") == 2
    assert [kind for kind, _ in node.reviews].count("access") == 1 + 2


def test_nobody_new_is_let_in_while_the_watcher_is_away(node: Node) -> None:
    assert node.get("/pods")[0] == 200
    node.stop_neighbour("watcher")
    assert node.get("/pods")[0] == 200
    assert node.get("/pods", "scraper-token") == (401, "Unauthorized")
    assert node.get("/pods", "")[0] == 401
    error = "Authorization error (user=admin, verb=get, resource=nodes, subresource=metrics)"
    assert node.get("/metrics") == (500, error)
