"""What a person types, with kubectl of three ages, and what it prints and returns, on both API servers.

There is no node: what wants one (logs, exec, port-forward) is refused alike.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import kubectls
from tests.comparison.sides import Pair, Side
from tests.comparison.transcripts import document, same

SECONDS = 90
Steps = Iterator[tuple[str, Any]]
_MASKS = (
    (re.compile(r"https://[0-9.:]+"), "<server>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uid>"),
    (re.compile(r"\b(\d+[smhd]){1,2}\b"), "<age>"),
    (re.compile(r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]+ [+-]\d{4}"), "<time>"),
    (re.compile(r"\b10\.\d+\.\d+\.\d+\b"), "<address>"),
    (re.compile(r"kube-api-access-\w{5}"), "kube-api-access-<suffix>"),
    (re.compile(r"[ \t]+"), " "),
)


class Kubectl:
    """One kubectl as an administrator of one side, in the namespace `same`."""

    def __init__(self, program: Path, side: Side) -> None:
        self._command = [str(program), f"--kubeconfig={side.kubeconfig}", "--namespace=same"]

    def __call__(self, line: str, text: str | None = None) -> dict[str, Any]:
        """What it prints on both streams, by lines, and how it ends."""
        done = subprocess.run(
            [*self._command, *line.split()], input=text, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        return {"code": done.returncode, "out": lines(done.stdout), "errors": lines(done.stderr)}

    def json(self, line: str) -> Any:
        done = subprocess.run(
            [*self._command, *line.split(), "-o", "json"], capture_output=True, text=True, timeout=SECONDS, check=True
        )
        return json.loads(done.stdout)

    def watching(self, line: str, count: int, act: Callable[[], object]) -> list[str]:
        """The first lines of a command that does not end by itself; `act` runs once it has printed one."""
        process = subprocess.Popen([*self._command, *line.split()], stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            found = [process.stdout.readline()]
            act()
            found += [process.stdout.readline() for _ in range(count - 1)]
        finally:
            process.kill()
            process.communicate()
        return lines("".join(found))


def lines(text: str) -> list[str]:
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return [line.rstrip() for line in text.splitlines()]


def manifests(*objects: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def pod(name: str, image: str = "none") -> dict[str, Any]:
    spec = {"schedulerName": "none", "containers": [{"name": "main", "image": image, "command": ["sleep", "1"]}]}
    return document("Pod", name, labels={"app": "typed"}, spec=spec)


FIRST = (
    pod("k-pod"),
    document("ConfigMap", "k-config", labels={"app": "typed"}, data={"a": "1", "b": "2\n3\n"}),
    document("Secret", "k-secret", labels={"app": "typed"}, stringData={"a": "1"}),
    document(
        "Service",
        "k-service",
        labels={"app": "typed"},
        spec={"clusterIP": "None", "selector": {"none": "x"}, "ports": [{"port": 80}]},
    ),
)
SECOND = (pod("k-pod", "other"), document("ConfigMap", "k-config", labels={"app": "typed"}, data={"a": "one"}))
WRONG = (document("ConfigMap", "K_WRONG"), pod("k-wrong", ""))
READ = (
    "get pods -l app=typed",
    "get pods -l app=typed -o wide",
    "get pods -l app=typed --show-labels",
    "get pods,services,configmaps,secrets -l app=typed",
    "get pods -l app=typed -o custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[0].image",
    "get pods --field-selector metadata.name=k-pod --no-headers",
    "get pods --field-selector spec.nonsense=1",
    "get configmap k-config -o jsonpath={.data.a}",
    "get pod k-none",
    "get nonsense",
    "describe pod k-pod",
    "describe configmap k-config",
    "describe secret k-secret",
    "describe service k-service",
    "describe pod k-none",
    "auth can-i create pods",
    "logs k-pod",
    "exec k-pod -- true",
)
WRITE = (
    "label pod k-pod tier=front",
    "label pod k-pod tier=front",
    "label pod k-pod tier=back",
    "label pod k-pod tier=back --overwrite",
    "label pod k-pod tier-",
    'patch configmap k-config --type merge -p {"data":{"b":null}}',
    'patch configmap k-config --type json -p [{"op":"add","path":"/data/c","value":"3"}]',
    'patch pod k-pod -p {"spec":{"containers":[{"name":"main","image":"patched"}]}}',
    "set image pod/k-pod main=set",
    "create configmap k-typed --from-literal=a=1 --dry-run=client -o name",
    "create configmap k-typed --from-literal=a=1",
    "create configmap k-typed --from-literal=a=1",
    "create secret generic k-made --from-literal=a=1",
    "create serviceaccount k-account",
    "wait --for=condition=Ready pod/k-pod --timeout=1s",
)
END = (
    "delete configmap k-typed",
    "delete configmap k-typed",
    "delete secret k-made --wait=false",
    "delete serviceaccount k-account",
    "delete pod k-pod --grace-period=0 --force",
    "delete configmaps,secrets,services -l app=typed",
    "get configmaps,secrets,services,pods -l app=typed",
)


def session(program: Path, side: Side) -> Steps:
    kubectl = Kubectl(program, side)
    yield "applied", kubectl("apply -f -", manifests(*FIRST))
    yield "applied again", kubectl("apply -f -", manifests(*FIRST))
    yield "configured", kubectl("apply -f -", manifests(*SECOND))
    yield "wrong", kubectl("apply -f -", manifests(*WRONG))
    for line in READ + WRITE:
        yield line, kubectl(line)
    for kind in ("pod k-pod", "configmap k-config", "secret k-secret", "service k-service"):
        yield f"get {kind} -o json", kubectl.json(f"get {kind}")
    held = kubectl.json("get configmap k-config")
    yield "replaced", kubectl("replace -f -", json.dumps({**held, "data": {"r": "1"}}))
    yield "replaced with an old version", kubectl("replace -f -", json.dumps({**held, "data": {"r": "2"}}))
    watch = "get configmaps -w -l watched=yes"
    make = document("ConfigMap", "k-watched", labels={"watched": "yes"})
    kubectl("create -f -", manifests(make))
    yield watch, kubectl.watching(watch, 3, partial(_changes, kubectl))
    for line in END:
        yield line, kubectl(line)


def _changes(kubectl: Kubectl) -> None:
    kubectl('patch configmap k-watched -p {"data":{"a":"1"}}')
    kubectl("delete configmap k-watched")


ALLOWED: dict[str, dict[tuple[str, str], str]] = {}


@pytest.mark.parametrize("version", kubectls.VERSIONS)
def test_what_is_typed_prints_the_same(sides: Pair, version: str) -> None:
    same(sides, partial(session, kubectls.found(version)), ALLOWED.get(version))
