"""Whether a pod fits a node, and the scheduler's words where it does not."""

from fractions import Fraction
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import container, node, pod
from vkcri.apiserver.controllers import fit

Object = dict[str, Any]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def bound(name: str, to: str = "n1", **spec: Any) -> Object:
    return pod(name, nodeName=to, **spec)


def labelled(made: Object, **labels: str) -> Object:
    made["metadata"]["labels"] = labels
    return made


def asking(**requests: str) -> list[Object]:
    amounts = {name.replace("_", "-"): amount for name, amount in requests.items()}
    return [container(resources={"requests": amounts})]


def reasons(what: Object, where: Object | None = None, *placed: Object) -> list[str]:
    made = where or node()
    return fit.reasons(what, made, placed, [made])


def tainted(key: str, value: str = "", effect: str = "NoSchedule") -> Object:
    return node(spec={"taints": [{"key": key, "value": value, "effect": effect}]})


def tolerating(**toleration: str) -> Object:
    return pod(tolerations=[toleration])


def anti(**labels: str) -> Object:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    return {"podAntiAffinity": {REQUIRED: [term]}}


def near(**labels: str) -> Object:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    return {"podAffinity": {REQUIRED: [term]}}


def of_node(*expressions: Object) -> Object:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}}}


FITS: dict[str, tuple[Object, Object]] = {
    "plain": (pod(), node()),
    "exactly all there is": (pod(containers=asking(cpu="2", memory="4Gi")), node()),
    "tolerated taint": (tolerating(key="a", operator="Exists"), tainted("a")),
    "tolerated by value": (tolerating(key="a", value="b"), tainted("a", "b")),
    "everything tolerated": (tolerating(operator="Exists"), tainted("a", "b", "NoExecute")),
    "a taint that only prefers": (pod(), tainted("a", "", "PreferNoSchedule")),
    "selected": (pod(nodeSelector={"kubernetes.io/hostname": "n1"}), node()),
    "affine": (pod(affinity=of_node({"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]})), node()),
    "affine to itself": (labelled(pod(affinity=near(app="x")), app="x"), node()),
    "zero of something unknown": (pod(containers=asking(cpu="0")), node()),
    "cordoned and tolerated": (
        tolerating(key="node.kubernetes.io/unschedulable", operator="Exists"),
        node(spec={"unschedulable": True}),
    ),
}


@pytest.mark.parametrize("name", FITS)
def test_fits(name: str) -> None:
    assert reasons(*FITS[name]) == []


REFUSED: dict[str, tuple[Object, Object, list[str]]] = {
    "cordoned": (pod(), node(spec={"unschedulable": True}), ["node(s) were unschedulable"]),
    "not ready": (
        tolerating(operator="Exists"),
        node(ready=False),
        ["node(s) had untolerated taint {node.kubernetes.io/not-ready: }"],
    ),
    "tainted": (pod(), tainted("a", "b"), ["node(s) had untolerated taint {a: b}"]),
    "other effect tolerated": (
        tolerating(key="a", operator="Exists", effect="NoExecute"),
        tainted("a"),
        ["node(s) had untolerated taint {a: }"],
    ),
    "other key tolerated": (
        tolerating(key="b", operator="Exists"),
        tainted("a"),
        ["node(s) had untolerated taint {a: }"],
    ),
    "other value tolerated": (
        tolerating(key="a", value="c"),
        tainted("a", "b"),
        ["node(s) had untolerated taint {a: b}"],
    ),
    "not selected": (pod(nodeSelector={"a": "b"}), node(), ["node(s) didn't match Pod's node affinity/selector"]),
    "not affine": (
        pod(affinity=of_node({"key": "gpu", "operator": "Exists"})),
        node(),
        ["node(s) didn't match Pod's node affinity/selector"],
    ),
    "one resource": (pod(containers=asking(cpu="3")), node(), ["Insufficient cpu"]),
    "two resources": (
        pod(containers=asking(cpu="3", memory="5Gi")),
        node(),
        ["Insufficient cpu", "Insufficient memory"],
    ),
    "a resource the node lacks": (
        pod(containers=[container(resources={"requests": {"a.b/gpu": "1"}})]),
        node(),
        ["Insufficient a.b/gpu"],
    ),
    "not near": (pod(affinity=near(app="x")), node(), ["node(s) didn't match pod affinity rules"]),
    "no such topology": (
        pod(
            topologySpreadConstraints=[
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
            ]
        ),
        node(),
        ["node(s) didn't match pod topology spread constraints (missing required label)"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    what, where, why = REFUSED[name]
    assert reasons(what, where) == why


def test_what_is_placed_counts() -> None:
    other = bound("other", containers=asking(cpu="1500m"))
    assert reasons(pod(containers=asking(cpu="600m")), None, other) == ["Insufficient cpu"]
    assert reasons(pod(containers=asking(cpu="500m")), None, other) == []
    elsewhere = bound("other", to="n2", containers=asking(cpu="2"))
    assert reasons(pod(containers=asking(cpu="2")), None, elsewhere) == []


def test_the_number_of_pods_counts() -> None:
    small = node(allocatable={"pods": "1", "cpu": "1"})
    assert reasons(pod(), small, bound("other")) == ["Too many pods"]


def test_host_ports_are_taken_once_an_address_and_protocol() -> None:
    def with_port(**port: Any) -> list[Object]:
        return [container(ports=[{"containerPort": 1, "hostPort": 80, "protocol": "TCP", **port}])]

    other = bound("other", containers=with_port(hostIP="10.0.0.1"))
    taken = ["node(s) didn't have free ports for the requested pod ports"]
    assert reasons(pod(containers=with_port()), None, other) == taken
    assert reasons(pod(containers=with_port(hostIP="10.0.0.1")), None, other) == taken
    assert reasons(pod(containers=with_port(hostIP="10.0.0.2")), None, other) == []
    assert reasons(pod(containers=with_port(protocol="UDP")), None, other) == []


def test_anti_affinity_holds_in_both_directions() -> None:
    lonely = labelled(bound("lonely", affinity=anti(app="x")), app="y")
    assert reasons(labelled(pod(), app="x"), None, lonely) == [
        "node(s) didn't satisfy existing pods anti-affinity rules"
    ]
    assert reasons(labelled(pod(), app="z"), None, lonely) == []
    there = labelled(bound("there"), app="x")
    assert reasons(pod(affinity=anti(app="x")), None, there) == ["node(s) didn't match pod anti-affinity rules"]
    assert reasons(pod(affinity=near(app="x")), None, there) == []
    foreign = labelled(bound("there", namespace="other"), app="x")
    assert reasons(pod(affinity=anti(app="x")), None, foreign) == []


def test_spread_over_two_nodes() -> None:
    one, two = node("n1"), node("n2")
    constraint = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    constraint["labelSelector"] = {"matchLabels": {"app": "x"}}  # type: ignore[assignment]
    what = labelled(pod(topologySpreadConstraints=[constraint]), app="x")
    placed = [labelled(bound("a"), app="x")]
    text = "node(s) didn't match pod topology spread constraints"
    assert fit.reasons(what, one, placed, [one, two]) == [text]
    assert fit.reasons(what, two, placed, [one, two]) == []
    assert fit.reasons(what, one, [labelled(bound("a"), app="y")], [one, two]) == []
    looser = labelled(pod(topologySpreadConstraints=[{**constraint, "maxSkew": 2}]), app="x")
    assert fit.reasons(looser, one, placed, [one, two]) == []


def test_fewer_domains_than_asked_for_leave_no_room_for_a_second() -> None:
    one, two = node("n1"), node("n2")
    constraint = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    constraint["labelSelector"] = {"matchLabels": {"app": "x"}}  # type: ignore[assignment]
    placed = [labelled(bound("a"), app="x"), labelled(bound("b", to="n2"), app="x")]
    for least, found in ((2, []), (3, ["node(s) didn't match pod topology spread constraints"])):
        what = labelled(pod(topologySpreadConstraints=[{**constraint, "minDomains": least}]), app="x")
        assert fit.reasons(what, one, placed, [one, two]) == found


def test_a_spread_that_is_only_a_wish_refuses_nobody() -> None:
    wish = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
    assert reasons(pod(topologySpreadConstraints=[wish])) == []


@pytest.mark.parametrize(
    ("where", "taken"),
    [
        ({"namespaces": ["other"]}, True),
        ({"namespaces": ["third"]}, False),
        ({"namespaceSelector": {}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, False),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}, "namespaces": ["other"]}, True),
        ({"namespaces": ["other"], "topologyKey": "zone"}, False),
        ({}, False),
    ],
)
def test_affinity_looks_into_the_namespaces_and_the_topology_that_it_names(where: Object, taken: bool) -> None:
    there = labelled(bound("there", namespace="other"), app="x")
    affinity = anti(app="x")
    affinity["podAntiAffinity"][REQUIRED][0].update(where)
    text = "node(s) didn't match pod anti-affinity rules"
    made = node()
    namespaces = {"other": {"team": "a"}, "default": {"team": "c"}}
    assert fit.reasons(pod(affinity=affinity), made, [there], [made], namespaces) == ([text] if taken else [])


SPREAD = "node(s) didn't match pod topology spread constraints"


def spread(**more: Any) -> Object:
    """One that wants to be spread over zones with its like."""
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", **more}
    constraint["labelSelector"] = {"matchLabels": {"app": "x"}}
    return labelled(pod(topologySpreadConstraints=[constraint]), app="x")


def zoned(number: int, **spec: Any) -> Object:
    """Node nNUMBER in zone zNUMBER."""
    made = node(f"n{number}", spec=spec)
    made["metadata"]["labels"]["zone"] = f"z{number}"
    return made


@pytest.mark.parametrize(("policy", "counts"), [({}, False), ({"nodeAffinityPolicy": "Ignore"}, True)])
def test_a_domain_that_the_pod_may_not_go_to_counts_only_where_it_is_told_to(policy: Object, counts: bool) -> None:
    made = spread(**policy)
    made["spec"]["nodeSelector"] = {"zone": "z1"}
    placed, nodes = [labelled(bound("a"), app="x")], [zoned(1), zoned(2)]
    assert fit.reasons(made, nodes[0], placed, nodes) == ([SPREAD] if counts else [])


@pytest.mark.parametrize(("policy", "counts"), [({}, True), ({"nodeTaintsPolicy": "Honor"}, False)])
def test_a_domain_whose_taints_keep_the_pod_out_counts_unless_it_is_told_not_to(policy: Object, counts: bool) -> None:
    nodes = [zoned(1), zoned(2, taints=[{"key": "a", "value": "", "effect": "NoSchedule"}])]
    placed = [labelled(bound("a"), app="x")]
    assert fit.reasons(spread(**policy), nodes[0], placed, nodes) == ([SPREAD] if counts else [])


def test_a_pod_that_is_being_deleted_is_not_spread_from() -> None:
    going, nodes = labelled(bound("a"), app="x"), [zoned(1), zoned(2)]
    assert fit.reasons(spread(), nodes[0], [going], nodes) == [SPREAD]
    going["metadata"]["deletionTimestamp"] = "2026-11-26T00:00:00Z"
    assert fit.reasons(spread(), nodes[0], [going], nodes) == []


def test_requests_count_init_containers_at_their_peak_and_sidecars_for_good() -> None:
    def init(name: str, cpu: str, **more: str) -> Object:
        return {**container(resources={"requests": {"cpu": cpu}}), "name": name, **more}

    what = pod(
        initContainers=[init("a", "3"), init("side", "1", restartPolicy="Always"), init("b", "1500m")],
        containers=asking(cpu="1"),
        overhead={"cpu": "100m"},
    )
    assert fit.total_requests(what) == {"cpu": Fraction(31, 10)}
    assert fit.total_requests(pod(resources={"requests": {"cpu": "5"}}, containers=asking(cpu="1"))) == {"cpu": 5}


def test_a_pod_that_is_being_resized_holds_the_most_of_what_it_asks_for_has_been_granted_and_has() -> None:
    def placed(asked: str, granted: str, has: str) -> Object:
        resources = {"requests": {"cpu": asked}}
        spec = {"containers": [{"name": "main", "resources": resources}]}
        told = {"name": "main", "allocatedResources": {"cpu": granted}, "resources": {"requests": {"cpu": has}}}
        return {"metadata": {"name": "p"}, "spec": spec, "status": {"containerStatuses": [told]}}

    for shuffled in (("2", "1", "1"), ("1", "2", "1"), ("1", "1", "2"), ("2", "2", "2")):
        assert fit.held_requests(placed(*shuffled)) == {"cpu": 2}
