"""Image names by the distribution reference grammar: [domain/]path[:tag][@digest]. Pure."""

import re
from dataclasses import dataclass

from vkcri.errors import Invalid

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(
    r"(?:(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_SIZES = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX64 = re.compile(r"[a-f0-9]{64}")
_MOST = 255


@dataclass(frozen=True)
class ImageName:
    """A parsed name. `repository` is the full one, docker.io/library/busybox; `written` is what the pod says."""

    written: str
    repository: str
    tag: str
    digest: str

    @property
    def tagged(self) -> str:
        """The name as written, with the default tag where it has neither tag nor digest. It is not made longer, since
        what a short name means is the runtime's to decide."""
        return self.written if self.tag or self.digest else f"{self.written}:latest"

    @property
    def default_policy(self) -> str:
        """imagePullPolicy where the spec has none."""
        return "Always" if not self.digest and self.tag in ("", "latest") else "IfNotPresent"


def parse(name: str) -> ImageName:
    """Raises Invalid with the kubelet's message."""
    rest, at, digest = name.partition("@")
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, ""
    elif not tag:
        raise _invalid(name, "invalid reference format")
    domain, slash, remainder = path.partition("/")
    if not slash or not (set(domain) & set(".:") or domain == "localhost" or domain != domain.lower()):
        domain, remainder = "docker.io", path
    if domain in ("docker.io", "index.docker.io"):
        domain, remainder = "docker.io", remainder if "/" in remainder else f"library/{remainder}"
    if _HEX64.fullmatch(path):
        raise _invalid(name, f"invalid repository name ({path}), cannot specify 64-byte hexadecimal strings")
    if remainder != remainder.lower():
        raise _invalid(name, f"invalid reference format: repository name ({remainder}) must be lowercase")
    if not _PATH.fullmatch(remainder) or not _DOMAIN.fullmatch(domain) or (tag and not _TAG.fullmatch(tag)):
        raise _invalid(name, "invalid reference format")
    if len(remainder) > _MOST:
        raise _invalid(name, f"repository name must not be more than {_MOST} characters")
    if at and not _is_digest(digest):
        raise _invalid(name, "invalid reference format")
    return ImageName(name, f"{domain}/{remainder}", tag, digest)


def _is_digest(digest: str) -> bool:
    algorithm, _, value = digest.partition(":")
    return bool(_DIGEST.fullmatch(digest)) and len(value) == _SIZES.get(algorithm, len(value))


def _invalid(name: str, reason: str) -> Invalid:
    return Invalid(f'couldn\'t parse image name "{name}": {reason}')
