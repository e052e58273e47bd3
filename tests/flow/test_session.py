"""The user's session of README, word by word, with real kubectl, real containerd and real supervisord."""

import re
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from tests.flow.live import LiveNode, container, is_ready, phase, shell_pod, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(600)]


def test_a_newcomer_types_the_session_and_every_step_does_what_it_says(fresh_node: LiveNode) -> None:
    node = fresh_node
    printed = node.up()
    kubeconfig = re.search(r"export KUBECONFIG=(\S+)", printed)
    assert kubeconfig
    assert kubeconfig[1] == str(node.instance.admin_kubeconfig)
    assert re.search(r" Ready ", node.kubectl("get", "nodes"))

    node.kubectl("apply", "-f", "examples/hello.yaml")
    pod = node.wait_ready("hello")
    identity, restarts = container(pod)["containerID"], container(pod)["restartCount"]
    assert identity.startswith("containerd://")
    assert restarts == 0
    assert "hello" in node.kubectl("get", "pods")
    described = node.kubectl("describe", "pod", "hello")
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert reason in described

    follower = subprocess.Popen(
        ["kubectl", f"--kubeconfig={kubeconfig[1]}", "logs", "-f", "hello"],
        stdout=subprocess.PIPE,
        text=True,
        env=node.environment,
    )
    try:
        assert follower.stdout is not None
        first = [follower.stdout.readline() for _ in range(4)]
    finally:
        follower.kill()
        follower.communicate()
    assert first[0].startswith(f"hello from hello on {node.environment['VKUBELET_NODE_NAME']}, my address is 10.244.")
    assert first[1:] == ["line 1\n", "line 2\n", "line 3\n"]

    curl = re.search(r"^ *(curl .*)$", printed, re.MULTILINE)
    assert curl
    over_http = node.run("sh", "-c", f"timeout 5 {curl[1].replace('curl', 'curl -sN', 1)}", check=False)
    assert over_http.splitlines()[:2] == [first[0].strip(), "line 1"]

    node.supervisorctl("restart", "cri-bridge")
    node.wait_running("cri-bridge")
    after = wait_for("the bridge reports again", lambda: is_ready(p := node.pod("hello")) and p)
    assert (container(after)["containerID"], container(after)["restartCount"]) == (identity, 0)

    again = node.up()
    assert "is Ready" in again
    assert container(node.pod("hello"))["containerID"] == identity

    node.kubectl("delete", "pod", "hello", "--wait=true", "--grace-period=1")
    assert node.pod("hello") == {}
    node.down()
    assert node.leftovers() == []


def test_pods_that_must_not_run_twice_do_not_after_stop_and_run(fresh_node: LiveNode) -> None:
    node = fresh_node
    node.up()
    node.apply(
        shell_pod("succeeded", "echo once", restartPolicy="Never"),
        shell_pod("running", "echo started; sleep 3600", restartPolicy="Never"),
        shell_pod("service", "echo started; sleep 3600"),
    )
    node.wait_pod("succeeded", lambda pod: phase(pod) == "Succeeded")
    node.wait_ready("running")
    node.wait_ready("service")
    before = container(node.pod("running"))["containerID"]
    node.down()
    assert node.leftovers() == []

    node.up()
    node.wait_ready("service")
    ended = node.wait_pod("running", lambda pod: phase(pod) == "Failed")
    assert container(ended)["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert container(ended)["state"]["terminated"]["exitCode"] == 137
    assert container(ended).get("containerID", before) == before
    assert phase(node.pod("succeeded")) == "Succeeded"
    sandboxes = node.ctr("containers", "list")
    assert sandboxes.count(":") >= 1
    labels = node.ctr("containers", "list", 'labels."io.kubernetes.pod.name"==succeeded')
    assert len(labels.splitlines()) == 1, labels


def test_log_api_refuses_a_missing_token_and_a_foreign_host(node: LiveNode) -> None:
    url = f"http://127.0.0.1:{node.instance.log_api_port}/pods"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=10)
    refused.value.close()
    assert refused.value.code == 401
    token = node.instance.log_api_token_file.read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Host": "evil.example"}
    with pytest.raises(urllib.error.HTTPError) as foreign:
        urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10)
    foreign.value.close()
    assert foreign.value.code in (403, 421)


def test_without_the_bridge_the_node_is_not_ready_within_a_minute_and_ready_again_after(node: LiveNode) -> None:
    node.supervisorctl("stop", "cri-bridge")
    try:
        started = time.monotonic()
        wait_for("the node is NotReady", lambda: " NotReady " in node.kubectl("get", "nodes"), 75)
        assert time.monotonic() - started <= 65
    finally:
        node.supervisorctl("start", "cri-bridge")
    wait_for("the node is Ready", lambda: re.search(r" Ready ", node.kubectl("get", "nodes")), 30)
