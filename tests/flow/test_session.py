"""The user's session of README, word by word, with real kubectl, real containerd and real supervisord."""

import re
import urllib.error
import urllib.request

import pytest

from tests.flow.live import LiveNode, container, identity, is_ready, phase, shell_pod
from tests.flow.reading import read_until
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(600)]


def test_a_newcomer_types_the_session_and_every_step_does_what_it_says(fresh_node: LiveNode) -> None:
    node = fresh_node
    printed = node.up()
    kubeconfig = re.search(r"export KUBECONFIG=(\S+)", printed)
    assert kubeconfig
    assert kubeconfig[1] == node.place.told
    assert node.is_node_ready()

    node.kubectl("apply", "-f", "examples/hello.yaml")
    watching = node.kubectl_process("get", "pods", "-w")
    try:
        rows = read_until(watching, lambda lines: re.match(r"hello +1/1 +Running +0 ", lines[-1]), 90)
    finally:
        watching.kill()
        watching.communicate()
    assert rows[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert rows[1].startswith("hello ")
    assert rows[-1].split()[:4] == ["hello", "1/1", "Running", "0"]
    pod = node.wait_ready("hello")
    made = container(pod)["containerID"]
    assert made.startswith("containerd://")
    assert container(pod)["restartCount"] == 0
    assert "hello" in node.kubectl("get", "pods")
    reasons = ("Scheduled", "Pulled", "Created", "Started")
    wait_for("its events", lambda: all(item in node.kubectl("describe", "pod", "hello") for item in reasons))

    follower = node.kubectl_process("logs", "-f", "hello")
    try:
        first = read_until(follower, lambda lines: len(lines) == 4)
    finally:
        follower.kill()
        follower.communicate()
    assert first[0].startswith(f"hello from hello on {node.name}, my address is {pod['status']['podIP']}\n")
    assert first[1:] == ["line 1\n", "line 2\n", "line 3\n"]

    curl = re.search(r"^ *(curl .*)$", printed, re.MULTILINE)
    assert curl
    typed = curl[1].replace("curl", "curl -sN", 1).replace("/logs/default/", f"/logs/{node.namespace}/")
    over_http = node.run("sh", "-c", f"(timeout 60 {typed}\n) | head -n 2", check=False)
    assert over_http.splitlines() == [first[0].strip(), "line 1"]

    node.supervisorctl("restart", "cri-bridge")
    node.wait_running("cri-bridge")
    after = node.wait_ready("hello")
    assert (container(after)["containerID"], container(after)["restartCount"]) == (made, 0)
    assert node.containers("hello", "hello") == {identity(after)}

    again = node.up()
    assert "is Ready" in again
    assert container(node.pod("hello"))["containerID"] == made
    assert node.containers("hello", "hello") == {identity(after)}

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
    served = identity(node.wait_ready("service"))
    finished, ran = identity(node.pod("succeeded")), identity(node.pod("running"))
    assert node.containers("running") == {ran}
    node.down()
    assert node.leftovers() == []

    node.up()
    # The API server's copy is the one of before the stop until the node has spoken again.
    again = node.wait_pod("service", lambda pod: is_ready(pod) and identity(pod) != served)
    assert node.containers("service") == {identity(again)}
    ended = container(node.wait_pod("running", lambda pod: phase(pod) == "Failed"))
    assert (ended["state"]["terminated"]["reason"], ended["state"]["terminated"]["exitCode"]) == (
        "ContainerStatusUnknown",
        137,
    )
    done = node.pod("succeeded")
    assert phase(done) == "Succeeded"
    assert [container(done)["restartCount"], ended["restartCount"]] == [0, 0]
    assert [identity(done), ended["containerID"].removeprefix("containerd://")] == [finished, ran]
    for name in ("succeeded", "running"):
        assert node.containers(name) == set()


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
    node.apply(shell_pod("unattended", "sleep 3600"))
    before = node.wait_ready("unattended")
    node.supervisorctl("stop", "cri-bridge")
    try:
        wait_for("the node is NotReady", lambda: " NotReady " in node.kubectl("get", "node", node.name), 60)
        ready = [item for item in node.node()["status"]["conditions"] if item["type"] == "Ready"]
        assert (ready[0]["status"], ready[0]["reason"]) == ("False", "ProviderSilent")
    finally:
        node.supervisorctl("start", "cri-bridge")
    wait_for("the node is Ready", node.is_node_ready)
    after = node.wait_ready("unattended")
    assert (identity(after), container(after)["restartCount"]) == (identity(before), 0)
    assert node.containers("unattended") == {identity(after)}
    node.kubectl("delete", "pod", "unattended", "--wait=true")
