"""Generate the code that is built and not committed: `python protos/generate.py`, run by setup.py and `make protos`.

protos/bridge/**.proto become bridge/pb/**_pb2.py and protos/vkcri/**.proto become vkcri/pb/**_pb2.py, each with a
.pyi for mypy. No service stubs are generated: the few modules that speak gRPC name their methods themselves.
"""

import sys
from pathlib import Path

OWNERS = ("vkcri", "bridge")


def protos(root: Path) -> None:
    """Compile every .proto below protos/<owner> into <owner>/pb. Raises SystemExit with protoc's status on an error."""
    import grpc_tools
    from grpc_tools import protoc

    for owner in OWNERS:
        source = root / "protos" / owner
        files = sorted(source.rglob("*.proto"))
        if not files:
            continue
        target = root / owner / "pb"
        target.mkdir(parents=True, exist_ok=True)
        # The mapping `<owner>/pb=<source>` makes protoc see the files where their Python modules will be imported from.
        includes = [f"-I{owner}/pb={source}", f"-I{Path(grpc_tools.__file__).parent / '_proto'}"]
        arguments = ["protoc", *includes, f"--python_out={root}", f"--pyi_out={root}"]
        status = protoc.main([*arguments, *(f"{owner}/pb/{file.relative_to(source)}" for file in files)])
        if status != 0:
            raise SystemExit(status)
        made = {target / file.relative_to(source).with_name(f"{file.stem}_pb2.py") for file in files}
        for stale in set(target.rglob("*_pb2.py")) - made:
            stale.unlink()
            stale.with_suffix(".pyi").unlink(missing_ok=True)
        for folder in (target, *(path for path in target.rglob("*") if path.is_dir() and path.name != "__pycache__")):
            (folder / "__init__.py").touch()


def schema(root: Path) -> None:
    """Write vkcri/apiserver/schema.json from the kubernetes package's model classes (see vkcri/apiserver/models.py)."""
    models = root / "vkcri" / "apiserver" / "models.py"
    if not models.exists():
        return
    sys.path.insert(0, str(root))
    from vkcri.apiserver import models as module

    module.write_schema(root / "vkcri" / "apiserver" / "schema.json")


if __name__ == "__main__":
    here = Path(__file__).resolve().parent.parent
    protos(here)
    schema(here)
