"""Every name on the guest derives from the instance, and a wrong setting says what to do."""

from pathlib import Path

import pytest

from vkcri import config
from vkcri.config import (
    ALL_SETTINGS,
    ApiServerSettings,
    ClusterSettings,
    Instance,
    KubeletSettings,
    RuntimeSettings,
    WatcherSettings,
    load,
)
from vkcri.errors import ConfigError

README = Path(__file__).resolve().parents[3] / "README.md"


def test_the_default_instance_has_the_documented_paths() -> None:
    instance = Instance()
    assert str(instance.log_dir) == "/var/log/vk-cri"
    assert str(instance.volumes_link) == "/run/vk-cri/volumes"
    assert instance.runtime_endpoint == "unix:///run/containerd/containerd.sock"
    assert instance.kubelet_port == 10250


def test_two_instances_share_no_name() -> None:
    names = [name for name in dir(Instance) if isinstance(getattr(Instance, name), property)]
    shared = [name for name in names if getattr(Instance("a-1"), name) == getattr(Instance("a-2"), name)]
    assert shared == ["is_default", "programs"]


@pytest.mark.parametrize("name", ["A-1", "x", "x-0", "x-100", "toolongname-1", "x-1/../y", "../x-1"])
def test_an_instance_with_another_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="NAME-N"):
        Instance(name)


def test_the_longest_socket_path_fits_a_unix_socket() -> None:
    assert len(str(Instance("abcdefgh-99").queue_socket("provider"))) < 100
    assert len(Instance("abcdefgh-99").bridge_name) <= 15


def test_the_documented_environment_wins_over_toml_and_toml_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('node_name = "from-toml"\ntaint_value = "x"\n')
    environ = {"VKCRI_CONFIG": str(file), "DEFAULTNODE_NAME": "from-ancestor"}
    assert load(WatcherSettings, environ).node_name == "from-ancestor"
    assert load(WatcherSettings, {"VKCRI_CONFIG": str(file)}).node_name == "from-toml"
    assert load(WatcherSettings, {"VKCRI_CONFIG": str(file)}).taint_value == "x"
    assert load(WatcherSettings, {**environ, "VKUBELET_NODE_NAME": "Newest"}).node_name == "newest"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('nodename = "x"', "unknown setting 'nodename'"),
        ("kubelet_port = '1'", "kubelet_port wants int"),
        ("kubelet_port = true", "kubelet_port wants int"),
        ("= 1", "config.toml"),
        ("kubelet_port = 70000", "port from 1 to 65535"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load(KubeletSettings, {"VKCRI_CONFIG": str(file)})


@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        (WatcherSettings, "VKUBELET_POD_IP", "not-an-ip"),
        (WatcherSettings, "VKUBELET_TAINT_EFFECT", "Never"),
        (WatcherSettings, "VKUBELET_DISABLE_TAINT", "perhaps"),
        (WatcherSettings, "KUBELET_PORT", "http"),
        (WatcherSettings, "VKUBELET_NODE_NAME", "under_score"),
        (RuntimeSettings, "CONTAINER_RUNTIME_ENDPOINT", "tcp://127.0.0.1:1"),
        (KubeletSettings, "APISERVER_CERT_LOCATION", "/only/one"),
        (WatcherSettings, "VKCRI_LOG_LEVEL", "LOUD"),
        (WatcherSettings, "VKCRI_CONFIG", "/does/not/exist"),
    ],
)
def test_a_wrong_variable_is_named(kind: type[config.Settings], variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=variable if variable != "VKCRI_LOG_LEVEL" else "log_level"):
        load(kind, {variable: value})


def test_embedded_means_no_kubeconfig_or_the_embedded_servers_own(tmp_path: Path) -> None:
    instance = Instance()
    assert load(ClusterSettings, {}).embedded
    assert load(ClusterSettings, {"KUBECONFIG": str(instance.admin_kubeconfig)}).embedded
    assert load(ClusterSettings, {}).api_kubeconfig == instance.node_kubeconfig
    joined = load(ClusterSettings, {"KUBECONFIG": str(tmp_path / "admin.conf")})
    assert not joined.embedded
    assert joined.api_kubeconfig == tmp_path / "admin.conf"


def test_ports_of_the_kubelet_api_agree_between_the_processes() -> None:
    environ = {"KUBELET_PORT": "12345"}
    assert load(WatcherSettings, environ).kubelet_port == 12345
    assert load(KubeletSettings, environ).kubelet_port == 12345
    assert load(ApiServerSettings, environ).kubelet_port == 12345


def test_every_setting_is_documented_in_readme() -> None:
    text = README.read_text()
    missing = [name for name in config.documented() if f"`{name}`" not in text]
    assert missing == []
    variables = {
        name
        for kind in ALL_SETTINGS
        for item in kind.__dataclass_fields__.values()
        for name in item.metadata.get("env", ())
    }
    assert [name for name in sorted(variables) if f"`{name}`" not in text] == []
