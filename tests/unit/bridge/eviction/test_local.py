"""Which limit of its local storage a pod is over, in the kubelet's words and order."""

from typing import Any

import pytest

from bridge.eviction.local import excess, limited
from bridge.stats.disk import Filesystem, Taken
from bridge.stats.summary import ContainerUse, PodUse, VolumeUse
from tests.unit.bridge.building import a_pod, spec

MEBI = 1024 * 1024
DISK = Filesystem(1, 1 << 40, 1 << 41, 1 << 40, 1000, 500)


def taken(mebibytes: float) -> Taken:
    return Taken(1, int(mebibytes * MEBI), 1)


def container(name: str = "app", limit: str = "", **more: Any) -> dict[str, Any]:
    return spec(name, **({"resources": {"limits": {"ephemeral-storage": limit}}} if limit else {}), **more)


def volume(name: str, **source: Any) -> dict[str, Any]:
    return {"name": name, "emptyDir": source}


def use(*containers: ContainerUse, volumes: dict[str, float] | None = None, files: float = 0) -> PodUse:
    found = [VolumeUse(name, DISK, taken(size), local=True) for name, size in (volumes or {}).items()]
    return PodUse("default", "p", "u", 1, containers, volumes=found, files=(taken(files), None))


def fills(name: str = "app", layer: float = 0, logs: float = 0) -> ContainerUse:
    return ContainerUse(name, 1, None, layers=DISK, rootfs=taken(layer), logs=taken(logs))


def said(pod: dict[str, Any], found: PodUse, *, images_apart: bool = False) -> tuple[str, str] | None:
    over = excess(pod, found, images_apart=images_apart)
    return (over.signal, over.message) if over else None


def test_a_pod_within_its_limits_stays() -> None:
    pod = a_pod(container(limit="10Mi"), volumes=[volume("data", sizeLimit="4Mi")])
    assert said(pod, use(fills(layer=5, logs=1), volumes={"data": 4})) is None
    assert said(a_pod(), use(fills(layer=5000), volumes={"data": 4000})) is None


@pytest.mark.parametrize(
    ("written", "printed"), [("4Mi", "4Mi"), ("4096Ki", "4Mi"), ("4000k", "4M"), ("1.5Mi", "1536Ki")]
)
def test_a_volume_over_its_size_limit(written: str, printed: str) -> None:
    pod = a_pod(volumes=[volume("small", sizeLimit="1Gi"), volume("data", sizeLimit=written), volume("free")])
    message = f'Usage of EmptyDir volume "data" exceeds the limit "{printed}". '
    assert said(pod, use(volumes={"small": 1, "data": 4.1, "free": 9000})) == ("emptydirfs.limit", message)


def test_a_volume_that_was_not_counted_or_has_no_limit_is_not_judged() -> None:
    assert said(a_pod(volumes=[volume("data", sizeLimit="1Mi")]), use()) is None
    assert said(a_pod(volumes=[volume("data", sizeLimit="0")]), use(volumes={"data": 9})) is None
    assert said(a_pod(volumes=[{"name": "data", "hostPath": {"path": "/x"}}]), use(volumes={"data": 9})) is None


def test_all_that_a_pod_takes_is_held_to_the_sum_of_its_containers_limits() -> None:
    """A container without a limit adds none, as with the kubelet."""
    pod = a_pod(container("a", "3Mi"), container("b", "2Mi"), container("c"))
    both = (fills("a", layer=1.5, logs=0.5), fills("b", layer=1))
    assert said(pod, use(*both, volumes={"data": 1.5}, files=0.5)) is None
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. "
    assert said(pod, use(*both, volumes={"data": 1.5}, files=0.6)) == ("ephemeralpodfs.limit", message)
    assert said(pod, use(fills("c", layer=6))) == ("ephemeralpodfs.limit", message)


def test_a_container_over_its_own_limit_by_layer_and_logs() -> None:
    pod = a_pod(container("a", "2Mi"), container("b", "100Mi"))
    message = 'Container a exceeded its local ephemeral storage limit "2Mi". '
    assert said(pod, use(fills("a", layer=1.5, logs=0.6))) == ("ephemeralcontainerfs.limit", message)
    assert said(pod, use(fills("b", layer=1.5, logs=0.6))) is None


def test_layers_on_another_device_do_not_count_for_a_container() -> None:
    pod = a_pod(container("a", "2Mi"), container("b", "100Mi"))
    assert said(pod, use(fills("a", layer=9, logs=1)), images_apart=True) is None
    assert said(pod, use(fills("a", logs=3)), images_apart=True) is not None


def test_sidecars_are_held_to_their_limits_and_init_containers_are_not() -> None:
    inits = [container("side", "2Mi", restartPolicy="Always"), container("init", "2Mi")]
    pod = a_pod(container("app", "100Mi"), initContainers=inits)
    assert said(pod, use(fills("init", layer=3))) is None
    assert said(pod, use(fills("side", layer=3))) is not None


def test_a_volume_comes_first_then_the_pod_then_a_container() -> None:
    pod = a_pod(container("a", "2Mi"), volumes=[volume("data", sizeLimit="1Mi")])
    full = use(fills("a", layer=3), volumes={"data": 2})
    assert said(pod, full) == ("emptydirfs.limit", 'Usage of EmptyDir volume "data" exceeds the limit "1Mi". ')
    found = said(pod, use(fills("a", layer=3), volumes={"data": 0.5}))
    assert found is not None
    assert found[0] == "ephemeralpodfs.limit"


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (a_pod(), False),
        (a_pod(volumes=[volume("data")]), False),
        (a_pod(volumes=[volume("data", sizeLimit="1Mi")]), True),
        (a_pod(container(limit="1Mi")), True),
        (a_pod(spec(resources={"limits": {"memory": "1Mi"}, "requests": {"ephemeral-storage": "1"}})), False),
    ],
)
def test_only_pods_with_a_limit_are_looked_after(pod: dict[str, Any], expected: bool) -> None:
    assert limited(pod) is expected
