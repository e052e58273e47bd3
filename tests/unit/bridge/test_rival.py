"""A kubelet on our CRI socket is found by its flag, its configuration or its default."""

import dataclasses
import subprocess
from pathlib import Path

import pytest

from bridge.rival import DEFAULT_ENDPOINT, kubelet_endpoint, refuse_rival
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError
from vkcri.instance import Instance

FLAG = "--container-runtime-endpoint"


@pytest.mark.parametrize(
    ("line", "endpoint"),
    [
        ("/usr/bin/kubelet", DEFAULT_ENDPOINT),
        (f"kubelet {FLAG}=unix:///a.sock --v=2", "unix:///a.sock"),
        (f"kubelet {FLAG} /a.sock", "/a.sock"),
        (f"kubelet {FLAG}=/a.sock {FLAG}=/b.sock", "/b.sock"),
        ("kubelet --config=/none.yaml", DEFAULT_ENDPOINT),
        (f"/usr/local/bin/k3s agent {FLAG} /c.sock", "/c.sock"),
        ("/usr/local/bin/k3s agent", None),
        ("vim kubelet", None),
        ("crictl --runtime-endpoint /a.sock ps", None),
    ],
)
def test_the_endpoint_of_a_command_line(line: str, endpoint: str | None, tmp_path: Path) -> None:
    assert kubelet_endpoint(line.split(), tmp_path) == endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ('kind: KubeletConfiguration\ncontainerRuntimeEndpoint: "unix:///a.sock"\n', "unix:///a.sock"),
        ("containerRuntimeEndpoint: /b.sock # here\n", "/b.sock"),
        ("kind: KubeletConfiguration\n", DEFAULT_ENDPOINT),
    ],
)
def test_the_endpoint_of_a_configuration_file(text: str, endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "config.yaml").write_text(text)
    assert kubelet_endpoint(["/usr/bin/kubelet", "--config", "/var/config.yaml"], tmp_path) == endpoint


def test_a_kubelet_on_our_socket_is_refused_and_one_on_another_is_not(tmp_path: Path) -> None:
    program = tmp_path / "kubelet"
    socket, link = tmp_path / "run" / "cri.sock", tmp_path / "link"
    socket.parent.mkdir()
    link.symlink_to(socket.parent)
    settings = RuntimeSettings(
        instance=Instance("rt-11"), pod_ip="127.0.0.1", runtime_endpoint=f"unix://{link}/cri.sock"
    )
    script = f"exec -a {program} bash -c 'read forever' {FLAG}={socket}"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE) as process:
        try:
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(str(program).encode()):
                assert process.poll() is None
            with pytest.raises(ConfigError, match=rf"a kubelet \(pid {process.pid}\).*systemctl disable"):
                refuse_rival(settings)
            refuse_rival(dataclasses.replace(settings, runtime_endpoint=f"unix://{tmp_path}/other.sock"))
        finally:
            process.kill()
