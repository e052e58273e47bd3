"""What the prober is shown of a pod."""

from bridge.actions import Probed
from bridge.probes.track import Target
from bridge.probes.view import is_probed, view
from tests.unit.bridge.building import NOW, a_pod, deleted, desired, prior, run, seen, spec

PROBE = {"exec": {"command": ["x"]}}


def test_only_containers_and_sidecars_with_probes_are_targets() -> None:
    car = spec("car", restartPolicy="Always", startupProbe=PROBE)
    pod = a_pod(spec(readinessProbe=PROBE), spec("plain"), initContainers=[spec("init"), car])
    shown = view(desired(pod), prior(), seen(run(), run("plain"), run("car"), run("init", "exited")), NOW)
    assert [target.name for target in shown.targets] == ["car", "app"]
    assert shown.address == "10.0.0.9"
    assert not shown.ending
    assert is_probed(pod)
    assert not is_probed(a_pod(spec(), initContainers=[spec("init", startupProbe=PROBE)]))


def test_a_target_is_the_newest_run_and_knows_whether_it_has_started() -> None:
    pod = a_pod(spec(startupProbe=PROBE))
    (target,) = view(desired(pod), prior(), seen(run(count=2)), NOW).targets
    assert target == Target("app", "app-2", running=True, started=False, started_at=NOW - 100)
    good = prior(probed={"app-2": Probed(startup=True)})
    assert view(desired(pod), good, seen(run(count=2)), NOW).targets[0].started
    (target,) = view(desired(pod), prior(), seen(run(state="exited")), NOW).targets
    assert not target.running
    (target,) = view(desired(pod), prior(), seen(), NOW).targets
    assert (target.id, target.running) == ("", False)


def test_a_pod_on_the_nodes_network_is_probed_at_the_nodes_address() -> None:
    pod = a_pod(spec(readinessProbe=PROBE), hostNetwork=True)
    assert view(desired(pod), prior(), seen(run()), NOW).address == "192.0.2.1"


def test_a_pod_that_is_deleted_or_over_its_deadline_is_ending() -> None:
    pod = a_pod(spec(readinessProbe=PROBE))
    assert view(desired(deleted(pod)), prior(), seen(run()), NOW).ending
    limited = a_pod(spec(readinessProbe=PROBE), activeDeadlineSeconds=1)
    known = prior(status={"phase": "Running", "startTime": "2020-01-01T00:00:00Z"})
    assert view(desired(limited), known, seen(run()), NOW).ending


def test_another_resource_version_is_the_same_view() -> None:
    pod = a_pod(spec(readinessProbe=PROBE))
    newer = {**pod, "metadata": {**pod["metadata"], "resourceVersion": "2"}}
    assert view(desired(pod), prior(), seen(run()), NOW) == view(desired(newer), prior(), seen(run()), NOW)
