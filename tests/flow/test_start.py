"""Starts: each program alone and in any order, and configurations with which nothing can start."""

import re
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.flow.live import BIN, LiveNode, is_ready, live_node, shell_pod
from tests.flow.planes import Plane
from tests.waiting import wait_for
from vkcri.cli.supervision import Supervisor

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(300), pytest.mark.xdist_group("start")]

MEMORY = "examples/providers/memory.py"  # where no containerd is needed to see it
PROGRAMS = ("containerd", "apiserver", "api-watcher", "cri-bridge", "log-server", "kube-proxy")
NAMES = tuple(f"vkcri-{name}" for name in PROGRAMS)


@pytest.fixture
def live(plane: Plane) -> Iterator[LiveNode]:
    with live_node(plane, "start") as made:
        yield made


def said(live: LiveNode, program: str) -> list[str]:
    """What a program printed in plain lines, without its log's records."""
    text = (live.instance.log_dir / f"{program}.log").read_text()
    return [line for line in text.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)]


def start_supervisord(live: LiveNode) -> None:
    """What `supervisord -c supervisor.conf` is for the default instance."""
    conf = live.instance.state_dir / "supervisor.conf"
    for folder in (live.instance.state_dir, live.instance.log_dir):
        folder.mkdir(parents=True, exist_ok=True)
    conf.write_text(live.run(str(BIN / "vkcri"), "supervisor-conf"))
    live.run(str(BIN / "supervisord"), "-c", str(conf))
    wait_for("supervisord answers", lambda: "containerd" in live.states())


def test_each_program_lives_alone_and_any_order_of_starts_ends_ready(live: LiveNode) -> None:
    start_supervisord(live)
    live.supervisorctl("stop", "all")
    supervisor = Supervisor(live.instance)
    starts = supervisor.restarts()
    resting = dict.fromkeys(PROGRAMS, "STOPPED")
    for name in PROGRAMS:
        live.supervisorctl("start", name)
        if name in live.idle:
            resting[name] = "EXITED"  # and stays so: there is nothing to stop
            wait_for("the launcher's end", lambda: live.states() == resting)
            continue
        pid = live.pid(name)
        time.sleep(3.0)  # what is to be shown is that nothing happens in this time
        assert live.states() == {**resting, name: "RUNNING"}
        assert live.pid(name) == pid
        live.supervisorctl("stop", name)
    for name in reversed(PROGRAMS):
        live.supervisorctl("start", name)
    ready = live.run(str(BIN / "vkcri"), "up", "--timeout", "60")
    assert f"node {live.name} is Ready" in ready
    live.apply(shell_pod("first", "sleep 3600"))
    live.wait_ready("first")
    assert {name for name, state in live.states().items() if state == "RUNNING"} == set(live.programs)
    restarts = {name: count - starts[name] for name, count in supervisor.restarts().items()}
    assert restarts == dict.fromkeys(PROGRAMS, 2)  # each was started twice by us, and never by supervisord


@pytest.mark.cluster
def test_pods_bound_before_their_node_joined_have_addresses_of_its_range_and_wait_for_it(live: LiveNode) -> None:
    """The controller manager gives the range a moment after the Node was registered, and these pods are there first."""
    pod = shell_pod("early", "sleep 3600", nodeName=live.name)
    template = {"metadata": pod["metadata"], "spec": pod["spec"]}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "early"}}, "template": template}
    # Its pods are made again where the cluster's cleaner finds them before their node.
    live.apply({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "early"}, "spec": spec})
    wait_for("the pods", lambda: len(live.get("pods", "-l", "app=early").get("items", [])) == 3)
    live.up()

    def addresses_of_three() -> list[str]:
        ready = [item for item in live.get("pods", "-l", "app=early").get("items", []) if is_ready(item)]
        return [item["status"]["podIP"] for item in ready] if len(ready) == 3 else []

    addresses = wait_for("they run", addresses_of_three, 120)
    subnet = ip_network(live.node()["spec"]["podCIDR"])
    assert [item for item in addresses if ip_address(item) not in subnet] == []
    live.kubectl("delete", "replicaset", "early", "--cascade=foreground", "--timeout=60s")


@pytest.mark.embedded_only("no API server takes part")
def test_a_misspelt_setting_is_one_line_and_starts_nothing(live: LiveNode, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('node_nam = "typo"\n')
    live.environment["VKCRI_CONFIG"] = str(config)
    told = live.run("make", "run", check=False)
    assert f"vkcri: {config}: unknown setting 'node_nam'; known: " in told
    assert "Error 78" in told
    assert "Traceback" not in told
    assert Supervisor(live.instance).pid() is None
    for name in NAMES:
        checked = live.run(str(BIN / name), "--check", check=False).splitlines()
        assert len(checked) == 1
        assert "unknown setting 'node_nam'" in checked[0]


def test_under_supervisord_alone_a_misspelt_setting_waits_for_a_person_and_make_run_says_it(
    live: LiveNode, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('node_nam = "typo"\n')
    live.environment |= {"VKCRI_CONFIG": str(config), "VKCRI_PROVIDER": MEMORY}
    start_supervisord(live)
    wait_for("all wait for a person", lambda: set(live.states().values()) == {"EXITED"}, 60)
    assert all(program.exit_status == 78 for program in Supervisor(live.instance).programs())
    assert Supervisor(live.instance).restarts() == dict.fromkeys(PROGRAMS, 0)
    for name in PROGRAMS:
        assert len(said(live, name)) == 1
        assert said(live, name)[0].startswith(f"{name}: {config}: unknown setting 'node_nam'")

    config.write_text("")  # the person mends it
    assert "is Ready" in live.up()


@pytest.mark.embedded_only("the API server that takes part is one that does not answer")
def test_a_cluster_that_does_not_answer_is_named_and_tried_again(live: LiveNode, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "away.conf"
    kubeconfig.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: t}}]\n"
    )
    live.environment["KUBECONFIG"] = str(kubeconfig)
    live.environment["VKCRI_PROVIDER"] = MEMORY
    told = live.run(str(BIN / "vkcri"), "up", "--timeout", "25", check=False).splitlines()
    assert "is not Ready after 25 s" in told[-1]
    assert "https://127.0.0.1:1" in told[-1]
    assert "trying again" in told[-1]
    log = (live.instance.log_dir / "api-watcher.log").read_text()
    assert "Traceback" not in log
    assert live.pid("api-watcher") > 0


@pytest.mark.embedded_only("no API server takes part")
@pytest.mark.parametrize(("text", "words"), [(None, "no such file"), ("no: [yaml", "is no usable kubeconfig")])
def test_a_kubeconfig_that_cannot_be_read_ends_make_run_at_once(
    live: LiveNode, tmp_path: Path, text: str | None, words: str
) -> None:
    kubeconfig = tmp_path / "broken.conf"
    if text is not None:
        kubeconfig.write_text(text)
    live.environment["KUBECONFIG"] = str(kubeconfig)
    live.environment["VKCRI_PROVIDER"] = MEMORY
    began = time.monotonic()
    told = live.run("make", "run", check=False)
    assert time.monotonic() - began < 90  # nothing was waited for
    assert re.search(rf"{kubeconfig}.*{words}", told)
    assert re.search(r"make: .* Error \d+", told)
    assert "Traceback" not in told
