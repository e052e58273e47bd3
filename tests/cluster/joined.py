"""A node's programs on an instance of its own, joined to a real control plane: real processes, without supervisord and
without a runtime. What a test of joining asks of them: notices, log lines, requests for certificates, the Node."""

import base64
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.control import Cluster
from tests.waiting import wait_for
from vkcri import signing
from vkcri.cli.bringup import notice_lines
from vkcri.errors import VkcriError
from vkcri.instance import Instance
from vkcri.queue.tail import snapshot
from vkcri.watcher.certificates import COLLECTION

BIN = Path(sys.executable).parent
ROLES = {"api-watcher": "watcher", "log-server": "kubelet", "kube-proxy": "proxy"}


class Guest:
    """A node's programs on an instance of its own, named as the instance; nothing is left of it."""

    def __init__(self, cluster: Cluster, name: str, **environ: str) -> None:
        self.cluster = cluster
        self.client = cluster.client()
        self.name = name
        self.instance = Instance(name)
        self.environ = environ
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *programs: str) -> None:
        """As supervisord does it: under the calling thread, output into the log folder."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("VK", "KUBE", "BOOT"))}
        own = {"VKCRI_INSTANCE": self.name, "VKUBELET_NODE_NAME": self.name}
        self.instance.log_dir.mkdir(parents=True, exist_ok=True)
        for program in programs or ROLES:
            with self.log(program).open("ab") as output:
                self._running[program] = subprocess.Popen(
                    [BIN / f"vkcri-{program}"], env={**inherited, **own, **self.environ}, stdout=output, stderr=output
                )

    def end(self, number: int = signal.SIGTERM) -> None:
        for child in self._running.values():
            child.send_signal(number)
        for child in self._running.values():
            child.wait(30)
        self._running.clear()

    def log(self, program: str) -> Path:
        return self.instance.log_dir / f"{program}.log"

    def said(self, program: str, text: str) -> int:
        return self.log(program).read_text(errors="replace").count(text)

    def says_once(self, program: str, text: str) -> None:
        """It is in its log, or soon will be, and is there no second time."""
        wait_for(f"{program} says: {text}", lambda: self.said(program, text))
        assert self.said(program, text) == 1

    def notices(self, program: str) -> dict[str, dict[str, str]]:
        """Those that hold now; {} while the program is away."""
        try:
            return snapshot(self.instance.queue_socket(ROLES[program]), "notices", 0.5)
        except VkcriError:
            return {}

    def printed(self) -> list[str]:
        """What `make run` and `vkcri status` print of the notices."""
        return notice_lines(self.instance)

    def told(self, program: str, key: str, word: str = "") -> str:
        """The command of a notice, once it is there."""

        def probe() -> str:
            held = self.notices(program).get(key, {})
            return (held.get("command") or held.get("message") or "") if word in str(held) else ""

        return wait_for(f"{program}'s notice {key}\n{self.tails()}", probe)

    def node(self) -> dict[str, Any]:
        """The registered Node."""

        def probe() -> dict[str, Any]:
            try:
                return self.client.get(f"/api/v1/nodes/{self.name}")
            except VkcriError:
                return {}

        return wait_for(f"Node {self.name}\n{self.tails()}", probe)

    def requests(self, signer: str = "") -> list[dict[str, Any]]:
        """The CertificateSigningRequests for this node, oldest first."""
        found = self.client.get(COLLECTION)["items"]
        asked = [(item, signing.requested(_request(item)).common_name) for item in found]
        mine = [item for item, name in asked if name == f"system:node:{self.name}"]
        mine = [item for item in mine if signer in item["spec"]["signerName"]]
        return sorted(mine, key=lambda item: str(item["metadata"]["creationTimestamp"]))

    def kubectl(self, line: str) -> str:
        """Type what we were told to, as an administrator."""
        command = [*line.split(), f"--kubeconfig={self.cluster.admin_kubeconfig}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    def unreachable(self) -> str:
        """Why the API server, which verifies the serving certificate, gets no answer here; "" when it gets one."""
        try:
            self.client.request("GET", f"/api/v1/nodes/{self.name}/proxy/configz", timeout=15.0)
        except VkcriError as error:
            return str(error)
        return ""

    def wait_reachable(self) -> None:
        seen = [""]

        def probe() -> bool:
            seen[0] = self.unreachable()
            return not seen[0]

        try:
            wait_for("the API server takes the serving certificate", probe)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen[0]}\n{self.tails()}") from error

    def tails(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in self.instance.log_dir.glob("*.log"))

    def close(self) -> None:
        self.end()
        own = {**os.environ, "VKCRI_INSTANCE": self.name}
        subprocess.run([BIN / "vkcri-kube-proxy", "--cleanup"], env=own, capture_output=True, timeout=60, check=False)
        for path in (f"/api/v1/nodes/{self.name}", COLLECTION):
            try:
                self.client.delete(path)
            except VkcriError:
                pass  # not there
        for folder in (self.instance.run_dir, self.instance.state_dir, self.instance.log_dir):
            shutil.rmtree(folder, ignore_errors=True)


def _request(item: dict[str, Any]) -> bytes:
    return base64.b64decode(item["spec"]["request"])
