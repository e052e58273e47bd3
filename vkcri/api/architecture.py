"""What Go, and so Kubernetes and images, call the architecture that the kernel names."""

_GO = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def go_architecture(machine: str) -> str:
    """machine: as uname has it; a name that both share, as s390x, is itself."""
    return _GO.get(machine, machine)
