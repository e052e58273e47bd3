"""The kubelet API's routes about the node, and those that ask the provider to do something, over real TLS sockets."""

import base64
import gzip
import json
import os
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest

from tests.unit.vkcri.kubelet.node import Node
from tests.waiting import until
from vkcri.api import exposition, times
from vkcri.errors import Invalid, NotFound, Refused, Unavailable
from vkcri.kubelet import health, resource, systemlogs
from vkcri.kubelet.configz import duration

STAMP = "2026-11-25T10:00:00.123456789Z"
CPU = {"time": STAMP, "usageNanoCores": 250, "usageCoreNanoSeconds": 1_500_000_000}
MEMORY = {"time": STAMP, "workingSetBytes": 4096}
SWAP = {"time": STAMP, "swapAvailableBytes": 10, "swapUsageBytes": 5}
USE = {"cpu": CPU, "memory": MEMORY, "swap": SWAP}
CLAIM = {"name": "data", "pvcRef": {"name": "claim", "namespace": "default"}}
FS = ("availableBytes", "capacityBytes", "usedBytes", "inodes", "inodesFree", "inodesUsed")
SUMMARY: dict[str, Any] = {
    "node": {"nodeName": "n1", "startTime": STAMP, **USE},
    "pods": [
        {
            "podRef": {"name": "web", "namespace": "default", "uid": "u"},
            "startTime": STAMP,
            "containers": [{"name": "main", "startTime": STAMP, "logs": {"usedBytes": 77}, **USE}],
            "volume": [{**dict.fromkeys(FS, 9), **CLAIM}, {**dict.fromkeys(FS, 8), **CLAIM}, {"name": "scratch"}],
            **USE,
        }
    ],
}


def asked(node: Node) -> tuple[str, dict[str, Any]]:
    """The provider's last request, but for the answer that is held already."""
    name, body = node.asked[-1]
    return name, {key: value for key, value in body.items() if key != "unless"}


def test_summary_is_passed_on_with_times_of_seconds(calm_node: Node) -> None:
    calm_node.answers["stats"] = SUMMARY
    status, body = calm_node.get("/stats/summary")
    found = json.loads(body)
    assert status == 200
    assert found["pods"][0]["containers"][0]["cpu"] == {**CPU, "time": "2026-11-25T10:00:00Z"}
    assert found == json.loads(json.dumps(SUMMARY).replace(".123456789Z", "Z"))
    assert asked(calm_node) == ("stats", {})
    assert calm_node.get("/stats/summary?only_cpu_and_memory=true")[0] == 200
    assert asked(calm_node) == ("stats", {"onlyCPUAndMemory": True})
    assert calm_node.get("/stats/summary", method="POST")[0] == 200


def test_summary_that_cannot_be_had_is_the_kubelets_internal_error(calm_node: Node) -> None:
    calm_node.answers["stats"] = Unavailable("failed to list pod stats: away")
    assert calm_node.get("/stats/summary") == (500, "Internal Error: failed to list pod stats: away")
    assert "resource_scrape_error 1\n" in calm_node.get("/metrics/resource")[1]
    calm_node.answers["stats"] = Refused("provider answers no request 'stats'")
    assert calm_node.get("/stats/summary")[0] == 501


def test_resource_metrics_are_the_summarys_with_their_times(calm_node: Node) -> None:
    calm_node.answers["stats"] = SUMMARY
    status, page = calm_node.get("/metrics/resource")
    own = 'container="main",namespace="default",pod="web"'
    assert status == 200
    assert [line for line in page.splitlines() if line[0] != "#"] == [
        f"container_cpu_usage_seconds_total{{{own}}} 1.5 1795600800123",
        f"container_memory_working_set_bytes{{{own}}} 4096 1795600800123",
        f"container_start_time_seconds{{{own}}} 1795600800.1234567",
        f"container_swap_limit_bytes{{{own}}} 15 1795600800123",
        f"container_swap_usage_bytes{{{own}}} 5 1795600800123",
        "node_cpu_usage_seconds_total 1.5 1795600800123",
        "node_memory_working_set_bytes 4096 1795600800123",
        "node_swap_usage_bytes 5 1795600800123",
        'pod_cpu_usage_seconds_total{namespace="default",pod="web"} 1.5 1795600800123',
        'pod_memory_working_set_bytes{namespace="default",pod="web"} 4096 1795600800123',
        'pod_swap_usage_bytes{namespace="default",pod="web"} 5 1795600800123',
        "resource_scrape_error 0",
    ]
    assert asked(calm_node) == ("stats", {"onlyCPUAndMemory": True})


def test_claims_count_once_and_logs_are_told(calm_node: Node) -> None:
    text = exposition.text(resource.volume_families(SUMMARY))
    assert 'kubelet_volume_stats_used_bytes{namespace="default",persistentvolumeclaim="claim"} 9\n' in text
    assert text.count("kubelet_volume_stats_inodes{") == 1
    log = 'kubelet_container_log_filesystem_used_bytes{uid="u",namespace="default",pod="web",container="main"} 77'
    assert log in text
    calm_node.answers["stats"] = SUMMARY
    assert (
        'kubelet_volume_stats_capacity_bytes{process="log-server",namespace="default"' in calm_node.get("/metrics")[1]
    )


def test_resource_page_of_half_a_summary_has_what_is_there() -> None:
    text = exposition.text(resource.families({"node": {"cpu": CPU}, "pods": []}))
    assert "node_cpu_usage_seconds_total 1.5" in text
    assert "node_memory" not in text


def test_container_metrics_are_passed_on(calm_node: Node) -> None:
    calm_node.answers["container-metrics"] = {"text": "container_last_seen 1\n"}
    assert calm_node.get("/metrics/cadvisor") == (200, "container_last_seen 1\n")
    calm_node.answers["container-metrics"] = Refused("provider answers no request 'container-metrics'")
    assert calm_node.get("/metrics/cadvisor")[0] == 501


@pytest.mark.parametrize("path", ["/metrics", "/metrics/resource", "/metrics/cadvisor"])
def test_metrics_are_compressed_for_who_prefers_that_as_prometheus_does(calm_node: Node, path: str) -> None:
    calm_node.answers.update({"stats": SUMMARY, "container-metrics": {"text": "container_last_seen 1\n"}})
    client = calm_node.kubelet()
    try:
        headers = {"Authorization": "Bearer admin-token", "Accept-Encoding": "gzip"}
        client.request("GET", path, headers=headers)
        response = client.getresponse()
        body = response.read()
        assert response.getheader("Content-Encoding") == "gzip"
        assert int(response.getheader("Content-Length", "0")) == len(body)
        assert gzip.decompress(body).startswith((b"# ", b"container_last_seen 1\n"))
        client.request("GET", "/stats/summary", headers=headers)
        response = client.getresponse()
        assert (response.getheader("Content-Encoding"), json.loads(response.read())["node"]["nodeName"]) == (None, "n1")
    finally:
        client.close()


def test_running_pods_are_a_list(calm_node: Node) -> None:
    calm_node.answers["running-pods"] = {"items": [{"metadata": {"name": "web"}}]}
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [{"metadata": {"name": "web"}}]}
    status, text = calm_node.get("/runningpods/")
    assert (status, json.loads(text)) == (200, body)


def test_configuration_is_every_processes_fields(calm_node: Node) -> None:
    calm_node.answers["configz"] = {"maxPods": 17}
    found = json.loads(calm_node.get("/configz")[1])["kubeletconfig"]
    assert found["maxPods"] == 17
    assert found["port"] == calm_node.settings.kubelet_port
    assert found["authentication"]["webhook"] == {"enabled": True, "cacheTTL": "2m0s"}
    wanted = {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"}
    assert found["authorization"] == {"mode": "Webhook", "webhook": wanted}
    calm_node.answers["configz"] = Unavailable("away")
    assert "maxPods" not in json.loads(calm_node.get("/configz")[1])["kubeletconfig"]
    assert [duration(seconds) for seconds in (0, 30, 61, 3600, 14400.5)] == ["0s", "30s", "1m1s", "1h0m0s", "4h0m0s"]


def test_health_has_the_kubelets_checks_and_names_the_peer_that_is_away(node: Node) -> None:
    until(lambda: node.get("/healthz") == (200, "ok"))
    for check in ("ping", "log", "syncloop"):
        assert node.get(f"/healthz/{check}") == (200, "ok")
    lines = node.get("/healthz?verbose")[1].splitlines()
    assert lines == [
        *(f"[+]{name} ok" for name in ("ping", "log", "syncloop", "pods", "provider")),
        "healthz check passed",
    ]
    assert node.get("/healthz/absent")[0] == 404
    node.stop_neighbour("provider")
    until(lambda: node.get("/healthz")[0] == 500)
    assert node.get("/healthz")[1].splitlines()[-2:] == ["[-]provider failed: reason withheld", "healthz check failed"]
    assert node.get("/healthz/provider") == (500, "Internal server error: the provider is not connected\n")
    assert node.get("/healthz?exclude=provider") == (200, "ok")


def test_sync_loop_is_unhealthy_after_five_minutes(node: Node) -> None:
    provider = node.publisher("provider")
    old = times.seconds(times.of(time.time() - 400))
    provider.put("node-status", "node", json.dumps({"relisted": old}).encode())
    assert node.get("/healthz/syncloop") == (200, "ok")  # log-server itself has not been here for so long
    late = health._syncloop(old, time.time() - 400, time.time())
    assert late == health._syncloop("", time.time() - 400, time.time()) == "sync Loop took longer than expected"
    assert health._syncloop(times.seconds(times.of(time.time() - 100)), time.time() - 400, time.time()) == ""


def test_excluded_checks_that_are_none_are_named() -> None:
    checks = {"a": lambda: "", "b": lambda: "broken"}
    assert health.page(checks, ["b"], verbose=False) == (200, "ok")
    status, text = health.page(checks, ["b", "c"], verbose=True)
    warning = 'warn: some health checks cannot be excluded: no matches for "c"'
    assert (status, text.splitlines()) == (200, ["[+]a ok", "[+]b excluded: ok", warning, "healthz check passed"])


def test_command_runs_and_its_output_comes_back(calm_node: Node) -> None:
    calm_node.run_pod("web")
    calm_node.answers["run"] = {"output": base64.b64encode(b"one\n\xfftwo").decode()}
    client = calm_node.kubelet()
    client.request("POST", "/run/default/web/main?cmd=ls+-l", headers={"Authorization": "Bearer admin-token"})
    response = client.getresponse()
    assert (response.status, response.read()) == (200, b"one\n\xfftwo")
    client.close()
    assert calm_node.asked[-1] == ("run", {"uid": "uid-web", "container": "main", "command": ["ls", "-l"]})
    calm_node.answers["run"] = Invalid("command 'ls -l' exited with 1: no")
    assert calm_node.get("/run/default/web/uid-web/main?cmd=x", method="POST") == (
        500,
        "command 'ls -l' exited with 1: no",
    )
    assert calm_node.get("/run/default/web/other/main", method="POST") == (404, "pod does not exist")
    assert calm_node.get("/run/default/web/main")[0] == 405


def test_checkpoint_answers_as_the_kubelet(calm_node: Node) -> None:
    calm_node.run_pod("web")
    calm_node.answers["checkpoint"] = {"location": "x"}
    status, body = calm_node.get("/checkpoint/default/web/main?timeout=1&timeout=7", method="POST")
    (location,) = json.loads(body)["items"]
    assert status == 200
    assert Path(location).parent == calm_node.instance.checkpoints_dir
    assert Path(location).name.startswith("checkpoint-web_default-main-20")
    body_of_it = {"uid": "uid-web", "container": "main", "location": location, "timeout": 7}
    assert calm_node.asked[-1] == ("checkpoint", body_of_it)
    calm_node.answers["checkpoint"] = Refused("rpc error: code = Unimplemented desc = unknown method")
    reason = "checkpointing of default/web/main failed (rpc error: code = Unimplemented desc = unknown method)"
    assert calm_node.get("/checkpoint/default/web/main", method="POST") == (500, reason)
    post = "POST"
    assert calm_node.get("/checkpoint/default/absent/main", method=post) == (404, "pod does not exist")
    assert calm_node.get("/checkpoint/default/web/absent", method=post) == (404, "container absent does not exist")
    unread = "cannot parse value of timeout parameter"
    for timeout in ("soon", "", "--1", "1_0", "%D9%A3", "9" * 20, str(1 << 63)):
        assert calm_node.get(f"/checkpoint/default/web/main?timeout={timeout}", method=post) == (404, unread), timeout
    calm_node.answers["checkpoint"] = {"location": "x"}
    for timeout, asked in (("%2B5", 5), ("-7", -7), (str((1 << 63) - 1), 4 * 3600)):
        assert calm_node.get(f"/checkpoint/default/web/main?timeout={timeout}", method=post)[0] == 200
        assert calm_node.asked[-1][1]["timeout"] == asked
    assert calm_node.get("/checkpoint/default/web/main")[0] == 405


def test_system_logs_are_var_log(calm_node: Node) -> None:
    status, body = calm_node.get("/logs/")
    assert status == 200
    assert f'<a href="{calm_node.instance.folder}/">' in body
    (calm_node.instance.log_dir / "some.log").write_text("a line\n")
    assert calm_node.get(f"/logs/{calm_node.instance.folder}/some.log") == (200, "a line\n")
    assert calm_node.get("/logs/absent") == (404, "404 page not found\n")
    for path in ("/logs/../../etc/passwd", "/logs/%2e%2e/%2e%2e/etc/passwd", "/logs//etc/passwd", "/logs/a%00b"):
        assert calm_node.get(path)[0] == 404, path


def test_folders_links_lead_where_it_says(calm_node: Node) -> None:
    nested = calm_node.instance.log_dir / "a folder" / "in:ner"
    nested.mkdir(parents=True, exist_ok=True)
    (nested / "some.log").write_text("found\n")
    url = f"https://localhost/logs/{calm_node.instance.folder}/a%20folder"  # as a person types it: no slash
    client = calm_node.kubelet()

    def follow(where: str) -> tuple[str, str]:
        client.request("GET", urlsplit(where).path, headers={"Authorization": "Bearer admin-token"})
        answer = client.getresponse()
        body = answer.read().decode()
        return follow(urljoin(where, answer.headers["Location"])) if answer.status == 301 else (where, body)

    for link in ('<a href="in%3Aner/">in:ner/</a>', '<a href="some.log">some.log</a>'):
        url, body = follow(url)
        assert link in body
        url = urljoin(url, link.split('"')[1])
    assert follow(url) == (url, "found\n")
    assert follow(f"{url}/") == (url, "found\n")
    client.close()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder of logs, beside a secret."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "log"
    (root / "inner").mkdir(parents=True)
    (root / "inner" / "inside.bin").write_bytes(b"\0\1")
    return root


def test_link_out_of_the_logs_is_not_followed(logs: Path) -> None:
    (logs / "out").symlink_to(logs.parent / "secret")
    (logs / "in").symlink_to(logs / "inner" / "inside.bin")
    (logs / "round").symlink_to("round")
    for name in ("out", "round"):
        with pytest.raises(NotFound):
            systemlogs.answer(f"/logs/{name}", logs)
    found = systemlogs.answer("/logs/in", logs)
    assert (found.content_type, b"".join(found.response)) == ("application/octet-stream", b"\0\1")
    found.response.close()
    assert b'<a href="round">' in systemlogs.answer("/logs/", logs).data


@pytest.mark.parametrize("part", ["inner", "inner/inside.bin"])
def test_link_that_comes_between_look_and_open_is_not_followed(
    logs: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = systemlogs._resolved

    def resolve_and_swap(base: Path, name: str) -> Path:
        found = resolve(base, name)
        (logs / part).rename(logs.parent / "moved")
        (logs / part).symlink_to(logs.parent / "moved")
        return found

    monkeypatch.setattr(systemlogs, "_resolved", resolve_and_swap)
    with pytest.raises(NotFound):
        systemlogs.answer("/logs/inner/inside.bin", logs)


def test_pipe_and_socket_among_the_logs_are_not_found_at_once(logs: Path) -> None:
    os.mkfifo(logs / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(logs / "socket"))
        for name in ("pipe", "socket", "pipe/more"):
            with pytest.raises(NotFound):
                systemlogs.answer(f"/logs/{name}", logs)
