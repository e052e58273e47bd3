"""A whole node on an instance of its own, driven as a person drives it: make, kubectl, supervisorctl, curl.

Used by the flow tests only. Nothing here looks inside the programs; what is asked of the guest (mounts, cgroups,
processes, nft tables) is asked of the guest itself. What a test asks again and again while it waits (a pod, the Node,
programs and their pids) it asks the API server and supervisord themselves: a kubectl or a supervisorctl a question
would keep a core busy.
"""

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.flow.planes import Place, Plane, embedded_place
from tests.instances import FLOW_NUMBERS, claimed
from tests.waiting import wait_for
from vkcri.cli.supervision import Supervisor
from vkcri.errors import NotFound, Unavailable, VkcriError
from vkcri.instance import Instance
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig

PROJECT = Path(__file__).resolve().parents[2]
BIN = PROJECT / ".venv" / "bin"
SHELL_IMAGE = "localhost/vkcri/shell:1"
_T = TypeVar("_T")


class LiveNode:
    """One instance: `up` and `down` are make's, everything else is what a person would type. Its Node has the
    instance's name. `place`: where it belongs; its own embedded API server where none is given."""

    def __init__(self, name: str, place: Place | None = None, **environment: str) -> None:
        self.name = name
        self.instance = Instance(name)
        self.place = place or embedded_place(self.instance)
        # make test runs make run: without these it would count as a part of that make and say so.
        dropped = ("KUBECONFIG", "BOOTSTRAP_KUBECONFIG", "PYTHONWARNINGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        inherited = {key: value for key, value in os.environ.items() if key not in dropped}
        own = {"VKCRI_INSTANCE": name, "VKUBELET_NODE_NAME": name}
        self.environment = {**inherited, **own, **self.place.environment, **environment}

    @property
    def namespace(self) -> str:
        """Where this node's pods are, and kubectl's default."""
        return self.place.namespace

    @property
    def idle(self) -> frozenset[str]:
        """The programs that say that they are not needed here, and end."""
        not_needed = {"apiserver": not self.place.embedded, "containerd": "VKCRI_PROVIDER" in self.environment}
        return frozenset(name for name, idle in not_needed.items() if idle)

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs that run here."""
        return tuple(name for name in self.instance.programs if name not in self.idle)

    def run(
        self,
        *command: str,
        check: bool = True,
        timeout: float = 120.0,
        text: str | None = None,
        stderr: int = subprocess.STDOUT,
    ) -> str:
        """A command's output, both streams, or its standard output alone with PIPE for `stderr`; AssertionError with
        all of it when it fails and `check` is set."""
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=self.environment,
            input=text,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr or ''}\n{self.logs()}"
        )
        return done.stdout

    def up(self) -> str:
        return self.run("make", "run", timeout=400)

    def down(self, *, check: bool = True) -> str:
        return self.run("make", "stop", check=check, timeout=300)

    def reset(self) -> None:
        """What a test leaves behind: nothing. Where nothing is there, nothing is done."""
        instance = self.instance
        folders = (instance.state_dir, instance.log_dir, instance.run_dir, instance.manifests_dir.parent)
        if not self.leftovers() and not any(folder.exists() for folder in folders):
            return
        self.down(check=False)
        self.run(str(BIN / "vkcri"), "reset", check=False)
        left = self.leftovers()
        assert left == [], left
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def kubectl(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float = 90.0,
        text: str | None = None,
        stderr: int = subprocess.STDOUT,
    ) -> str:
        command = ("kubectl", f"--kubeconfig={self.place.kubeconfig}", *arguments)
        return self.run(*command, check=check, timeout=timeout, text=text, stderr=stderr)

    def exec(self, pod: str, *command: str) -> str:
        """What a command in a pod prints on its standard output, without what it or kubectl says on the other."""
        return self.kubectl("exec", pod, "--", *command, stderr=subprocess.PIPE)

    def apply(self, *manifests: dict[str, Any]) -> str:
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self.kubectl("apply", "-f", "-", text=json.dumps(items))

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object (or list) as kubectl gives it in JSON; {} where it does not exist."""
        text = self.kubectl("get", *arguments, "-o", "json", "--ignore-not-found")
        return dict(json.loads(text)) if text.strip() else {}

    @functools.cached_property
    def client(self) -> Client:
        """The API server, as an administrator."""
        return Client(Kubeconfig(self.place.kubeconfig, "vkcri-test"))

    def pod(self, name: str) -> dict[str, Any]:
        """{} where there is none."""
        return self._object(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    def node(self) -> dict[str, Any]:
        """Its Node; {} where there is none."""
        return self._object(f"/api/v1/nodes/{self.name}")

    def _object(self, path: str) -> dict[str, Any]:
        try:
            return self.client.get(path, timeout=90.0)
        except NotFound:
            return {}
        except VkcriError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error

    def is_node_ready(self) -> bool:
        """Whether `kubectl get node` would say Ready; False, too, where the API server is away."""
        try:
            node = self.client.get(f"/api/v1/nodes/{self.name}")
        except VkcriError:
            return False
        return is_ready(node) and not node.get("spec", {}).get("unschedulable")

    def wait_pod(
        self, name: str, condition: Callable[[dict[str, Any]], object], seconds: float = 90.0
    ) -> dict[str, Any]:
        """The Pod once `condition` holds for it."""

        def probe() -> dict[str, Any] | None:
            pod = self.pod(name)
            return pod if pod and condition(pod) else None

        try:
            return wait_for(f"pod {name}", probe, seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.kubectl('describe', 'pod', name, check=False)}\n{self.logs()}"
            ) from error

    def wait_ready(self, name: str, seconds: float = 90.0) -> dict[str, Any]:
        return self.wait_pod(name, is_ready, seconds)

    def states(self) -> dict[str, str]:
        """What supervisord says of each program; {} where it does not answer."""
        try:
            return {program.name: program.state for program in Supervisor(self.instance).programs()}
        except Unavailable:
            return {}

    def supervisorctl(self, *arguments: str, check: bool = True) -> str:
        conf = PROJECT / "supervisor.conf" if self.instance.is_default else self.instance.state_dir / "supervisor.conf"
        return self.run(str(BIN / "supervisorctl"), "-c", str(conf), *arguments, check=check)

    def pid(self, program: str) -> int:
        """0 while it does not run."""
        return next(found.pid for found in Supervisor(self.instance).programs() if found.name == program)

    def supervisord_pid(self) -> int:
        pid = Supervisor(self.instance).pid()
        assert pid is not None, "supervisord does not answer"
        return pid

    def wait_running(self, program: str, but: int = 0) -> int:
        """The pid of a program that runs and has another pid than `but`."""

        def probe() -> int | None:
            try:
                pid = self.pid(program)
            except Unavailable:
                return None
            return pid if pid not in (0, but) else None

        return wait_for(f"{program} runs again", probe)

    def ctr(self, *arguments: str) -> str:
        socket = self.instance.runtime_endpoint.removeprefix("unix://")
        return self.run("ctr", "-a", socket, "-n", "k8s.io", *arguments)

    def containers(self, pod: str, name: str = "main") -> set[str]:
        """The ids of all containers that the runtime has under these names, whatever became of them."""
        labels = {"io.kubernetes.pod.name": pod, "io.kubernetes.container.name": name}
        wanted = ",".join(f'labels."{key}"=={value}' for key, value in labels.items())
        return set(self.ctr("containers", "list", "-q", wanted).split())

    def kubectl_process(self, *arguments: str) -> "subprocess.Popen[str]":
        """kubectl as a process of its own that writes its standard output into a pipe."""
        command = ["kubectl", f"--kubeconfig={self.place.kubeconfig}", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)

    def logs(self, lines: int = 15) -> str:
        """The ends of the programs' logs, for a failure's message."""
        parts = []
        for path in sorted(self.instance.log_dir.glob("*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.name}\n" + "\n".join(tail))
        return "\n".join(parts)

    def leftovers(self) -> list[str]:
        """What this instance still holds on the guest: processes, mounts, cgroups, nft tables, links."""
        found = [f"process {line}" for line in _processes(self.instance)]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        folders = (f"{self.instance.state_dir}/", f"{self.instance.run_dir}/")
        found += [f"mount {line.split()[4]}" for line in mounts if line.split()[4].startswith(folders)]
        cgroups = Path("/sys/fs/cgroup")
        found += [f"cgroup {path}" for path in cgroups.glob(f"*{self.instance.cgroup_root}")]
        found += [f"cgroup {path}" for path in cgroups.glob(self.instance.cgroup_root.lstrip("/"))]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        found += [f"nft {line}" for line in tables.splitlines() if line.split()[-1] == self.instance.nft_table]
        found += (
            [f"link {self.instance.bridge_name}"]
            if Path(f"/sys/class/net/{self.instance.bridge_name}").exists()
            else []
        )
        return found


@contextmanager
def live_node(plane: Plane, name: str, **environment: str) -> Iterator[LiveNode]:
    """A node that is not up yet, on an instance NAME-N of its own; nothing of it is left at the end."""
    with claimed(name, FLOW_NUMBERS) as instance, plane.place(instance) as place:
        live = LiveNode(instance.name, place, **environment)
        live.reset()
        try:
            yield live
        finally:
            live.reset()


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def phase(pod: dict[str, Any]) -> str:
    return str(pod.get("status", {}).get("phase", ""))


def identity(pod: dict[str, Any], name: str | None = None) -> str:
    """A container's id as the runtime has it; empty where there is none yet."""
    return str(container(pod, name).get("containerID", "")).removeprefix("containerd://")


def container(pod: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    """The status of one container; of the first when no name is given; {} where there is none yet."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return next((item for item in statuses if name in (None, item["name"])), {})


def shell_pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    """A Pod of one container `main` that runs a shell script on the image made on the spot; most heed no TERM."""
    main = {"name": "main", "image": SHELL_IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]}
    main.update(spec.pop("container", {}))
    body = {"terminationGracePeriodSeconds": 1, **spec, "containers": [main, *spec.get("containers", [])]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": body}


def _processes(instance: Instance) -> Iterator[str]:
    """Command lines of processes that name this instance's folders or carry its environment."""
    marks = (f"/{instance.folder}/".encode(), f"/{instance.folder}.supervisor".encode())
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended while we looked
        ours = any(mark in command for mark in marks) or (
            b"vkcri-" in command and f"VKCRI_INSTANCE={instance.name}".encode() in environment
        )
        if ours and command:
            yield f"{folder.name} {command.replace(chr(0).encode(), b' ').decode(errors='replace')}"
