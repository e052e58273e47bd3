"""Whether a container that has ended is started anew: its restartPolicyRules, its restartPolicy, then the pod's. Pure.

The node asks it to act, the API server to judge a status. The same functions of Kubernetes: pkg/api/v1/pod/util.go.
"""

from collections.abc import Mapping
from typing import Any

RESTART = "Restart"
RESTART_ALL = "RestartAllContainers"
ACTIONS = (RESTART, RESTART_ALL)


def rule_for(container: Mapping[str, Any], exit_code: int) -> str:
    """The action of the first rule that this exit code matches; empty where none does."""
    for rule in container.get("restartPolicyRules") or []:
        codes = rule.get("exitCodes") or {}
        listed = exit_code in (codes.get("values") or [])
        if codes.get("operator") == ("In" if listed else "NotIn"):
            return str(rule.get("action") or "")
    return ""


def restarts(container: Mapping[str, Any], spec: Mapping[str, Any], exit_code: int) -> bool:
    """Whether the container is started again, by itself or with all others. spec: its pod's."""
    own = container.get("restartPolicy")
    if own and rule_for(container, exit_code) in ACTIONS:
        return True
    policy = own or spec.get("restartPolicy") or "Always"
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def may_restart_all(spec: Mapping[str, Any]) -> bool:
    """Whether a container of that pod's spec has a rule by which all of them are started anew."""
    return any(
        rule.get("action") == RESTART_ALL
        for field in ("initContainers", "containers")
        for container in spec.get(field) or []
        for rule in container.get("restartPolicyRules") or []
    )
