"""The twin is the same on processors with narrower vectors than this one's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/test_twin_vector.py",
    "tests/test_twin_reference.py::test_a_busy_chain_of_four_layers_equals_the_reference",
)
# Whatever this processor has, the twin is told of less, and so is the compiler.
CHILD = """
import sys
import llvmlite.binding
features = {name: name in {allowed} for name in llvmlite.binding.get_host_cpu_features()}
llvmlite.binding.get_host_cpu_features = lambda: features
import pytest
from speckfarm_server.twin.vector import LANES, MASK_REGISTERS
assert (LANES, MASK_REGISTERS) == ({lanes}, False), LANES
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *{tests}]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cpu", "allowed", "lanes"), [("haswell", ("avx2",), 16), ("x86-64", (), 8)]
)
def test_narrower_vectors_give_the_same(
    cpu: str, allowed: tuple[str, ...], lanes: int, tmp_path: Path
) -> None:
    code = CHILD.replace("{allowed}", repr(allowed)).replace("{lanes}", str(lanes))
    code = code.replace("{tests}", repr(TESTS))
    is_x86 = os.uname().machine == "x86_64"
    compiler = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""} if is_x86 else {}
    environment = {**os.environ, **compiler, "NUMBA_CACHE_DIR": str(tmp_path)}

    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert child.returncode == 0, child.stdout + child.stderr
