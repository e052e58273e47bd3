"""The configuration as a process in a real container meets it: what CRI was told is what is there."""

import dataclasses
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cgroupfs import mounted_hierarchies
from bridge.cgroups import Cgroups
from bridge.images import Images
from bridge.images_local import SHELL_IMAGE
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.spec import PodContext, ResolvConf, container_config, sandbox_config
from bridge.volumes import Volumes
from tests.unit.bridge.spec.make import config_map, secret, service
from tests.unit.bridge.test_images import Recorder
from vkcri.config import RuntimeSettings

pytestmark = pytest.mark.container


class Guest:
    """One pod on the private containerd: `run` makes it, `sh` asks its first container."""

    def __init__(self, settings: RuntimeSettings, runtime: Runtime) -> None:
        self.settings = settings
        self.runtime = runtime
        self.uid = str(uuid.uuid4())
        self.objects: dict[str, bytes] = {
            "configmaps/shop/cm": config_map(key="value", other="2"),
            "secrets/shop/s": secret(password=b"p\xc3\xa4ss"),
        }
        self.cgroups = Cgroups(settings)
        self.volumes = Volumes(settings, lambda key: self.objects.get(key, b"absent"), self._token)
        self.sandbox = ""
        self.containers: dict[str, str] = {}

    def _token(self, body: dict[str, Any]) -> dict[str, str]:
        return {"token": f"token-of-{body['serviceAccount']}", "expirationTimestamp": "2999-01-01T00:00:00Z"}

    def run(self, *containers: dict[str, Any], **spec: Any) -> None:
        metadata = {"name": "web", "namespace": "shop", "uid": self.uid, "labels": {"app": "web"}}
        made = [{"image": SHELL_IMAGE, "command": ["sleep", "1000"], **item} for item in containers]
        self.pod: dict[str, Any] = {"metadata": metadata, "spec": {"containers": made, **spec}}
        memory = {"capacity": {"memory": "8Gi"}}
        ctx = PodContext(
            instance=self.settings.instance,
            node={"status": memory},
            host_ip="192.0.2.1",
            objects=lambda key: self.objects.get(key, b"absent"),
            volumes=self.volumes.prepare(self.pod),
            cluster_dns=("192.0.2.53",),
            resolv_conf=ResolvConf(("192.0.2.54",), ("corp.example",)),
            services=[service("my-db", port=5432)],
            cgroup_parent=self.cgroups.ensure_pod(self.pod),
            cgroups=self.cgroups.facts,
        )
        config = sandbox_config(self.pod, ctx, 0)
        Path(config.log_directory).mkdir(parents=True, exist_ok=True)
        self.sandbox = self.runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
        status = self.runtime.pod_sandbox_status(cri.PodSandboxStatusRequest(pod_sandbox_id=self.sandbox)).status
        self.ip = status.network.ip
        ctx = dataclasses.replace(ctx, pod_ips=(self.ip,) if self.ip else ())
        for item in made:
            self._start(item, ctx, config)

    def _start(self, item: dict[str, Any], ctx: PodContext, sandbox: cri.PodSandboxConfig) -> None:
        image = Images(self.runtime, Recorder()).ensure(self.pod, {**item, "imagePullPolicy": "Never"})
        ctx = dataclasses.replace(ctx, image=image)
        ctx = dataclasses.replace(ctx, files=self.volumes.container_files(self.pod, item, ctx, 0))
        request = cri.CreateContainerRequest(
            pod_sandbox_id=self.sandbox, config=container_config(self.pod, item, ctx, 0), sandbox_config=sandbox
        )
        container = self.runtime.create_container(request).container_id
        self.runtime.start_container(cri.StartContainerRequest(container_id=container))
        self.containers[item["name"]] = container

    def sh(self, script: str, container: str = "app") -> str:
        """Standard output of the script in the container, without the last newline; its failure fails the test."""
        request = cri.ExecSyncRequest(container_id=self.containers[container], cmd=["sh", "-c", script], timeout=20)
        answer = self.runtime.exec_sync(request)
        assert answer.exit_code == 0, f"{script}: {answer.stdout!r} {answer.stderr!r}"
        return answer.stdout.decode("utf-8", "replace").removesuffix("\n")

    def refused(self, script: str) -> bool:
        request = cri.ExecSyncRequest(container_id=self.containers["app"], cmd=["sh", "-c", script], timeout=20)
        return self.runtime.exec_sync(request).exit_code != 0

    def close(self) -> None:
        if self.sandbox:
            self.runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=self.sandbox))
            self.runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=self.sandbox))
        self.volumes.teardown(self.uid)
        self.cgroups.remove_pod(self.uid)


@pytest.fixture
def guest(containerd_settings: RuntimeSettings, containerd_runtime: Runtime) -> Iterator[Guest]:
    made = Guest(containerd_settings, containerd_runtime)
    yield made
    made.close()


def test_environment_identity_and_dns(guest: Guest) -> None:
    entries = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "URL", "value": "http://$(MY_DB_SERVICE_HOST):$(MY_DB_SERVICE_PORT)"},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
    ]
    guest.run(
        {"name": "app", "env": entries, "envFrom": [{"prefix": "CM_", "configMapRef": {"name": "cm"}}]},
        hostname="host",
        subdomain="sub",
        hostAliases=[{"ip": "192.0.2.7", "hostnames": ["alias"]}],
    )
    assert guest.sh("echo $IP") == guest.ip
    assert guest.sh("echo $URL $CM_key") == "http://10.0.0.1:5432 value"
    assert guest.sh('printf %s "$SECRET" | od -An -tx1') == " 70 c3 a4 73 73"
    assert guest.sh("hostname") == "host"
    assert guest.sh("cat /etc/resolv.conf").splitlines() == [
        "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example",
        "nameserver 192.0.2.53",
        "options ndots:5",
    ]
    assert f"{guest.ip}\thost.sub.shop.svc.cluster.local\thost" in guest.sh("cat /etc/hosts")
    assert guest.sh("grep alias /etc/hosts") == "192.0.2.7\talias"


def test_volumes_are_there_with_their_modes_and_follow_their_source(guest: Guest) -> None:
    volumes = [
        {"name": "cm", "configMap": {"name": "cm"}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "all", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/v/{volume['name']}"} for volume in volumes]
    mounts += [
        {"name": "cm", "mountPath": "/one", "subPath": "key"},
        {"name": "scratch", "mountPath": "/named", "subPathExpr": "$(NAME)/logs"},
    ]
    env = [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    guest.run({"name": "app", "volumeMounts": mounts, "env": env}, volumes=volumes, serviceAccountName="robot")
    assert guest.sh("cat /v/cm/key /one") == "valuevalue"
    assert guest.sh("stat -L -c %a /v/s/password /v/scratch /v/memory | xargs") == "400 777 1777"
    assert guest.sh("cat /v/all/token") == "token-of-robot"
    assert guest.refused("touch /v/cm/x")
    assert guest.refused("touch /v/s/x")
    assert guest.refused("dd if=/dev/zero of=/v/memory/big bs=1M count=2")
    assert guest.sh("touch /named/here && ls /v/scratch/web/logs") == "here"
    guest.objects["configmaps/shop/cm"] = config_map(key="new", third="3")
    guest.volumes.refresh(guest.pod)
    assert guest.sh("ls /v/cm | xargs; cat /v/cm/key") == "key third\nnew"
    assert guest.sh("cat /one") == "value"


def test_the_security_context_holds(guest: Guest) -> None:
    security = {
        "runAsUser": 1234,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    guest.run(
        {"name": "app", "securityContext": security, "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        volumes=[{"name": "v", "emptyDir": {}}],
        securityContext={"runAsGroup": 42, "fsGroup": 77, "supplementalGroups": [88], "runAsNonRoot": True},
    )
    assert guest.sh("id -u; id -g; id -G") == "1234\n42\n42 77 88"
    status = dict(line.split(":\t", 1) for line in guest.sh("cat /proc/self/status").splitlines() if ":\t" in line)
    assert (status["NoNewPrivs"], status["Seccomp"], status["CapBnd"]) == ("1", "2", "0" * 16)
    assert guest.refused("touch /file")
    assert guest.sh("touch /v/f && stat -c %g /v/f") == "77"
    assert guest.refused("cat /proc/kcore")
    assert guest.refused("echo 1 > /proc/sys/kernel/domainname")


def test_namespaces_are_shared_or_the_nodes_as_asked(guest: Guest) -> None:
    guest.run({"name": "app"}, {"name": "other", "command": ["sleep", "4321"]}, shareProcessNamespace=True)
    assert "sleep 4321" in guest.sh("cat /proc/*/cmdline | tr '\\0' ' '")


def test_a_container_sees_only_its_own_processes_by_default(guest: Guest) -> None:
    guest.run({"name": "app"}, {"name": "other", "command": ["sleep", "4321"]})
    assert "sleep 4321" not in guest.sh("cat /proc/*/cmdline | tr '\\0' ' '")
    assert guest.sh("cat /proc/1/comm") == "sleep"


def test_host_namespaces(guest: Guest) -> None:
    guest.run({"name": "app"}, hostNetwork=True, hostPID=True, hostIPC=True, dnsPolicy="Default")
    for name in ("net", "pid", "ipc"):
        assert guest.sh(f"readlink /proc/self/ns/{name}") == str(Path(f"/proc/self/ns/{name}").readlink())
    assert guest.sh("head -1 /etc/hosts") == "# Kubernetes-managed hosts file (host network)."
    assert guest.ip == ""


def test_limits_hold_in_the_containers_and_the_pods_cgroup(guest: Guest) -> None:
    resources = {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    guest.run({"name": "app", "resources": resources})
    (process,) = _processes(guest)
    paths = {
        name: line.split(":", 2)[2]
        for line in Path(f"/proc/{process}/cgroup").read_text().splitlines()
        for name in line.split(":")[1].split(",")
    }
    parent = guest.cgroups.ensure_pod(guest.pod)
    found = mounted_hierarchies()
    if found.unified:
        folder = found.unified / paths[""].strip("/")
        assert f"/{folder.parent.relative_to(found.unified)}" == parent
        values = [(folder / name).read_text().strip() for name in ("cpu.max", "memory.max")]
        assert values == ["50000 100000", str(64 << 20)]
    else:
        assert str(Path(paths["memory"]).parent) == parent
        files = {"cpu": "cpu.cfs_quota_us", "memory": "memory.limit_in_bytes"}
        values = [(found.v1[name] / paths[name].strip("/") / file).read_text().strip() for name, file in files.items()]
        assert values == ["50000", str(64 << 20)]


def _processes(guest: Guest) -> list[int]:
    """The host's process id of the container's first process."""
    request = cri.ContainerStatusRequest(container_id=guest.containers["app"], verbose=True)
    return [json.loads(guest.runtime.container_status(request).info["info"])["pid"]]


def test_a_termination_message_is_read_from_the_attempts_own_file(guest: Guest) -> None:
    guest.run({"name": "app", "terminationMessagePath": "/dev/custom"})
    guest.sh("printf farewell > /dev/custom")
    assert guest.volumes.termination_file(guest.uid, "app", 0).read_text() == "farewell"


def test_command_and_working_folder_replace_the_images(guest: Guest) -> None:
    guest.run({"name": "app", "command": ["sh", "-c"], "args": ["cd .; sleep 1000"], "workingDir": "/tmp"})
    assert guest.sh("readlink /proc/1/cwd") == "/tmp"


def test_host_ports_and_sysctls(guest: Guest) -> None:
    guest.run(
        {"name": "app"},
        securityContext={"sysctls": [{"name": "net/ipv4/ip_unprivileged_port_start", "value": "80"}]},
    )
    assert guest.sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start") == "80"
