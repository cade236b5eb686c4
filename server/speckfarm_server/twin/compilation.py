"""Compiling the kernel ahead of use, and keeping the compiled code on disk."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any

from numba import from_dtype, types

from speckfarm_server.twin import kernel
from speckfarm_server.twin.records import CORE_DTYPE, FLOW_DTYPE, LINK_DTYPE, SPIKE_DTYPE

SOURCES = sorted(Path(__file__).parent.glob("*.py"))
STAMP = "speckfarm-kernel.sha256"

_log = logging.getLogger(__name__)
_dispatcher: Any = kernel.advance
_types: Any = types


def _array(dtype: Any) -> types.Array:
    return types.Array(from_dtype(dtype), 1, "C", aligned=True)


_NUMBERS = types.int64[::1]
_SIGNATURE = (
    _types.Tuple((
        _array(FLOW_DTYPE), _array(CORE_DTYPE), _array(LINK_DTYPE), _NUMBERS, _NUMBERS,
        types.int8[::1], types.int16[::1], types.int16[::1],
        _NUMBERS, _array(SPIKE_DTYPE), _NUMBERS, _array(SPIKE_DTYPE), _NUMBERS,
    )),
    _array(SPIKE_DTYPE),
    _array(SPIKE_DTYPE),
)  # fmt: skip


def is_compiled() -> bool:
    """Whether `compile_kernels` will find its work done."""
    folder = _cache_folder()
    return folder is not None and _is_current(folder) and any(_indices(folder))


def compile_kernels() -> None:
    """Compile, or load from the cache: a few seconds or 0.3 s; afterwards nothing compiles."""
    if _dispatcher.signatures:
        return
    folder = _cache_folder()
    try:
        if folder is not None:
            _forget_others(folder)
        _dispatcher.compile(_SIGNATURE)
    except OSError as error:  # from writing the cache, once compiled
        if not _dispatcher.signatures:
            raise
        _log.warning("The compiled twin could not be cached: %s", error)
    _dispatcher.disable_compile()


def _cache_folder() -> Path | None:
    """Beside the kernel, else in the user's cache folder, or where NUMBA_CACHE_DIR says."""
    if not _dispatcher.stats.cache_path:
        try:
            _dispatcher.enable_caching()
        except RuntimeError as error:  # no folder is writable
            _log.warning("The twin is compiled anew at every start: %s; set NUMBA_CACHE_DIR", error)
            return None
    return Path(_dispatcher.stats.cache_path)


def _forget_others(folder: Path) -> None:
    """Remove what was compiled from other sources: numba looks at the file of `advance` alone."""
    if _is_current(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for index in _indices(folder):
        index.unlink(missing_ok=True)
    (folder / STAMP).write_text(_digest())


def _is_current(folder: Path) -> bool:
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text() == _digest()


def _indices(folder: Path) -> list[Path]:
    python = f"py{sys.version_info.major}{sys.version_info.minor}"
    return sorted(folder.glob(f"kernel.{_dispatcher.__name__}-*.{python}*.nbi"))


def _digest() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()
