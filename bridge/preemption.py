"""Which pods must make room for a critical one: victims(...) -> UIDs, or None where not even all of them would. Pure.

Source: pkg/kubelet/preemption. The least harm comes first: guaranteed pods are spared before burstable ones, these
before those of best effort; among equals as few as possible, and of two that do as well the smaller one. Who preempts
waits for their end, but not for ever (`patience`).
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import inf
from typing import Any

from vkcri.api import pods, resources

Pod = Mapping[str, Any]
Needs = dict[str, Fraction]  # resource -> how much is missing; "pods" counts pods
REASON = "Preempting"
MESSAGE = "Preempted in order to admit critical pod"
DISRUPTION = "Pod was preempted by Kubelet to accommodate a critical pod."
LEAST_PATIENCE = 10.0


def victims(preemptor: Pod, admitted: Mapping[str, Pod], missing: Needs) -> list[str] | None:
    """Of the admitted pods by UID those to end, so that what is missing is there."""
    classes: dict[str, list[str]] = {"BestEffort": [], "Burstable": [], "Guaranteed": []}
    for uid, pod in admitted.items():
        if preemptable(preemptor, pod):
            classes[pods.qos_class(pod)].append(uid)
    requests = {uid: {**resources.pod_requests(pod), "pods": Fraction(1)} for uid, pod in admitted.items()}
    best_effort, burstable, guaranteed = classes.values()
    if _left(missing, [*best_effort, *burstable, *guaranteed], requests):
        return None
    hard = _fewest(guaranteed, _left(missing, [*best_effort, *burstable], requests), requests)
    middle = _fewest(burstable, _left(missing, [*best_effort, *hard], requests), requests)
    light = _fewest(best_effort, _left(missing, [*middle, *hard], requests), requests)
    return [*light, *middle, *hard]


def patience(pod: Pod, most: float = inf) -> float:
    """Seconds that the node waits for a pod that it ends by its own grace, or by `most` seconds (killPodNow): half as
    long again, for what the runtime takes, and ten at least."""
    own = pods.spec(pod).get("terminationGracePeriodSeconds")
    grace = min(float(pods.DEFAULT_GRACE if own is None else own), most)
    return max(LEAST_PATIENCE, grace + grace // 2)


def preemptable(preemptor: Pod, preemptee: Pod) -> bool:
    """Whether the one may end the other: a critical pod one that is not, else the higher priority, where both have
    one."""
    if pods.is_critical(preemptor) and not pods.is_critical(preemptee):
        return True
    mine, its = (pods.spec(pod).get("priority") for pod in (preemptor, preemptee))
    return mine is not None and its is not None and int(mine) > int(its)


def unmet(admitted: Mapping[str, Pod], preemptor: Pod, missing: Needs) -> Needs:
    """What would still be missing if every pod that may be ended were."""
    able = [uid for uid, pod in admitted.items() if preemptable(preemptor, pod)]
    requests = {uid: {**resources.pod_requests(admitted[uid]), "pods": Fraction(1)} for uid in able}
    return _left(missing, able, requests)


def _left(missing: Needs, chosen: Sequence[str], requests: Mapping[str, Mapping[str, Fraction]]) -> Needs:
    """What is missing without the chosen pods."""
    freed = {name: sum((requests[uid].get(name, Fraction(0)) for uid in chosen), Fraction(0)) for name in missing}
    return {name: amount - freed[name] for name, amount in missing.items() if amount > freed[name]}


def _fewest(able: Sequence[str], missing: Needs, requests: Mapping[str, Mapping[str, Fraction]]) -> list[str]:
    """One after the other the pod that comes nearest to what is missing; all of it is there in the end."""
    left, found = list(able), []
    while missing:
        best = min(left, key=lambda uid: (_distance(missing, requests[uid]), *_size(requests[uid])))
        left.remove(best)
        found.append(best)
        missing = _left(missing, [best], requests)
    return found


def _distance(missing: Needs, requested: Mapping[str, Fraction]) -> Fraction:
    """The squared shares that would still be missing, so that each resource weighs alike."""
    shares = (max(Fraction(0), amount - requested.get(name, Fraction(0))) / amount for name, amount in missing.items())
    return sum((share * share for share in shares), Fraction(0))


def _size(requested: Mapping[str, Fraction]) -> tuple[Fraction, Fraction]:
    return requested.get("memory", Fraction(0)), requested.get("cpu", Fraction(0))
