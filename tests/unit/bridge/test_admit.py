"""Which pods the node refuses, and with what words."""

import copy
from typing import Any, ClassVar

import pytest

from bridge.admission import NODE_LOOK, NODE_SECONDS, Admission
from bridge.admit import Refusal, admit
from bridge.allocation import allocation_of
from bridge.spec.sysctls import allowlist
from bridge.unsupported import unsupported
from tests.unit.bridge.building import a_pod, spec
from vkcri.api import pods, resources
from vkcri.errors import Unavailable

ROOM = {"cpu": "2", "memory": "1Gi", "pods": "3", "ephemeral-storage": "10Gi"}


def asking(**requests: str) -> dict[str, Any]:
    return a_pod(spec(resources={"requests": requests}))


def test_strict_groups_are_refused_where_the_runtime_would_drop_them() -> None:
    pod = a_pod(securityContext={"supplementalGroupsPolicy": "Strict"})
    message = "SupplementalGroupsPolicy=Strict is not supported in this node"
    assert admit(pod, [], ROOM, {}) == Refusal("SupplementalGroupsPolicyNotSupported", message)
    assert admit(pod, [], ROOM, {}, strict_groups=True) is None
    assert admit(a_pod(securityContext={"supplementalGroupsPolicy": "Merge"}), [], ROOM, {}) is None


def test_only_a_pod_that_wants_strict_groups_waits_for_a_runtime_that_does_not_answer() -> None:
    def silent() -> bool:
        raise Unavailable("what the runtime can do is not known yet")

    admission = Admission(lambda: ROOM, dict, silent)
    strict = a_pod(securityContext={"supplementalGroupsPolicy": "Strict"})
    admission.offer("plain", a_pod())
    assert admission.verdict("plain") is None
    admission.offer("strict", strict)
    with pytest.raises(Unavailable):
        admission.verdict("strict")


def test_a_pod_that_fits_is_taken() -> None:
    assert admit(asking(cpu="1"), [asking(cpu="1")], ROOM, {}) is None


@pytest.mark.parametrize(
    ("name", "amount", "refusal"),
    [
        ("cpu", "1500m", Refusal("OutOfcpu", "requested: 1500, used: 1000, capacity: 2000")),
        ("memory", "2Gi", Refusal("OutOfmemory", "requested: 2147483648, used: 0, capacity: 1073741824")),
        ("example.com/gpu", "3", Refusal("OutOfexample.com/gpu", "requested: 3, used: 0, capacity: 2")),
        ("hugepages-2Mi", "2Mi", Refusal("OutOfhugepages-2Mi", "requested: 2097152, used: 0, capacity: 0")),
    ],
)
def test_a_pod_that_asks_for_more_than_is_left_is_refused(name: str, amount: str, refusal: Refusal) -> None:
    node = {"status": {"allocatable": {"example.com/gpu": "2", "cpu": "64"}}}
    found = admit(asking(**{name: amount}), [asking(cpu="1")], ROOM, node)
    message = f"Node didn't have enough resource: {name}, {refusal.message}"
    assert found == Refusal(refusal.reason, message)


def test_an_extended_resource_counts_where_the_node_has_it_and_is_the_clusters_affair_elsewhere() -> None:
    node = {"status": {"allocatable": {"example.com/gpu": "2"}}}
    two = asking(**{"example.com/gpu": "2"})
    assert admit(two, [], ROOM, node) is None
    assert (admit(two, [two], ROOM, node) or Refusal("", "")).reason == "OutOfexample.com/gpu"
    assert admit(asking(**{"example.com/licence": "9"}), [], ROOM, node) is None


def test_the_number_of_pods_is_limited() -> None:
    found = admit(a_pod(), [a_pod(), a_pod(), a_pod()], ROOM, {})
    assert found == Refusal("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3")


def test_limits_count_where_there_are_no_requests() -> None:
    pod = a_pod(spec(resources={"limits": {"cpu": "3"}}))
    assert (admit(pod, [], ROOM, {}) or Refusal("", "")).reason == "OutOfcpu"


class TestPlace:
    node: ClassVar[dict[str, Any]] = {"metadata": {"name": "me", "labels": {"zone": "a", "cores": "8"}}}
    refusal = Refusal(
        "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    )

    def test_a_node_selector_must_match(self) -> None:
        assert admit(a_pod(nodeSelector={"zone": "a"}), [], ROOM, self.node) is None
        assert admit(a_pod(nodeSelector={"zone": "b"}), [], ROOM, self.node) == self.refusal

    @pytest.mark.parametrize(
        ("term", "fits"),
        [
            ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}, True),
            ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, False),
            ({"matchExpressions": [{"key": "disk", "operator": "DoesNotExist"}]}, True),
            ({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}, True),
            ({"matchExpressions": [{"key": "cores", "operator": "Lt", "values": ["4"]}]}, False),
            ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["me"]}]}, True),
            ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["you"]}]}, False),
            ({"matchExpressions": [{"key": "zone", "operator": "Odd"}]}, False),
            ({}, False),
        ],
    )
    def test_required_affinity_must_match(self, term: dict[str, Any], fits: bool) -> None:
        rule = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        pod = a_pod(affinity={"nodeAffinity": rule})
        assert (admit(pod, [], ROOM, self.node) is None) == fits

    def test_without_a_node_there_is_nothing_to_match(self) -> None:
        assert admit(a_pod(nodeSelector={"zone": "b"}), [], ROOM, {}) is None


def with_port(number: int = 80, address: str = "", protocol: str = "TCP", **fields: Any) -> dict[str, Any]:
    port = {"containerPort": 1, "hostPort": number, "hostIP": address, "protocol": protocol}
    return a_pod(spec(ports=[port]), **fields)


@pytest.mark.parametrize(
    ("pod", "free"),
    [
        (with_port(), False),
        (with_port(address="192.0.2.1"), False),
        (with_port(81), True),
        (with_port(protocol="UDP"), True),
        (with_port(0), True),
    ],
)
def test_a_port_of_the_node_is_one_pods(pod: dict[str, Any], free: bool) -> None:
    message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    assert admit(pod, [a_pod(), with_port()], ROOM, {}) == (None if free else Refusal("NodePorts", message))
    assert admit(with_port(address="192.0.2.2"), [with_port(address="192.0.2.1")], ROOM, {}) is None


@pytest.mark.parametrize(
    ("taint", "tolerations", "taken"),
    [
        ({"key": "a", "effect": "NoExecute"}, [], False),
        ({"key": "a", "effect": "NoSchedule"}, [], True),
        ({"key": "a", "effect": "NoExecute"}, [{"key": "a", "operator": "Exists"}], True),
        ({"key": "a", "effect": "NoExecute", "value": "b"}, [{"key": "a", "value": "c"}], False),
    ],
)
def test_a_taint_that_executes_keeps_pods_out_but_for_static_ones(
    taint: dict[str, Any], tolerations: list[dict[str, Any]], taken: bool
) -> None:
    message = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    node = {"metadata": {"name": "n"}, "spec": {"taints": [taint]}}
    pod = a_pod(tolerations=tolerations)
    assert admit(pod, [], ROOM, node) == (None if taken else Refusal("TaintToleration", message))
    pod["metadata"]["annotations"] = {pods.SOURCE_ANNOTATION: "file"}
    assert admit(pod, [], ROOM, node) is None


def test_unsafe_sysctls_are_forbidden() -> None:
    pod = a_pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})
    assert (admit(pod, [], ROOM, {}) or Refusal("", "")).reason == "SysctlForbidden"
    assert admit(pod, [], ROOM, {}, allowed_sysctls=allowlist("kernel.msg*")) is None
    admission = Admission(lambda: ROOM, dict, allowed_sysctls=allowlist("kernel.msgmax"))
    admission.offer("a", pod)
    assert admission.verdict("a") is None


@pytest.mark.parametrize(
    ("os", "labels", "reason", "message"),
    [
        ("linux", {"kubernetes.io/os": "linux"}, "", ""),
        ("windows", {}, "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"),
        (
            "windows",
            {"kubernetes.io/os": "windows"},
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        ),
    ],
)
def test_a_pod_of_another_operating_system_is_refused_in_the_kubelets_words(
    os: str, labels: dict[str, str], reason: str, message: str
) -> None:
    pod = a_pod(os={"name": os}, securityContext={"windowsOptions": {"hostProcess": True}} if reason else {})
    pod["metadata"]["labels"] = labels
    assert admit(pod, [], ROOM, {}) == (Refusal(reason, message) if reason else None)


@pytest.mark.parametrize(
    ("pod", "words"),
    [
        (a_pod(spec(volumeMounts=[{"name": "v", "mountPath": "/x"}] * 2)), "must be unique"),
        (a_pod(spec(volumeMounts=[{"name": "v"}])), "Required value"),
        (a_pod(spec("../up")), "RFC 1123"),
        (a_pod(spec("a"), spec("a")), "Duplicate value"),
    ],
)
def test_what_no_api_server_would_let_through_is_refused(pod: dict[str, Any], words: str) -> None:
    found = admit(pod, [], ROOM, {})
    assert found is not None
    assert found.reason == "InvalidPodSpec"
    assert words in found.message


class TestUnsupported:
    @pytest.mark.parametrize(
        ("pod", "path"),
        [
            (a_pod(spec(volumeDevices=[{"name": "v"}])), "spec.containers[0].volumeDevices"),
            (a_pod(spec(livenessProbe={"exec": {}}), initContainers=[spec(), spec(volumeDevices=[])]), ""),
            (a_pod(initContainers=[spec(volumeDevices=[{}])]), "spec.initContainers[0].volumeDevices"),
            (a_pod(spec(lifecycle={"preStop": {"tcpSocket": {}}})), "spec.containers[0].lifecycle.preStop.tcpSocket"),
            (a_pod(spec(lifecycle={"preStop": {"sleep": {"seconds": 1}}})), ""),
            (a_pod(resourceClaims=[{"name": "x"}]), "spec.resourceClaims"),
            (a_pod(spec(resources={"claims": [{"name": "x"}]})), "spec.containers[0].resources.claims"),
        ],
    )
    def test_fields_are_named_by_their_path(self, pod: dict[str, Any], path: str) -> None:
        assert unsupported(pod) == ([path] if path else [])

    def test_a_pod_that_sets_one_is_refused(self) -> None:
        found = admit(a_pod(spec(volumeDevices=[{}])), [], ROOM, {})
        assert found == Refusal("UnsupportedField", "not supported by this node: spec.containers[0].volumeDevices")


class TestAdmission:
    def pod(self, uid: str, created: str, cpu: str = "1") -> dict[str, Any]:
        pod = asking(cpu=cpu)
        pod["metadata"] |= {"uid": uid, "name": uid, "creationTimestamp": created}
        return pod

    def admission(self) -> Admission:
        return Admission(lambda: ROOM, dict)

    def test_the_oldest_come_first_whoever_asks_first(self) -> None:
        admission = self.admission()
        for uid, created in (("c", "2026-03"), ("a", "2026-01"), ("b", "2026-02")):
            admission.offer(uid, self.pod(uid, created))
        refused = {uid for uid in ("c", "b", "a") if admission.verdict(uid) is not None}
        assert refused == {"c"}

    def test_those_that_are_there_are_counted_first_and_never_refused(self) -> None:
        admission = self.admission()
        for uid, created in (("a", "2026-01"), ("b", "2026-02"), ("c", "2026-03")):
            admission.offer(uid, self.pod(uid, created))
        admission.count(["c", "b", "nobody"])
        assert [admission.verdict(uid) is None for uid in ("a", "b", "c")] == [False, True, True]

    def test_what_was_taken_is_summed_up_once_a_copy_however_many_come_after_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        summed: list[str] = []
        whole = resources.pod_requests

        def counted(pod: Any) -> resources.Amounts:
            summed.append(pods.uid(pod))
            return whole(pod)

        monkeypatch.setattr(resources, "pod_requests", counted)
        admission = Admission(lambda: {"cpu": "2", "pods": "9"}, dict)
        for uid in ("a", "b", "c", "d"):
            admission.offer(uid, self.pod(uid, f"2026-{uid}", "500m"))
            assert admission.verdict(uid) is None
        assert summed.count("a") == 2, "as the one that asks, and as one of the others"
        admission.offer("a", self.pod("a", "2026-a", "500m"))
        admission.offer("e", self.pod("e", "2026-e", "500m"))
        assert admission.verdict("e") == Refusal(
            "OutOfcpu", "Node didn't have enough resource: cpu, requested: 500, used: 2000, capacity: 2000"
        )
        assert summed.count("a") == 3

    def test_the_end_of_one_makes_room(self) -> None:
        admission = self.admission()
        admission.offer("a", self.pod("a", "2026-01", "2"))
        assert admission.verdict("a") is None
        admission.release("a")
        admission.offer("b", self.pod("b", "2026-02", "2"))
        assert admission.verdict("b") is None

    def test_a_refusal_stays_until_the_pod_is_forgotten(self) -> None:
        admission = self.admission()
        admission.offer("a", self.pod("a", "2026-01", "3"))
        assert admission.verdict("a") is not None
        admission.offer("a", self.pod("a", "2026-01", "1"))
        assert admission.verdict("a") is not None
        admission.forget("a")
        admission.offer("a", self.pod("a", "2026-01", "1"))
        assert admission.verdict("a") is None

    def test_an_older_copy_of_a_pod_that_has_ended_takes_no_room(self) -> None:
        admission = self.admission()
        admission.offer("a", self.pod("a", "2026-01", "2"))
        assert admission.verdict("a") is None
        admission.release("a")
        admission.offer("a", self.pod("a", "2026-01", "2"))
        admission.offer("b", self.pod("b", "2026-02", "2"))
        assert admission.verdict("b") is None

    def test_a_node_that_is_short_of_something_takes_no_more_and_keeps_what_it_has(self) -> None:
        short: list[str] = []
        admission = Admission(lambda: ROOM, dict, pressures=lambda: short)
        for uid, created in (("a", "2026-01"), ("b", "2026-02"), ("c", "2026-03")):
            admission.offer(uid, self.pod(uid, created, "100m"))
        admission.count(["a"])
        short.append("DiskPressure")
        assert admission.verdict("a") is None
        assert admission.verdict("b") == Refusal("Evicted", "The node had condition: [DiskPressure]. ")
        short.clear()
        assert admission.verdict("c") is None

    def test_a_uid_that_comes_back_is_judged_anew(self) -> None:
        admission = self.admission()
        admission.offer("a", self.pod("a", "2026-01", "2"))
        admission.release("a")
        admission.forget("a")
        admission.offer("a", self.pod("a", "2026-01", "3"))
        assert admission.verdict("a") is not None

    def test_a_pod_that_the_node_does_not_match_is_judged_by_a_newer_node(self) -> None:
        labels, now = {"zone": "b"}, [1000.0]
        admission = Admission(lambda: ROOM, lambda: {"metadata": {"labels": labels}}, clock=lambda: now[0])
        for uid in ("early", "astray"):
            admission.offer(uid, a_pod(nodeSelector={"zone": uid}))
            assert (admission.verdict(uid), admission.room(uid)) == (None, 1000.0 + NODE_LOOK)
        labels["zone"] = "early"
        now[0] += NODE_LOOK
        assert (admission.verdict("early"), admission.room("early")) == (None, None)
        assert (admission.verdict("astray"), admission.room("astray")) == (None, now[0] + NODE_LOOK)
        now[0] = 1000.0 + NODE_SECONDS
        assert (admission.verdict("astray") or Refusal("", "")).reason == "NodeAffinity"
        admission.forget("astray")
        assert admission.room("astray") is None

    def test_a_resize_is_judged_by_room_and_place_only(self) -> None:
        def silent() -> bool:
            raise Unavailable("the runtime is away")

        admission = Admission(lambda: ROOM, dict, silent)
        for uid in ("a", "b"):
            before = self.pod(uid, "2026-01", "900m")
            before["spec"]["securityContext"] = {"supplementalGroupsPolicy": "Strict"}
            before["spec"]["containers"][0]["volumeDevices"] = [{}]
            admission.offer(uid, before)
        admission.count(["a", "b"])
        wanted = copy.deepcopy(before)
        wanted["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1500m"
        refusal = admission.resize("b", wanted, "2026-03-01T00:00:00Z")[1]
        assert refusal is not None
        assert refusal.reason == "OutOfcpu"
        admission.release("a")
        assert admission.resize("b", wanted, "2026-03-01T00:00:00Z") == (allocation_of(wanted), None)

    def test_a_resize_waits_for_room_and_is_granted_when_there_is_some(self) -> None:
        woken: list[str] = []
        admission = Admission(lambda: ROOM, dict, on_granted=woken.append)
        for uid, created in (("a", "2026-01"), ("b", "2026-02")):
            admission.offer(uid, self.pod(uid, created, "900m"))
            assert admission.verdict(uid) is None
        wanted = self.pod("a", "2026-01", "1500m")
        granted, refusal = admission.resize("a", wanted, "2026-03-01T00:00:00Z")
        assert refusal is not None
        assert refusal.message.endswith("requested: 1500, used: 900, capacity: 2000")
        assert granted == allocation_of(self.pod("a", "2026-01", "900m"))
        admission.release("b")
        assert woken == ["a"]
        assert admission.resize("a", wanted, "2026-03-01T00:00:00Z") == (allocation_of(wanted), None)

    def test_what_was_granted_counts_and_not_what_is_asked_for(self) -> None:
        admission = self.admission()
        admission.offer("a", self.pod("a", "2026-01", "1"))
        assert admission.verdict("a") is None
        admission.resize("a", self.pod("a", "2026-01", "3"), "")
        admission.offer("b", self.pod("b", "2026-02", "1"))
        assert admission.verdict("b") is None
        smaller = self.pod("a", "2026-01", "500m")
        assert admission.resize("a", smaller, "") == (allocation_of(smaller), None)
        admission.offer("c", self.pod("c", "2026-03", "500m"))
        assert admission.verdict("c") is None

    def test_room_goes_to_the_more_important_pod(self) -> None:
        admission = self.admission()
        for uid in ("a", "b", "c"):
            admission.offer(uid, self.pod(uid, "2026-01", "600m"))
            assert admission.verdict(uid) is None
        important = self.pod("b", "2026-01", "1")
        important["spec"]["priority"] = 10
        assert admission.resize("a", self.pod("a", "2026-01", "1"), "2026-03-01T00:00:00Z")[1] is not None
        assert admission.resize("b", important, "2026-03-02T00:00:00Z")[1] is not None
        admission.release("c")
        assert admission.resize("b", important, "2026-03-02T00:00:00Z")[1] is None
        assert admission.resize("a", self.pod("a", "2026-01", "1"), "2026-03-01T00:00:00Z")[1] is None

    def test_a_pod_that_was_there_has_what_its_status_says(self) -> None:
        admission = self.admission()
        wanted = self.pod("a", "2026-01", "3")
        has = {"requests": {"cpu": "1"}}
        wanted["status"] = {
            "containerStatuses": [{"name": "app", "resources": has, "allocatedResources": {"cpu": "1"}}]
        }
        admission.offer("a", wanted)
        admission.count(["a"])
        granted, refusal = admission.resize("a", wanted, "")
        assert granted.containers == {"app": has}
        assert refusal is not None
