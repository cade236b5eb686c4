"""Makes client/speckfarm/v1 from protos/speckfarm/v1; directory = package: nothing is patched."""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

PACKAGE = Path("speckfarm") / "v1"


def generate(root: Path) -> None:
    """Replace the stubs in one move; a proto with an error leaves the old ones in place."""
    from grpc_tools import protoc  # only the build environment has it

    protos = sorted((root / "protos" / PACKAGE).glob("*.proto"))
    well_known = Path(importlib.util.find_spec("grpc_tools").origin).parent / "_proto"  # type: ignore
    target = root / "client" / PACKAGE
    with tempfile.TemporaryDirectory(dir=root / "client") as scratch:
        outputs = [
            f"--{kind}_out={scratch}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")
        ]
        includes = [f"-I{root / 'protos'}", f"-I{well_known}"]
        command = ["protoc", *includes, *plugins(), *outputs, *map(str, protos)]
        if protoc.main(command) != 0:
            raise SystemExit("protos do not compile; the stubs were left as they were")
        made = Path(scratch) / PACKAGE
        (made / "__init__.py").write_text('"""Generated from protos/speckfarm/v1."""\n')
        if target.exists():
            target.rename(Path(scratch) / "old")
        made.rename(target)


def plugins() -> list[str]:
    """Where mypy-protobuf's two plugins are: beside this Python, or on the path of a build."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    names = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    return [f"--plugin={name}={shutil.which(name, path=path)}" for name in names]


if __name__ == "__main__":
    generate(Path(__file__).resolve().parent.parent)
    print("client/speckfarm/v1 is up to date", file=sys.stderr)
