"""A tiny API server over real HTTP whose faults a test chooses: answers refused, events withheld, objects changed
behind one's back. What it knows of Kubernetes is what api-watcher relies on; tests/contract has the embedded one.
"""

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.unit.vkcri.kube.scripted import Call, Server, status_object

Object = dict[str, Any]


class TinyApi:
    """Objects by path (/api/v1/namespaces/default/pods/a). `put` and `remove` act as somebody else would."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.version = 100
        self._log: list[tuple[int, str, str, Object]] = []  # version, type, path, object
        self._changed = threading.Condition()
        self._faults: list[tuple[str, str, Callable[[Call], None], float]] = []
        self._faults_lock = threading.Lock()
        self.withhold = False  # watches send nothing while this is set
        self.on_review: Callable[[Object], Object] = lambda body: body
        self.server = Server(self._answer)

    @property
    def url(self) -> str:
        return self.server.url

    def close(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self.server.close()

    def calls(self, method: str, pattern: str) -> list[Call]:
        return [call for call in self.server.calls if call.method == method and re.fullmatch(pattern, call.path)]

    def refuse(self, method: str, pattern: str, status: int, times: float = 1, **headers: str) -> None:
        """Answer that many such requests with the status; math.inf: until forgiven."""
        fault = (method, pattern, lambda call: call.fail(status, "refused by the test", **headers), times)
        with self._faults_lock:
            self._faults.append(fault)

    def forgive(self) -> None:
        """Refuse nothing any more."""
        with self._faults_lock:
            self._faults.clear()

    def put(self, path: str, item: Object) -> Object:
        """Create or replace."""
        with self._changed:
            kind = "MODIFIED" if path in self.objects else "ADDED"
            return self._store(path, copy.deepcopy(item), kind)

    def change(self, path: str, change: Callable[[Object], None]) -> Object:
        with self._changed:
            item = copy.deepcopy(self.objects[path])
            change(item)
            return self._store(path, item, "MODIFIED")

    def remove(self, path: str) -> None:
        with self._changed:
            item = self.objects.pop(path)
            self.version += 1
            item = copy.deepcopy(item)
            item["metadata"]["resourceVersion"] = str(self.version)
            self._log.append((self.version, "DELETED", path, item))
            self._changed.notify_all()

    def release(self) -> None:
        """Let the watches send again."""
        with self._changed:
            self.withhold = False
            self._changed.notify_all()

    def _store(self, path: str, item: Object, kind: str) -> Object:
        self.version += 1
        parts = path.rsplit("/", 1)
        metadata = item.setdefault("metadata", {})
        metadata.setdefault("name", parts[1])
        metadata.setdefault("uid", f"uid-{parts[1]}-{self.version}")
        metadata["resourceVersion"] = str(self.version)
        self.objects[path] = item
        self._log.append((self.version, kind, path, copy.deepcopy(item)))
        self._changed.notify_all()
        return copy.deepcopy(item)

    # HTTP

    def _answer(self, call: Call) -> None:
        fault = self._fault(call)
        if fault:
            fault(call)
        elif call.is_watch:
            self._watch(call)
        elif call.method == "GET" and call.path not in self.objects and _is_collection(call.path):
            self._list(call)
        else:
            with self._changed:
                status, body = getattr(self, f"_{call.method.lower()}")(call)
            call.send(status, body)

    def _fault(self, call: Call) -> Callable[[Call], None] | None:
        with self._faults_lock:
            for index, (method, pattern, answer, times) in enumerate(self._faults):
                if method == call.method and re.fullmatch(pattern, call.path):
                    if times <= 1:
                        del self._faults[index]
                    else:
                        self._faults[index] = (method, pattern, answer, times - 1)
                    return answer
        return None

    def _get(self, call: Call) -> tuple[int, Object]:
        item = self.objects.get(call.path)
        return (200, item) if item is not None else (404, status_object(404, f"{call.path} not found", "NotFound"))

    def _post(self, call: Call) -> tuple[int, Object]:
        if call.path.endswith("/token"):
            return 201, {**call.body, "status": {"token": "t0ken", "expirationTimestamp": "2026-11-23T13:00:00Z"}}
        if call.path.endswith("/selfsubjectreviews"):
            return 201, self.on_review(call.body)
        path = f"{call.path}/{call.body['metadata']['name']}"
        if path in self.objects:
            return 409, status_object(409, f"{path} already exists", "AlreadyExists")
        return 201, self._store(path, call.body, "ADDED")

    def _put(self, call: Call) -> tuple[int, Object]:
        held = self.objects.get(call.path)
        if held is None:
            return self._get(call)
        if call.body["metadata"].get("resourceVersion") != held["metadata"]["resourceVersion"]:
            return 409, status_object(409, "the object has been modified", "Conflict")
        return 200, self._store(call.path, call.body, "MODIFIED")

    def _patch(self, call: Call) -> tuple[int, Object]:
        path = call.path.removesuffix("/status")
        held = self.objects.get(path)
        if held is None:
            return 404, status_object(404, f"{path} not found", "NotFound")
        for field in ("uid", "resourceVersion"):
            wanted = call.body.get("metadata", {}).get(field)
            if wanted and wanted != held["metadata"][field]:
                return 409, status_object(409, f"Precondition failed: {field}", "Conflict")
        return 200, self._store(path, merged(held, call.body), "MODIFIED")

    def _delete(self, call: Call) -> tuple[int, Object]:
        held = self.objects.get(call.path)
        if held is None:
            return 404, status_object(404, "not found", "NotFound")
        uid = ((call.body or {}).get("preconditions") or {}).get("uid")
        if uid and uid != held["metadata"]["uid"]:
            return 409, status_object(409, "Precondition failed: UID", "Conflict")
        self.remove(call.path)
        return 200, {"kind": "Status", "status": "Success"}

    def _list(self, call: Call) -> None:
        with self._changed:
            items = [item for path, item in self.objects.items() if _selected(call, path, item)]
            call.send(
                200,
                {
                    "kind": "ThingList",
                    "apiVersion": "v1",
                    "metadata": {"resourceVersion": str(self.version)},
                    "items": items,
                },
            )

    def _watch(self, call: Call) -> None:
        call.begin()
        version = int(call.params["resourceVersion"])
        while not call.gone.is_set():
            with self._changed:
                due = [entry for entry in self._log if entry[0] > version] if not self.withhold else []
                if not due:
                    self._changed.wait(0.2)
                    continue
            version = due[-1][0]
            for _, kind, path, item in due:
                if _selected(call, path, item):
                    call.event(kind, item)


def _is_collection(path: str) -> bool:
    return bool(re.fullmatch(r"/(api/v1|apis/[^/]+/v1)(/namespaces/[^/]+)?/[a-z]+", path))


def _selected(call: Call, path: str, item: Object) -> bool:
    """Whether an object belongs to the collection that is asked for, all namespaces included."""
    collection = call.path.replace("/api/v1/", "/api/v1/(namespaces/[^/]+/)?").replace(
        "/v1/end", "/v1/(namespaces/[^/]+/)?end"
    )
    if not re.fullmatch(f"{collection}/[^/]+", path):
        return False
    field, _, wanted = call.params.get("fieldSelector", "").partition("=")
    value: Any = item
    for part in field.split(".") if field else ():
        value = value.get(part, {})
    return not field or value == wanted


def merged(held: Any, patch: Any) -> Any:
    """A merge patch with as much of strategic merge as is needed: conditions by type, $patch replace and delete."""
    if not isinstance(patch, dict):
        return patch
    result = dict(held) if isinstance(held, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif key == "conditions":
            result[key] = list(_by_type(result.get(key) or [], value))
        elif isinstance(value, list):
            result[key] = [item for item in value if item != {"$patch": "replace"}]
        else:
            result[key] = merged(result.get(key), value)
    return json.loads(json.dumps(result))


def _by_type(held: list[Object], patch: list[Object]) -> Iterator[Object]:
    changes = {item["type"]: item for item in patch}
    for item in held:
        change = changes.pop(item["type"], {})
        if change.get("$patch") != "delete":
            yield merged(item, change)
    yield from (merged({}, item) for item in changes.values() if "$patch" not in item)
