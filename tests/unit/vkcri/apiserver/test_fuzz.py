"""Any object of the right types is stored or refused with a Status: no request and no controller breaks on one."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, House, container, node, open_house
from vkcri.apiserver import schema
from vkcri.apiserver.controllers.endpoints import EndpointsController
from vkcri.apiserver.controllers.events import EventExpiry
from vkcri.apiserver.controllers.nodes import NodeController
from vkcri.apiserver.controllers.podgc import PodCollector
from vkcri.apiserver.controllers.scheduler import Scheduler
from vkcri.apiserver.controllers.tokensecrets import TokenSecretController
from vkcri.apiserver.resources import RESOURCES, by_key
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
STORED = [resource.key for resource in RESOURCES if not resource.virtual]
WORDS = [
    "", "a", "b", "default", "x/y", "..", "../a", "/", "/a", "A", "None", "Always", "Never", "ClusterIP", "NodePort",
    "ExternalName", "Exists", "In", "Equal", "NoSchedule", "NoExecute", "TCP", "UDP", "10.0.0.1", "::1", "kubernetes",
    "kubernetes.io/hostname", "metadata.name", "metadata.labels['a']", "Memory", "limits.cpu", "IPv4", "é\x00",
    "kubernetes.io/service-account-token", "Ready", "True", "DoNotSchedule", NODE,
]  # fmt: skip


class Maker:
    """Objects of a definition, with every field sometimes there, from one seed."""

    def __init__(self, seed: int, density: float) -> None:
        self._random = random.Random(seed)
        self._density = density

    def definition(self, kind: str, depth: int = 0) -> Object:
        made = {}
        for name, field in schema.fields(kind).items():
            if name in ("apiVersion", "kind") and depth == 0:
                continue
            if self._random.random() < self._density / (1 + depth / 3):
                made[name] = self._contained(field, depth)
        return made

    def _contained(self, field: schema.Field, depth: int) -> Any:
        count = self._random.choice((0, 1, 1, 2))
        if field.container == "list":
            return [self._element(field, depth) for _ in range(count)]
        if field.container:
            names = (self._random.choice(WORDS) for _ in range(count))
            return {name: [] if field.container == "map of list" else self._element(field, depth) for name in names}
        return self._element(field, depth)

    def _element(self, field: schema.Field, depth: int) -> Any:
        if field.nested:
            return self.definition(field.type, depth + 1)
        choices: dict[str, list[Any]] = {
            "string": WORDS,
            "integer": [-1, 0, 1, 80, 65536, 2**40],
            "boolean": [True, False],
            "quantity": ["0", "1", "-1", "1Gi", "1500m", 2],
            "int-or-string": [0, 80, 70000, "http", ""],
            "time": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001+02:00"],
            "microtime": ["2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.5Z"],
            "bytes": ["", "eA=="],
            "number": [0, 1.5],
            "any": [{}, "x", None],
        }
        return self._random.choice(choices[field.type])


@pytest.fixture(scope="module")
def shared() -> Iterator[House]:
    with tempfile.TemporaryDirectory() as folder:
        house = open_house(Path(folder))
        yield house
        house.store.close()


def named(made: Object, key: str, seed: int) -> Object:
    """Mostly with a name that is right, so that something else decides."""
    metadata = made.setdefault("metadata", {})
    metadata.pop("resourceVersion", None)
    metadata["name"] = f"n{seed}"
    if by_key(key).namespaced:
        metadata["namespace"] = "default"
    return made


SOUND: dict[str, Object] = {
    "/services": {"type": "ClusterIP", "ports": [{"port": 80}], "selector": {"a": "b"}, "clusterIPs": None},
    "discovery.k8s.io/endpointslices": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]},
}


def mostly_sound(made: Object, key: str, seed: int) -> Object:
    """With a few of its random fields replaced by ones that are right, so that some objects get through."""
    holder = made.setdefault("spec", {}) if key == "/services" else made
    chooser = random.Random(seed)
    for field in list(holder):
        if key in SOUND and field not in ("metadata", "spec") and chooser.random() < 0.7:
            del holder[field]
    for field, value in SOUND.get(key, {}).items():
        if chooser.random() < 0.8:
            holder[field] = value
    return made


def attempt(house: House, key: str, made: Object) -> Object | None:
    try:
        return house.create(key, made)
    except StatusError as error:
        if error.code not in (400, 403, 404, 409, 422):
            raise
        return None


@pytest.mark.parametrize("key", STORED)
def test_any_object_is_stored_or_refused(shared: House, key: str) -> None:
    for seed in range(150):
        made = named(Maker(seed, 0.2 + seed % 8 / 10).definition(by_key(key).kind), key, seed)
        made = mostly_sound(made, key, seed)
        stored = attempt(shared, key, made)
        if stored is not None:
            changed = {**named(Maker(seed + 1, 0.5).definition(by_key(key).kind), key, seed)}
            for subresource in (None, "status"):
                try:
                    shared.update(key, changed, subresource=subresource)
                except StatusError as error:
                    if error.code not in (400, 403, 404, 409, 422):
                        raise
            shared.delete(key, stored["metadata"].get("namespace") or "", stored["metadata"]["name"])


def valid_pod(seed: int) -> Object:
    """A pod that is often valid: random affinity, tolerations, ports and status around a sound container."""
    maker = Maker(seed, 0.6)
    spec: Object = {"containers": [container(ports=[{"containerPort": 80, "hostPort": 80 + seed}])]}
    for field in ("affinity", "tolerations", "topologySpreadConstraints", "nodeSelector", "volumes", "resourceClaims"):
        if maker._random.random() < 0.5:
            spec[field] = maker._contained(schema.fields("PodSpec")[field], 1)
    metadata = {"name": f"p{seed}", "namespace": "default", "labels": {"a": "b"}}
    return {"metadata": metadata, "spec": spec}


def test_no_controller_breaks_on_what_was_stored(house: House) -> None:
    house.create("/services", {"metadata": {"name": "s", "namespace": "default"}, "spec": {"clusterIP": "None"}})
    spec = {"selector": {"a": "b"}, "ports": [{"port": 1, "targetPort": "x"}]}
    house.create("/services", {"metadata": {"name": "t", "namespace": "default"}, "spec": spec})
    house.create("/nodes", node("sound"))
    kept = 0
    for seed in range(400):
        if attempt(house, "/pods", valid_pod(seed)) is None:
            continue
        kept += 1
        status = Maker(seed, 0.5).definition("PodStatus", 1)
        for item in (status.get("podIPs") or []) + (status.get("hostIPs") or []):
            item.setdefault("ip", "10.0.0.1")
        try:
            pod = house.get("/pods", "default", f"p{seed}")
            assert pod is not None
            house.update("/pods", {**pod, "status": status}, subresource="status")
        except StatusError as error:
            if error.code not in (400, 422):
                raise
    assert kept > 40
    for seed in range(200):
        for key in ("/nodes", "/services", "/endpoints", "/events", "/secrets", "coordination.k8s.io/leases"):
            made = named(Maker(seed, 0.3 + seed % 5 / 10).definition(by_key(key).kind), key, seed)
            attempt(house, key, mostly_sound(made, key, seed))
    for controller in (
        Scheduler(house.ctx),
        EndpointsController(house.ctx),
        NodeController(house.ctx),
        PodCollector(house.ctx),
        EventExpiry(house.ctx),
        TokenSecretController(house.ctx, "PEM"),
    ):
        for kind, keys_of in controller.sources.items():
            for obj in house.store.list(kind)[0]:
                list(keys_of(obj, False))
        for key in list(controller.all_keys()):
            try:
                controller.reconcile(key)
            except StatusError as error:
                if error.code not in (403, 409, 422):
                    raise
