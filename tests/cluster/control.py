"""`Cluster`: one control plane, started and stopped; what the command line and the tests use.

Crash-only: `start` starts what does not run, whatever ended before and however, and `stop` ends what runs and removes
the folder, whatever is left. Two of them at once for one cluster wait for each other.
"""

import functools
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import commands, etcd, objects, pki, processes, programs
from tests.cluster.commands import Flags
from tests.cluster.place import CLAIMED, Place
from vkcri.config import default_address
from vkcri.errors import ConfigError, Conflict, NotFound, Unavailable, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig

STARTED = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "coredns")
_LOCK_SECONDS = 180.0
_ABSENT = "{} is not there: make cluster"


class Cluster:
    """Cluster `number` of this guest: `kubernetes` as a person types it (1.34, 1.34.2, nothing for the pinned one).

    `flags`: more flags by program, or others in the place of ours. Raises ConfigError for a wrong number or version."""

    def __init__(self, number: int = 0, kubernetes: str = "", flags: Mapping[str, Flags] | None = None) -> None:
        kept = _kept(Place(number, ""))
        self.place = Place(number, kept["address"] if kept else default_address())
        self._kubernetes = kubernetes
        self._flags = flags or {}

    @property
    def server(self) -> str:
        return self.place.server

    @property
    def admin_kubeconfig(self) -> Path:
        return self.place.kubeconfig("admin")

    @property
    def bootstrap_kubeconfig(self) -> Path:
        """A bootstrap token, with which a node asks for a certificate of its own."""
        return self.place.kubeconfig("bootstrap")

    @property
    def version(self) -> str:
        """The release that was started, as `v1.37.2`. Raises ConfigError where nothing was."""
        kept = _kept(self.place)
        if not kept:
            raise ConfigError(_ABSENT.format(self.place.name))
        return kept["version"]

    def node_kubeconfig(self, node: str) -> Path:
        """The identity system:node:NODE, made on first use; the node may read EndpointSlices, too. Raises ConfigError
        where the cluster was not started."""
        if not _kept(self.place):
            raise ConfigError(_ABSENT.format(self.place.name))
        self._create([objects.proxier(node)])
        return pki.node_kubeconfig(self.place, node)

    def client(self) -> Client:
        """The API server for an administrator."""
        return Client(Kubeconfig(self.admin_kubeconfig, "vkcri-cluster"))

    def program(self, name: str) -> Path:
        """A program of the same release, built where it is missing."""
        return programs.ensure(self.version, [name])[name]

    def start(self) -> None:
        """Build what is missing, start what does not run, and return once pods can be created. Raises ConfigError or
        Unavailable with one line that says what is wrong."""
        version = self._resolved()
        built = programs.ensure(version, programs.CONTROL_PLANE)
        store = etcd.ensure()
        with self._changing():
            self._prepare(version)
            self._serve("etcd", commands.etcd(self.place, store), self._listening("etcd", "127.0.0.1"))
            client, extra = self.client(), self._more("apiserver")
            command = commands.apiserver(self.place, built["kube-apiserver"], extra)
            self._serve("kube-apiserver", command, lambda: _succeeds(lambda: _ready(client)))
            for program, flags in (
                ("kube-controller-manager", commands.controller_manager),
                ("kube-scheduler", commands.scheduler),
            ):
                command = flags(self.place, built[program], self._more(program.removeprefix("kube-")))
                self._serve(program, command, self._listening(program, "127.0.0.1"))
            self._create(objects.first(pki.token_secret(self.place)))
            self._wait("kube-controller-manager", lambda: _takes_pods(client))

    def start_dns(self) -> None:
        """CoreDNS at the tenth service address, built where it is missing."""
        program = programs.ensure(self.version, ["coredns"])["coredns"]
        with self._changing():
            self._create(objects.coredns(self.place))
            (self.place.folder / "Corefile").write_text(commands.corefile(self.place))
            command = commands.coredns(self.place, program)
            self._serve("coredns", command, self._listening("coredns", self.place.address))

    def stop(self) -> bool:
        """End every process of this cluster and remove its folder; whether there was anything. Harmless if repeated."""
        folder = self.place.folder
        with self._changing():
            found = processes.running(folder)
            for program in sorted(found, key=_order, reverse=True):
                processes.stop(folder, program)
            there = folder.exists()
            if there:
                shutil.rmtree(folder)
        return bool(found) or there

    def running(self) -> Mapping[str, list[int]]:
        """The pids of what runs, by program."""
        return processes.running(self.place.folder)

    def _resolved(self) -> str:
        """The release to start: what was asked for, else that of the cluster that is there, else the pinned one."""
        if not self._kubernetes and _kept(self.place):
            return self.version
        return programs.resolve(self._kubernetes)

    def _prepare(self, version: str) -> None:
        """Folder, certificates and kubeconfigs."""
        wanted = {"version": version, "address": default_address()}
        kept = _kept(self.place)
        if kept and kept != wanted:
            raise ConfigError(
                f"{self.place.name} is Kubernetes {kept['version']} at {kept['address']}, and {version} at "
                f"{wanted['address']} is wanted: make cluster-stop first"
            )
        for path in (self.place.folder, self.place.logs):
            path.mkdir(mode=0o700, exist_ok=True)
        pki.ensure(self.place)
        beside = self.place.folder / "cluster.json.new"
        beside.write_text(json.dumps(wanted))
        beside.replace(self.place.folder / "cluster.json")

    def _more(self, program: str) -> Flags:
        return self._flags.get(f"kube-{program}", {})

    def _serve(self, program: str, command: Sequence[str], probe: Callable[[], bool]) -> None:
        processes.serve(self.place.folder, program, command, self.place.log(program), probe)

    def _wait(self, program: str, probe: Callable[[], bool]) -> None:
        processes.until(self.place.folder, program, self.place.log(program), probe)

    def _listening(self, program: str, host: str) -> Callable[[], bool]:
        return functools.partial(_listens, (host, self.place.port(program)))

    def _create(self, items: Iterable[objects.Object]) -> None:
        """Each object unless it is there; its namespace may come a moment after the API server is ready."""
        client = self.client()
        for item in items:
            self._wait("kube-apiserver", functools.partial(_created, client, item))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One start or stop at a time. The lock is an abstract socket: it leaves no file and no child inherits it."""
        with socket.socket(socket.AF_UNIX) as lock:
            deadline = time.monotonic() + _LOCK_SECONDS
            while True:
                try:
                    lock.bind(f"\0{self.place.name}-changing")
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise Unavailable(
                            f"{self.place.name} is being started or stopped by another command"
                        ) from error
                    time.sleep(0.1)
            yield


@contextmanager
def claimed(kubernetes: str = "", flags: Mapping[str, Flags] | None = None) -> Iterator[Cluster]:
    """A cluster, not started, whose number nobody else on this guest uses until the end; then it is stopped."""
    for number in CLAIMED:
        with socket.socket(socket.AF_UNIX) as lock:
            try:
                lock.bind(f"\0vkcri-test-cluster-{number}")
            except OSError:
                continue  # another run or worker has it
            cluster = Cluster(number, kubernetes, flags)
            cluster.stop()  # of a run that was killed
            try:
                yield cluster
            finally:
                cluster.stop()
            return
    raise AssertionError(f"every cluster number of {CLAIMED} is in use on this guest")


def _kept(place: Place) -> dict[str, str]:
    """Release and address of the cluster that was started there; empty where none was or the file is half written."""
    try:
        return dict(json.loads((place.folder / "cluster.json").read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def _order(program: str) -> int:
    return STARTED.index(program) if program in STARTED else len(STARTED)


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=1.0).close()
    except OSError:
        return False
    return True


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except VkcriError:
        return False
    return True


def _ready(client: Client) -> None:
    client.request("GET", "/readyz", timeout=5.0)


def _takes_pods(client: Client) -> bool:
    """Whether the namespace `default` has what each pod is given: a service account and the cluster's CA."""
    needed = ("serviceaccounts/default", "configmaps/kube-root-ca.crt")
    return all(_succeeds(functools.partial(client.get, f"/api/v1/namespaces/default/{path}")) for path in needed)


def _created(client: Client, item: objects.Object) -> bool:
    """Whether the object is there now. NotFound: its namespace is not there yet."""
    try:
        client.create(objects.collection(item), item)
    except Conflict:
        return True
    except (NotFound, Unavailable):
        return False
    return True
