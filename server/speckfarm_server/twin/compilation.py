"""Compiling the kernel ahead of use, and keeping the compiled code on disk."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any

from numba import from_dtype, types

from speckfarm_server.twin import arrivals, kernel
from speckfarm_server.twin.records import CORE_DTYPE, FLOW_DTYPE, LINK_DTYPE, SPIKE_DTYPE

SOURCES = sorted(Path(__file__).parent.glob("*.py"))
STAMP = "speckfarm-kernel.sha256"

_log = logging.getLogger(__name__)
_types: Any = types


def _array(dtype: Any) -> Any:
    return types.Array(from_dtype(dtype), 1, "C", aligned=True)


_NUMBERS, _SPIKES, _INT16 = types.int64[::1], _array(SPIKE_DTYPE), types.int16[::1]
_PACKED = types.Array(types.uint64, 1, "C", readonly=True)
_CHIP = _types.Tuple((
    _array(FLOW_DTYPE), _array(CORE_DTYPE), _array(LINK_DTYPE), _NUMBERS, _NUMBERS,
    types.int8[::1], _INT16, _INT16, _NUMBERS, _SPIKES, _NUMBERS, _SPIKES, _NUMBERS,
))  # fmt: skip
_FUNCTIONS: tuple[tuple[Any, tuple[Any, ...]], ...] = (
    (kernel.advance, (_CHIP, _SPIKES, _SPIKES)),
    (arrivals.first_bad, (_PACKED, *[types.int64] * 4)),
    (arrivals.spread, (_PACKED, _NUMBERS, _SPIKES)),
)


def is_compiled() -> bool:
    """Whether `compile_kernels` will find its work done."""
    folder = _cache_folder()
    return folder is not None and _is_current(folder) and len(_indices(folder)) >= len(_FUNCTIONS)


def compile_kernels() -> None:
    """Compile, or load from the cache: a few seconds or 0.3 s; afterwards nothing compiles."""
    if kernel.advance.signatures:
        return
    folder = _cache_folder()
    if folder is not None:
        _forget_others(folder)
    for function, signature in _FUNCTIONS:
        try:
            function.compile(signature)
        except OSError as error:  # from writing the cache, once compiled
            if not function.signatures:
                raise
            _log.warning("The compiled twin could not be cached: %s", error)
        function.disable_compile()


def _cache_folder() -> Path | None:
    """Beside the kernel, else in the user's cache folder, or where NUMBA_CACHE_DIR says."""
    try:
        for function, _ in _FUNCTIONS:
            if not function.stats.cache_path:
                function.enable_caching()
    except RuntimeError as error:  # no folder is writable
        _log.warning("The twin is compiled anew at every start: %s; set NUMBA_CACHE_DIR", error)
        return None
    return Path(_FUNCTIONS[0][0].stats.cache_path)


def _forget_others(folder: Path) -> None:
    """Remove what was compiled from other sources: numba looks at a function's own file alone."""
    if _is_current(folder):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for outdated in folder.glob("*.nb[ic]"):
            outdated.unlink(missing_ok=True)
        (folder / STAMP).write_text(_digest())
    except OSError as error:
        _log.warning("The compiled twin could not be cached: %s", error)


def _is_current(folder: Path) -> bool:
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == _digest()


def _indices(folder: Path) -> list[Path]:
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return sorted(folder.glob(f"*.{python}*.nbi"))


def _digest() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
