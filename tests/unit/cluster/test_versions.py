"""Which Kubernetes a person means, and the text of the modules that build it."""

import pytest

from tests.cluster import module, versions
from vkcri.errors import ConfigError

LISTED = ["v1.34.0-rc.1", "v1.34.0", "v1.34.9", "v1.34.10", "v1.34.11-beta.0", "v1.35.0", "v0.34.99"]
UPSTREAM = {
    "Go": "1.26.0",
    "Godebug": [{"Key": "default", "Value": "go1.26"}],
    "Require": [
        {"Path": "k8s.io/api", "Version": "v0.0.0"},
        {"Path": "k8s.io/utils", "Version": "v0.0.0-20260101000000-0123456789ab"},
        {"Path": "k8s.io/kubelet", "Version": "v0.0.0", "Indirect": True},
    ],
    "Replace": [{"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}}],
}


@pytest.mark.parametrize(
    ("wanted", "parsed"),
    [("1.34", (34, None)), ("v1.34", (34, None)), ("1.34.2", (34, 2)), (" v1.34.2 ", (34, 2)), ("", (37, 2))],
)
def test_a_minor_and_a_patch_version_are_understood_with_and_without_v(
    wanted: str, parsed: tuple[int, int | None]
) -> None:
    assert versions.parse(wanted) == parsed


@pytest.mark.parametrize("wanted", ["1", "1.", "latest", "1.34.x", "2.0", "1.34.2.1", "1.34.2-rc.1"])
def test_another_text_is_refused_with_what_would_be_right(wanted: str) -> None:
    with pytest.raises(ConfigError, match=r"1\.34\.2"):
        versions.parse(wanted)


def test_a_minor_means_its_newest_release_and_never_a_candidate() -> None:
    assert versions.newest(34, LISTED) == "v1.34.10"


def test_a_minor_that_the_proxy_does_not_list_is_named() -> None:
    with pytest.raises(ConfigError, match=r"KUBERNETES=1\.33"):
        versions.newest(33, LISTED)


def test_each_staging_module_is_replaced_by_the_version_of_the_same_release_and_nothing_else_is() -> None:
    text = module.kubernetes("v1.37.2", UPSTREAM)
    replaced = [line for line in text.splitlines() if line.startswith("replace")]
    assert replaced == [
        "replace k8s.io/api => k8s.io/api v0.37.2",
        "replace k8s.io/kubelet => k8s.io/kubelet v0.37.2",
    ]
    assert "require k8s.io/kubernetes v1.37.2" in text
    assert "godebug default=go1.26" in text
    assert "tool k8s.io/kubernetes/cmd/kube-apiserver" in text
    assert "coredns" not in text
    assert "tool k8s.io/kubernetes/test/e2e" not in text, "a test binary is no tool"


def test_the_go_line_is_the_upstreams_but_at_least_one_that_knows_tools() -> None:
    assert module.language(module.kubernetes("v1.37.2", UPSTREAM)) == "1.26.0"
    assert module.language(module.kubernetes("v1.31.0", {**UPSTREAM, "Go": "1.22.0"})) == "1.24"


@pytest.mark.parametrize(
    ("present", "wanted"), [("go1.25.9", "1.26.0"), ("go1.26rc1", "1.26.0"), ("go1.9", "1.26.0"), ("go1.26", "1.26.1")]
)
def test_a_go_that_is_too_old_is_refused_with_both_versions(present: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        module.require_go("kubernetes v1.37.2", present, wanted)
    assert present in str(raised.value)
    assert f"go{wanted}" in str(raised.value)


@pytest.mark.parametrize(
    ("present", "wanted"),
    [("go1.26.0", "1.26.0"), ("go1.26", "1.26.0"), ("go1.30.1", "1.26.5"), ("go1.26.8 X:nocoverageredesign", "1.26.0")],
)
def test_a_go_that_is_new_enough_is_taken(present: str, wanted: str) -> None:
    module.require_go("kubernetes v1.37.2", present, wanted)


def test_the_release_is_stamped_into_each_program_of_kubernetes() -> None:
    command = module.build_command("kubelet", "v1.34.10", "/somewhere/kubelet")
    flags = command[command.index("-ldflags") + 1]
    for stamp in ("gitVersion=v1.34.10", "gitMajor=1", "gitMinor=34", "gitTreeState=clean"):
        assert f"-X k8s.io/component-base/version.{stamp}" in flags
    assert command[-1] == "k8s.io/kubernetes/cmd/kubelet"


def test_the_end_to_end_tests_are_compiled_as_a_test_binary() -> None:
    assert list(module.build_command("e2e.test", "v1.37.2", "/x"))[:3] == ["go", "test", "-c"]
