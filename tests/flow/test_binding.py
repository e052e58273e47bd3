"""A node whose binding to system:node-proxier is gone: Services stay as they were, pods run on and come and go."""

import pytest

from tests.flow.live import BIN, LiveNode, container, identity, shell_pod
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.cluster, pytest.mark.timeout(300)]


def test_pods_run_on_and_start_and_end_without_the_proxiers_binding(node: LiveNode) -> None:
    binding = f"vkcri-proxy-{node.name}"
    cure = f"kubectl create clusterrolebinding {binding} --clusterrole=system:node-proxier"
    node.apply(shell_pod("before", "exec sleep 36000"))
    before = node.wait_ready("before")
    asked = ("auth", "can-i", "list", "endpointslices.discovery.k8s.io", "-A", f"--as=system:node:{node.name}")
    node.kubectl("delete", "clusterrolebinding", binding)
    try:
        wait_for("the API server's own notice", lambda: node.kubectl(*asked, check=False).startswith("no"))
        old = node.pid("api-watcher")
        node.supervisorctl("restart", "api-watcher")  # a watch that is open already would go on
        node.wait_running("api-watcher", but=old)
        wait_for("the line to type", lambda: cure in node.run(str(BIN / "vkcri"), "status", check=False))
        node.apply(shell_pod("without", "echo here; exec sleep 36000"))
        node.wait_ready("without")
        wait_for("its log", lambda: node.kubectl("logs", "without") == "here\n")
        node.kubectl("delete", "pod", "without", "--wait=true")
        assert cure in node.run(str(BIN / "vkcri"), "status", check=False), "it was not without the binding"
    finally:
        node.kubectl(*f"{cure} --user=system:node:{node.name}".split()[1:])
    wait_for("nothing to type", lambda: cure not in node.run(str(BIN / "vkcri"), "status", check=False))
    after = node.wait_ready("before")
    assert (identity(after), container(after)["restartCount"]) == (identity(before), 0)
    node.kubectl("delete", "pod", "before", "--wait=true")
