"""The tool modules that the programs are built in: text of go.mod, linker flags, what each program is. Pure.

Kubernetes cannot be required by itself: its go.mod names its published parts at v0.0.0 and replaces them by folders of
its own repository. So the tool module replaces each of them by the version that belongs to the same release.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster import versions
from vkcri.errors import ConfigError

KUBERNETES: Final = "k8s.io/kubernetes"
COREDNS: Final = "github.com/coredns/coredns"
COREDNS_VERSION: Final = "v1.15.0"
END_TO_END: Final = f"{KUBERNETES}/test/e2e"
_FIRST_GO_WITH_TOOLS = (1, 24)


@dataclass(frozen=True)
class Program:
    """One program: its package, whether it is a test binary, and its cold build on two idle cores in seconds, the
    packages that it shares with those before it already built."""

    package: str
    seconds: int
    is_test: bool = False


PROGRAMS: Final[Mapping[str, Program]] = {
    "kube-apiserver": Program(f"{KUBERNETES}/cmd/kube-apiserver", 381),
    "kube-controller-manager": Program(f"{KUBERNETES}/cmd/kube-controller-manager", 117),
    "kube-scheduler": Program(f"{KUBERNETES}/cmd/kube-scheduler", 14),
    "ginkgo": Program("github.com/onsi/ginkgo/v2/ginkgo", 11),
    "agnhost": Program(f"{KUBERNETES}/test/images/agnhost", 16),
    "nonewprivs": Program(f"{KUBERNETES}/test/images/nonewprivs", 1),
    "e2e.test": Program(END_TO_END, 358, is_test=True),
    "kubelet": Program(f"{KUBERNETES}/cmd/kubelet", 34),
    "kube-proxy": Program(f"{KUBERNETES}/cmd/kube-proxy", 13),
    "kubectl": Program(f"{KUBERNETES}/cmd/kubectl", 65),
    "coredns": Program(COREDNS, 274),
}


def kubernetes(version: str, upstream: Mapping[str, Any]) -> str:
    """go.mod of the module for one release (`v1.37.2`), from Kubernetes' own as `go mod edit -json` gives it."""
    parts = [item["Path"] for item in upstream.get("Require", ()) if item["Version"] == "v0.0.0"]
    lines = ["module vkcri.test/cluster", f"go {_language(upstream)}"]
    lines += [f"godebug {item['Key']}={item['Value']}" for item in upstream.get("Godebug") or ()]
    lines += [f"tool {program.package}" for program in PROGRAMS.values() if _is_tool_of_kubernetes(program)]
    lines += [f"require {KUBERNETES} {version}"]
    lines += [f"replace {part} => {part} {versions.staging(version)}" for part in parts]
    return "\n".join(lines) + "\n"


def coredns(upstream: Mapping[str, Any]) -> str:
    """go.mod of the module for CoreDNS, with the replacements that its own has."""
    lines = ["module vkcri.test/coredns", f"go {_language(upstream)}", f"tool {COREDNS}"]
    lines += [f"require {COREDNS} {COREDNS_VERSION}"]
    for item in upstream.get("Replace") or ():
        old, new = item["Old"], item["New"]
        lines.append(f"replace {_module(old)} => {_module(new)}")
    return "\n".join(lines) + "\n"


def linker_flags(version: str) -> str:
    """What stamps the release into a program: without it clients see v0.0.0."""
    major, minor, _ = version.removeprefix("v").split(".")
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())])


def build_command(name: str, version: str, output: str) -> Sequence[str]:
    """The go command that builds one program of PROGRAMS into a file; it runs in the module's folder."""
    program = PROGRAMS[name]
    verb = ["test", "-c", "-vet=off"] if program.is_test else ["build"]  # vet would read all of Kubernetes first
    flags = linker_flags(version) if program.package != COREDNS else "-s -w"
    return ["go", *verb, "-mod=mod", "-ldflags", flags, "-o", output, program.package]


def parsed(text: str) -> dict[str, Any]:
    """What `go ... -json` printed."""
    return dict(json.loads(text))


def language(text: str) -> str:
    """The go line of a go.mod that `kubernetes` or `coredns` made, such as `1.26.0`."""
    return next(line.split()[1] for line in text.splitlines() if line.startswith("go "))


def require_go(what: str, present: str, wanted: str) -> None:
    """Raises ConfigError where the go on this machine (`go1.26.8`) is older than a go.mod's go line (`1.26.0`)."""
    if _numbers(present.removeprefix("go").split()[0]) < _numbers(wanted):
        raise ConfigError(f"Go is too old: {present} is here, and {what} wants go{wanted} or newer")


def _is_tool_of_kubernetes(program: Program) -> bool:
    return not program.is_test and program.package != COREDNS


def _language(upstream: Mapping[str, Any]) -> str:
    """The go line: the upstream's, or the first that knows `tool` lines where that is older."""
    return max(str(upstream["Go"]), ".".join(map(str, _FIRST_GO_WITH_TOOLS)), key=_numbers)


def _module(item: Mapping[str, str]) -> str:
    return f"{item['Path']} {item['Version']}" if item.get("Version") else item["Path"]


def _numbers(version: str) -> list[int]:
    """`1.26.0`, `1.27rc1` (less than 1.27) as numbers that compare."""
    release, _, candidate = version.replace("beta", "rc").partition("rc")
    numbers = [int(part) for part in release.split(".")]
    return [*numbers, *[0] * (3 - len(numbers)), -1 if candidate else 0]
