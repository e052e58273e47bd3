"""The program cri-bridge: pods from the queue into a CRI runtime, and their status back. Its parts: bridge.assembly.

Survives the absence of the runtime and of api-watcher, at the start too: it waits for nothing, reports the node as not
ready with the reason, and takes up what it finds. When settings.provider names another module or file, that one's
main() runs in our place: it speaks the same queue.
"""

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

from bridge.assembly import Bridge
from bridge.cgroup_driver import refuse_systemd
from bridge.eviction.thresholds import settings_thresholds
from bridge.rival import refuse_rival
from bridge.runtime import Runtime
from bridge.spec.sysctls import allowlist
from vkcri.config import RuntimeSettings, load
from vkcri.errors import ConfigError, Refused, Unavailable
from vkcri.lifecycle import Process, program_main

PROGRAM = "cri-bridge"
PROJECT = Path(__file__).resolve().parent.parent
log = logging.getLogger(__name__)


def run(process: Process, settings: RuntimeSettings) -> None:
    """Kubernetes pods in a CRI runtime."""
    refuse_rival(settings)
    log.info("runtime %s, node %s", settings.runtime_endpoint, settings.node_name)
    Bridge(process, settings).start()
    process.stopping.wait()


def check(settings: RuntimeSettings) -> str:
    """What --check says besides the settings."""
    settings_thresholds(settings)
    allowlist(settings.allowed_unsafe_sysctls)
    if settings.provider:
        _provider(settings.provider)
        return f"provider {settings.provider}"
    refuse_rival(settings)
    _check_driver(settings)
    return f"runtime {settings.runtime_endpoint}"


def _check_driver(settings: RuntimeSettings) -> None:
    """Raises ConfigError where the runtime's cgroup driver is not ours; one that is away is not judged."""
    if not settings.runtime_socket.exists():
        return
    runtime = Runtime(settings.runtime_endpoint)
    try:
        refuse_systemd(runtime)
    except Unavailable:
        return
    except Refused as error:
        raise ConfigError(str(error)) from error
    finally:
        runtime.close()


def cleanup(settings: RuntimeSettings) -> None:
    """What --cleanup removes."""
    from bridge.cleanup import cleanup as remove

    remove(settings)


def main() -> None:
    """The console script: cri-bridge, or the provider that the configuration names."""
    if len(sys.argv) == 1:
        try:
            provider = load(RuntimeSettings).provider
            other = _provider(provider) if provider else None
        except ConfigError:
            other = None  # the program below says it, and ends as programs do
        if other is not None:
            other.main()
            return
    program_main(PROGRAM, RuntimeSettings, run, check=check, cleanup=cleanup)()


def _provider(name: str) -> ModuleType:
    """The module of another provider, by dotted name or by file, the latter relative to the project: supervisord runs
    in /. Raises ConfigError."""
    try:
        if not name.endswith(".py"):
            module = importlib.import_module(name)
        else:
            spec = importlib.util.spec_from_file_location(Path(name).stem, PROJECT / name)
            if spec is None or spec.loader is None:
                raise ConfigError(f"provider={name!r}: no Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as error:
        raise ConfigError(f"provider={name!r}: {error}; set VKCRI_PROVIDER to a module or file with main()") from error
    if not callable(getattr(module, "main", None)):
        raise ConfigError(f"provider={name!r} has no function main()")
    return module


if __name__ == "__main__":
    main()
