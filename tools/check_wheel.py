"""Builds the wheel and tries what a user installs: the client alone, then client and server.

Catches what an editable install hides: files missing from the wheel, stubs that were not generated,
imports that only an extra brings.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = """
import importlib.util, sys
import speckfarm, speckfarm.cli, speckfarm.v1.jobs_pb2_grpc
absent = [n for n in ("sqlalchemy", "h5py", "numba", "torch") if importlib.util.find_spec(n)]
assert not absent, absent
"""
SERVER = """
import speckfarm_server.server, speckfarm_server.boards.process
from speckfarm_server.store import database
from pathlib import Path
import tempfile
with tempfile.TemporaryDirectory() as folder:
    database.migrate(database.open_engine(Path(folder) / "farm.db", writes=True))
"""


def main() -> None:
    """Build, install twice, try twice."""
    with tempfile.TemporaryDirectory(prefix="speckfarm-wheel-") as folder:
        python = make_environment(Path(folder) / "environment")
        run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, str(ROOT))
        [wheel] = Path(folder).glob("speckfarm-*.whl")
        run(python, "-m", "pip", "install", "-q", str(wheel))
        run(python, "-c", CLIENT, cwd=folder)
        run(str(Path(python).parent / "speckfarm"), "--help", cwd=folder)
        run(python, "-m", "pip", "install", "-q", f"{wheel}[server]")
        run(python, "-c", SERVER, cwd=folder)
        run(str(Path(python).parent / "speckfarm-server"), "--help", cwd=folder)
        print(f"{wheel.name}: client alone and with the server, both work")


def make_environment(folder: Path) -> str:
    """A new virtual environment; the path of its Python."""
    venv.create(folder, with_pip=True)
    return str(folder / "bin" / "python")


def run(*command: str, cwd: str | None = None) -> None:
    """Run a command; show what it printed if it fails."""
    done = subprocess.run(
        command, cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{done.stdout}")


if __name__ == "__main__":
    main()
