"""Who we are towards the API server: a kubeconfig read by the `kubernetes` package, and the connection made from it.

Runs on the caller's thread, behind the client's lock. Keys that stand in the kubeconfig as data are on disk only while
they are loaded into the one SSL context that all connections share (urllib3 by itself makes one a connection). An exec
plugin runs on a thread of its own, because the package waits for it without a deadline. A given file is never written;
`text` makes the one that TLS bootstrap ends in.
"""

import importlib
import logging
import math
import os
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkcri.errors import ConfigError, Refused, Unavailable

LOAD_SECONDS = 20.0  # an exec plugin may ask a cloud; other threads wait meanwhile
POOL_SIZE = 16  # idle connections kept; a watch beyond them has one of its own
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """One reading of the kubeconfig. api: an ApiClient; ca: the cluster's CA as PEM, empty for the system's; stamp:
    changes with the files; cluster: the stanza that was read, its paths absolute; certificate: the client certificate
    as PEM, empty for none; expires: the wall-clock second at which an exec plugin's credentials end."""

    api: Any
    server: str
    ca: str
    stamp: "Stamp"
    loaded: float
    cluster: Mapping[str, Any]
    certificate: bytes = b""
    expires: float = math.inf


Stamp = tuple[tuple[str, int, int], ...]  # path, time of its last change, inode


class Kubeconfig:
    """A kubeconfig file, or several joined by ':' as KUBECONFIG may have them. `awaited`: one that somebody is to
    write, and why it is not there yet; `variable`: what a person set to name it."""

    def __init__(
        self,
        path: str | Path,
        user_agent: str,
        *,
        load_seconds: float = LOAD_SECONDS,
        awaited: str = "",
        variable: str = "KUBECONFIG",
    ) -> None:
        self.path = str(path)
        self._variable = variable
        self._awaited = awaited
        self._user_agent = user_agent
        self._load_seconds = load_seconds
        self._loader: threading.Thread | None = None

    def exists(self) -> bool:
        return any(part.is_file() for part in self._parts())

    def stamp(self, known: Stamp = ()) -> Stamp:
        """Changes when a file is written or replaced: the kubeconfig's, and those that `known`, a Session's, names."""
        files = [str(part) for part in self._parts()]
        return tuple(_stamp(path) for path in dict.fromkeys((*files, *(entry[0] for entry in known))))

    def load(self) -> Session:
        """Read it. Raises ConfigError for a file that is missing or wrong, Refused when its exec plugin gives nothing,
        Unavailable when that does not end in time, or for a file that is awaited."""
        if not self.exists():
            if self._awaited:
                raise Unavailable(f"{self.path}: {self._awaited}")
            raise ConfigError(f"{self.path}: no such kubeconfig ({self._variable})")
        if self._loader is not None and self._loader.is_alive():
            raise Unavailable(f"{self.path}: its exec plugin still has not answered")
        result: list[Session | Exception] = []
        self._loader = threading.Thread(target=self._load, args=(result,), name="kubeconfig", daemon=True)
        self._loader.start()
        self._loader.join(self._load_seconds)
        if not result:
            raise Unavailable(f"{self.path}: its exec plugin did not answer within {self._load_seconds:g} s")
        if isinstance(result[0], Exception):
            raise result[0]
        return result[0]

    def _load(self, result: list[Session | Exception]) -> None:
        """The loading thread: whatever comes of it goes to the caller."""
        try:
            result.append(self._read())
        except Exception as error:  # noqa: BLE001 - raised again by load on the caller's thread
            result.append(error)

    def _read(self) -> Session:
        from kubernetes.client import ApiClient, Configuration
        from kubernetes.config import ConfigException
        from yaml import YAMLError

        kube_config: Any = importlib.import_module("kubernetes.config.kube_config")
        stamp = self.stamp()  # before what it stands for is read
        with tempfile.TemporaryDirectory(prefix="vkcri-") as folder:
            configuration = Configuration()
            try:
                content = kube_config.KubeConfigMerger(self.path).config
                loader = kube_config.KubeConfigLoader(content, config_base_path=None, temp_file_path=folder)
                cluster, files = _stanzas(content, loader.current_context)
                stamp += tuple(_stamp(path) for path in files)
                loader.load_and_set(configuration)
                context = _tls_context(configuration)
                ca = Path(configuration.ssl_ca_cert).read_text(encoding="ascii") if configuration.ssl_ca_cert else ""
                certificate = Path(configuration.cert_file).read_bytes() if configuration.cert_file else b""
            except ConfigException as error:
                raise ConfigError(f"{self.path}: {error}") from error
            except (OSError, ssl.SSLError, ValueError, TypeError, AttributeError, KeyError, YAMLError) as error:
                raise ConfigError(f"{self.path} is no usable kubeconfig: {error}") from error
        if _plugin(content, loader.current_context) and not configuration.api_key and not configuration.cert_file:
            # the package only logs a plugin's failure and goes on without credentials
            raise Refused(f"{self.path}: its exec plugin gave no credentials; the lines above have its error")
        expiry = getattr(loader, "expiry", None)
        configuration.refresh_api_key_hook = None  # it would run the plugin without a deadline, on any thread
        configuration.retries = False
        configuration.keep_alive = True
        configuration.connection_pool_maxsize = POOL_SIZE
        api = ApiClient(configuration)
        api.user_agent = self._user_agent
        _share_context(api, context)
        expires = expiry.timestamp() if expiry else math.inf
        server = str(configuration.host)
        return Session(api, server, ca, stamp, time.monotonic(), cluster, certificate, expires)

    def _parts(self) -> list[Path]:
        return [Path(part).expanduser() for part in self.path.split(os.pathsep) if part]


def wait_for(kubeconfig: Kubeconfig, wait: Callable[[float], bool]) -> bool:
    """Wait until the file is there, saying so at once and every 30 s. False when `wait` says that we are stopping."""
    polls = 0
    while not kubeconfig.exists():
        if polls % 150 == 0:
            log.info("waiting for %s, which the API server writes when it starts", kubeconfig.path)
        polls += 1
        if wait(0.2):
            return False
    return True


def _tls_context(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # Python 3.13's default, which CAs of many clusters do not pass
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def _share_context(api: Any, context: ssl.SSLContext) -> None:
    """One SSL context for all connections. With a context, urllib3 must not be given files to load into it again."""
    settings = api.rest_client.pool_manager.connection_pool_kw
    for name in ("ca_certs", "ca_cert_data", "cert_file", "key_file"):
        settings.pop(name, None)
    settings["ssl_context"] = context
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it warns of every watch beyond POOL_SIZE


def text(cluster: Mapping[str, Any], pair: Path) -> bytes:
    """A kubeconfig for this cluster stanza whose user has a certificate and its key in one file; named as the kubelet
    names its own."""
    import yaml

    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": dict(cluster)}],
        "contexts": [
            {
                "name": "default-context",
                "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"},
            }
        ],
        "current-context": "default-context",
        "users": [
            {"name": "default-auth", "user": {"client-certificate": str(pair), "client-key": str(pair)}},
        ],
    }
    return bytes(yaml.safe_dump(content, default_flow_style=False), "utf-8")


_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _stanzas(content: Any, context: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The context's cluster stanza, its paths absolute, and the files that cluster and user name."""
    cluster: dict[str, Any] = {}
    files: list[str] = []
    for kind in ("cluster", "user"):
        found = _named(content, f"{kind}s", (context.get("context") or {}).get(kind))
        stanza = dict((found.value.get(kind) if found is not None else None) or {})
        for field in _FILES:
            if stanza.get(field) and not stanza.get(f"{field}-data"):
                stanza[field] = os.path.normpath(Path(found.path).parent / stanza[field])
                files.append(stanza[field])
        cluster = stanza if kind == "cluster" else cluster
    return cluster, list(dict.fromkeys(files))


def _plugin(content: Any, context: Mapping[str, Any]) -> bool:
    """Whether the context's user gets its credentials from an exec plugin."""
    user = _named(content, "users", (context.get("context") or {}).get("user"))
    return user is not None and "exec" in (user.value.get("user") or {})


def _named(content: Any, kind: str, name: Any) -> Any:
    """The entry of that name, None where there is none."""
    return content[kind].get_with_name(name, safe=True) if name and kind in content else None


def _stamp(path: str) -> tuple[str, int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (path, 0, 0)
    return (path, found.st_mtime_ns, found.st_ino)
