"""Every name on the guest derives from the instance, and a wrong setting says what to do."""

from dataclasses import fields
from pathlib import Path

import pytest

from vkcri import config
from vkcri.config import (
    ALL_SETTINGS,
    ApiServerSettings,
    ClusterSettings,
    KubeletSettings,
    RuntimeSettings,
    WatcherSettings,
    load,
)
from vkcri.errors import ConfigError
from vkcri.instance import Instance

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


DOCUMENTED = [
    ("KUBECONFIG", ClusterSettings, "kubeconfig", "/etc/rke/admin.conf", "/etc/rke/admin.conf"),
    ("VKUBELET_NODE_NAME", ClusterSettings, "node_name", "edge-1", "edge-1"),
    ("DEFAULTNODE_NAME", ClusterSettings, "node_name", "edge-2", "edge-2"),
    ("VKUBELET_POD_IP", ClusterSettings, "pod_ip", "192.0.2.7", "192.0.2.7"),
    ("KUBELET_PORT", KubeletSettings, "kubelet_port", "10350", 10350),
    ("APISERVER_CERT_LOCATION", KubeletSettings, "cert_file", __file__, __file__),
    ("APISERVER_KEY_LOCATION", KubeletSettings, "key_file", __file__, __file__),
    ("VKUBELET_TAINT_KEY", WatcherSettings, "taint_key", "example.com/virtual", "example.com/virtual"),
    ("VKUBELET_TAINT_VALUE", WatcherSettings, "taint_value", "python", "python"),
    ("VKUBELET_TAINT_EFFECT", WatcherSettings, "taint_effect", "NoExecute", "NoExecute"),
    ("VKUBELET_DISABLE_TAINT", WatcherSettings, "disable_taint", "true", True),
    ("VKUBELET_STATIC_POD_PATH", WatcherSettings, "static_pod_path", "/srv/manifests", "/srv/manifests"),
    ("CONTAINER_RUNTIME_ENDPOINT", RuntimeSettings, "runtime_endpoint", "unix:///run/c.sock", "unix:///run/c.sock"),
    ("VKCRI_PROVIDER", RuntimeSettings, "provider", "examples/providers/memory.py", "examples/providers/memory.py"),
    ("VKCRI_RUNTIME_HANDLERS", RuntimeSettings, "runtime_handlers", "test-handler", "test-handler"),
    ("BOOTSTRAP_KUBECONFIG", ClusterSettings, "bootstrap_kubeconfig", "/some/bootstrap.conf", "/some/bootstrap.conf"),
    ("VKCRI_LOG_LEVEL", config.Settings, "log_level", "DEBUG", "DEBUG"),
]
PAIR = {"cert_file", "key_file"}


@pytest.mark.parametrize(("variable", "kind", "name", "text", "value"), DOCUMENTED)
def test_each_documented_variable_sets_its_field(
    variable: str, kind: type[config.Settings], name: str, text: str, value: object, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    partners = [item for item in DOCUMENTED if {item[2], name} == PAIR]  # which go together only
    environ = {"VKCRI_CONFIG": str(file), variable: text, **{item[0]: item[3] for item in partners}}
    for subclass in (other for other in (kind, *ALL_SETTINGS) if issubclass(other, kind)):
        assert getattr(load(subclass, environ), name) == value
    assert getattr(load(kind, {"VKCRI_CONFIG": str(file)}), name) != value


def test_the_table_of_documented_variables_is_whole() -> None:
    known = {name for variables, _ in config.documented().values() for name in filter(None, variables.split(" or "))}
    assert known == {item[0] for item in DOCUMENTED}
    settable = {(kind, field.name) for kind in ALL_SETTINGS for field in fields(kind) if field.metadata.get("env")}
    covered = {(kind, item[2]) for item in DOCUMENTED for kind in ALL_SETTINGS if issubclass(kind, item[1])}
    ports = {(WatcherSettings, "kubelet_port"), (ApiServerSettings, "kubelet_port")}  # in a test of their own
    assert settable == covered | ports


@pytest.mark.parametrize(
    ("variable", "kind", "line", "name", "value"),
    [
        ("KUBECONFIG", ClusterSettings, 'kubeconfig = "/some/admin.conf"', "embedded", True),
        ("VKUBELET_TAINT_VALUE", WatcherSettings, 'taint_value = "x"', "taint_value", ""),
        ("VKCRI_PROVIDER", RuntimeSettings, 'provider = "x"', "provider", ""),
        ("VKUBELET_NODE_NAME", ClusterSettings, 'node_name = "x"', "node_name", "x"),
        ("VKUBELET_POD_IP", ClusterSettings, 'pod_ip = "192.0.2.1"', "pod_ip", "192.0.2.1"),
        ("KUBELET_PORT", KubeletSettings, "kubelet_port = 1234", "kubelet_port", 1234),
        ("VKUBELET_DISABLE_TAINT", WatcherSettings, "disable_taint = true", "disable_taint", True),
    ],
)
def test_a_variable_set_to_nothing_is_a_value_only_where_empty_means_something(
    variable: str, kind: type[config.Settings], line: str, name: str, value: object, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"{line}\n")
    assert getattr(load(kind, {"VKCRI_CONFIG": str(file), variable: ""}), name) == value
    assert variable != "KUBECONFIG" or not load(ClusterSettings, {"VKCRI_CONFIG": str(file)}).embedded


def test_a_relative_path_starts_where_its_setting_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (there / "config.toml").write_text('kubeconfig = "admin.conf"\n')
    monkeypatch.chdir(here)
    environ = {"VKCRI_CONFIG": "../there/config.toml"}
    assert load(ClusterSettings, environ).kubeconfig == str(here / "../there/admin.conf")
    joined = load(ClusterSettings, {**environ, "KUBECONFIG": "a.conf:/b.conf"})
    assert joined.kubeconfig == f"{here}/a.conf:/b.conf"


def test_an_environment_for_another_folder_has_absolute_paths_and_keeps_what_is_empty(tmp_path: Path) -> None:
    environ = {
        "KUBECONFIG": "admin.conf",
        "VKCRI_CONFIG": "x/config.toml",
        "APISERVER_CERT_LOCATION": "tls.crt",
        "APISERVER_KEY_LOCATION": "/etc/tls.key",
        "VKUBELET_TAINT_VALUE": "",
        "VKCRI_PROVIDER": "examples/providers/memory.py",
    }
    made = config.absolute_paths(environ, tmp_path)
    assert made == {
        **environ,
        "KUBECONFIG": f"{tmp_path}/admin.conf",
        "VKCRI_CONFIG": f"{tmp_path}/x/config.toml",
        "APISERVER_CERT_LOCATION": f"{tmp_path}/tls.crt",
    }
    assert config.absolute_paths({"KUBECONFIG": ""}, tmp_path) == {"KUBECONFIG": ""}


def test_embedded_means_no_kubeconfig_or_the_embedded_servers_own(tmp_path: Path) -> None:
    instance = Instance()
    assert load(ClusterSettings, {}).embedded
    assert load(ClusterSettings, {"KUBECONFIG": str(instance.admin_kubeconfig)}).embedded
    assert load(ClusterSettings, {}).api_kubeconfig == instance.node_kubeconfig
    joined = load(ClusterSettings, {"KUBECONFIG": str(tmp_path / "admin.conf")})
    assert not joined.embedded
    assert joined.api_kubeconfig == tmp_path / "admin.conf"


def test_a_bootstrap_kubeconfig_joins_with_a_kubeconfig_of_the_instance(tmp_path: Path) -> None:
    instance = Instance()
    joined = load(ClusterSettings, {"BOOTSTRAP_KUBECONFIG": str(tmp_path / "bootstrap.conf")})
    assert joined.bootstraps
    assert not joined.embedded
    assert joined.api_kubeconfig == instance.kubelet_kubeconfig
    assert joined.joined_by == f"BOOTSTRAP_KUBECONFIG={tmp_path}/bootstrap.conf"
    again = load(ClusterSettings, {"KUBECONFIG": str(instance.kubelet_kubeconfig)})
    assert again.bootstraps
    assert (again.embedded, again.api_kubeconfig) == (False, instance.kubelet_kubeconfig)
    assert not load(ClusterSettings, {"KUBECONFIG": str(tmp_path / "admin.conf")}).bootstraps
    assert (load(ClusterSettings, {}).bootstraps, load(ClusterSettings, {}).joined_by) == (False, "")


def test_two_ways_to_join_at_once_are_refused_unless_one_is_vkcris_own_file() -> None:
    environ = {"BOOTSTRAP_KUBECONFIG": "/b.conf", "KUBECONFIG": "/a.conf"}
    with pytest.raises(ConfigError, match=r"KUBECONFIG=/a\.conf and BOOTSTRAP_KUBECONFIG=/b\.conf are two ways"):
        load(ClusterSettings, environ)
    for own in (Instance().admin_kubeconfig, Instance().kubelet_kubeconfig, ""):
        joined = load(ClusterSettings, {**environ, "KUBECONFIG": str(own)})
        assert joined.api_kubeconfig == Instance().kubelet_kubeconfig


@pytest.mark.parametrize(
    ("environ", "joined_by"),
    [
        ({}, "BOOTSTRAP_KUBECONFIG=/toml.conf"),
        ({"KUBECONFIG": "/a.conf"}, "KUBECONFIG=/a.conf"),
        ({"KUBECONFIG": ""}, ""),  # the printed cure: embedded
        ({"BOOTSTRAP_KUBECONFIG": ""}, ""),
        ({"BOOTSTRAP_KUBECONFIG": "/b.conf"}, "BOOTSTRAP_KUBECONFIG=/b.conf"),
    ],
)
def test_a_variable_that_says_how_to_join_hides_what_the_toml_file_says(
    tmp_path: Path, environ: dict[str, str], joined_by: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('bootstrap_kubeconfig = "/toml.conf"\n')
    assert load(ClusterSettings, {"VKCRI_CONFIG": str(file), **environ}).joined_by == joined_by


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


def test_runtime_handlers_are_names_with_or_without_a_program() -> None:
    given = load(RuntimeSettings, {"VKCRI_RUNTIME_HANDLERS": "test-handler, sh=/bin/sh,"})
    assert given.handlers() == {"test-handler": "", "sh": "/bin/sh"}
    assert load(RuntimeSettings, {}).handlers() == {}


@pytest.mark.parametrize("text", ["runc", "A", "a,a", "a=", "a=bin/sh", "a=/nowhere"])
def test_a_runtime_handler_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="runtime_handlers"):
        load(RuntimeSettings, {"VKCRI_RUNTIME_HANDLERS": text})
