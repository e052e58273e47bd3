"""Who may read a volume: fsGroup on what the pod writes, and the one user that all containers of a pod share."""

from vkcri.api import pods


def fs_group(pod: pods.Pod) -> int | None:
    group = (pods.spec(pod).get("securityContext") or {}).get("fsGroup")
    return None if group is None else int(group)


def common_user(pod: pods.Pod) -> int | None:
    """The runAsUser of every container, if they all name the same one: tokens are then theirs alone."""
    shared = (pods.spec(pod).get("securityContext") or {}).get("runAsUser")
    users = set()
    for _, container in pods.all_containers(pod):
        own = (container.get("securityContext") or {}).get("runAsUser")
        users.add(shared if own is None else own)
    if len(users) != 1:
        return None
    user = users.pop()
    return None if user is None else int(user)
