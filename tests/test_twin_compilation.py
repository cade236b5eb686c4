"""The kernel is compiled once, kept on disk, and forgotten when its sources have changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import speckfarm_server
from speckfarm_server.twin.compilation import STAMP

SERVER = Path(speckfarm_server.__file__).parent
TELLS = (
    "import logging; logging.basicConfig(format='%(message)s')\n"
    "from speckfarm_server.twin.compilation import compile_kernels, is_compiled\n"
    "before = is_compiled(); compile_kernels(); print(before, is_compiled())\n"
)


def run_anew(program: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own whose compiled code is kept in a folder."""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment},
    )  # fmt: skip


def compiled_in(folder: Path) -> dict[Path, int]:
    """Files of compiled code with the times at which they were written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nb?")}


def test_what_was_compiled_is_kept_until_its_sources_change(tmp_path):
    assert run_anew(TELLS, tmp_path).stdout.split() == ["False", "True"]
    first = compiled_in(tmp_path)
    assert first

    assert run_anew(TELLS, tmp_path).stdout.split() == ["True", "True"]
    assert compiled_in(tmp_path) == first

    [stamp] = tmp_path.rglob(STAMP)
    digest = stamp.read_text()
    stamp.write_text("0" * 64)  # as if another version of the sources had been compiled
    assert run_anew(TELLS, tmp_path).stdout.split() == ["False", "True"]
    assert stamp.read_text() == digest
    assert compiled_in(tmp_path)
    assert not first.items() & compiled_in(tmp_path).items()


def test_without_any_folder_to_write_to_the_twin_compiles_and_says_so(tmp_path):
    package = tmp_path / "package" / SERVER.name
    shutil.copytree(SERVER, package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    (package / "twin" / "__pycache__").touch()  # no folder, whoever we are
    a_file = tmp_path / "file"
    a_file.touch()

    done = run_anew(
        TELLS,
        a_file / "cache",
        PYTHONPATH=str(package.parent),
        XDG_CACHE_HOME=str(a_file / "cache"),
        HOME=str(a_file),
    )

    assert done.stdout.split() == ["False", "False"]
    assert "The twin is compiled anew at every start" in done.stderr
    assert "set NUMBA_CACHE_DIR" in done.stderr
