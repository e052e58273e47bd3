"""Image names by the distribution reference grammar."""

import pytest

from bridge.spec import imagenames
from vkcri.errors import Invalid

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "repository", "tag", "digest", "tagged"),
    [
        ("busybox", "docker.io/library/busybox", "", "", "busybox:latest"),
        ("busybox:1.37", "docker.io/library/busybox", "1.37", "", "busybox:1.37"),
        ("me/app", "docker.io/me/app", "", "", "me/app:latest"),
        ("docker.io/app", "docker.io/library/app", "", "", "docker.io/app:latest"),
        ("index.docker.io/me/app", "docker.io/me/app", "", "", "index.docker.io/me/app:latest"),
        ("localhost/app", "localhost/app", "", "", "localhost/app:latest"),
        ("localhost:5000/a/b:x", "localhost:5000/a/b", "x", "", "localhost:5000/a/b:x"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "", "", "127.0.0.1:5000/a:latest"),
        ("[fd00::1]:5000/a", "[fd00::1]:5000/a", "", "", "[fd00::1]:5000/a:latest"),
        (f"example.com/a@{DIGEST}", "example.com/a", "", DIGEST, f"example.com/a@{DIGEST}"),
        (f"example.com/a:1@{DIGEST}", "example.com/a", "1", DIGEST, f"example.com/a:1@{DIGEST}"),
        ("a__b.c-d", "docker.io/library/a__b.c-d", "", "", "a__b.c-d:latest"),
    ],
)
def test_names_have_a_repository_tag_and_digest(name: str, repository: str, tag: str, digest: str, tagged: str) -> None:
    parsed = imagenames.parse(name)
    assert (parsed.repository, parsed.tag, parsed.digest, parsed.tagged) == (repository, tag, digest, tagged)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("UPPER", r"invalid reference format: repository name \(library/UPPER\) must be lowercase"),
        ("example.com/UPPER", r"invalid reference format: repository name \(UPPER\) must be lowercase"),
        ("a:", "invalid reference format"),
        ("a:-x", "invalid reference format"),
        ("a@sha256:abc", "invalid reference format"),
        ("a@", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/../b", "invalid reference format"),
        ("https://example.com/a", "invalid reference format"),
        ("a" * 64, "cannot specify 64-byte hexadecimal strings"),
        ("a/" * 130 + "a", "must not be more than 255 characters"),
    ],
)
def test_bad_names_have_the_kubelets_message(name: str, reason: str) -> None:
    with pytest.raises(Invalid, match=f"couldn't parse image name .*{reason}"):
        imagenames.parse(name)


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        (f"a@{DIGEST}", "IfNotPresent"),
        (f"a:latest@{DIGEST}", "IfNotPresent"),
    ],
)
def test_the_default_policy_follows_the_tag(name: str, policy: str) -> None:
    assert imagenames.parse(name).default_policy == policy
