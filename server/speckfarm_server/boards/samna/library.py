"""The vendor's library, imported: the only place in the farm that does it."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from types import ModuleType

from speckfarm_server.boards.samna.install import find_samna
from speckfarm_server.boards.samna.names import CHIP_NAMES, missing, names_missing
from speckfarm_server.errors import BoardFault, ErrorClass


def load_library(chip: str) -> ModuleType:
    """Import samna and see that it has all names that a chip is driven with.

    Raises BoardFault VENDOR_NAMES_MISSING (CONFIGURATION), and what `import_library` raises.
    """
    module = import_library()
    lacking = [name.text for name in names_missing(module, [chip]) if not name.is_optional]
    if lacking:
        raise missing(lacking)
    return module


def import_library() -> ModuleType:
    """Import samna into this process, which must own a board, or be there for one look.

    Never imports PyPI's stub, whose import downloads and installs another samna. Raises BoardFault
    SAMNA_UNUSABLE, SAMNA_BROKEN (CONFIGURATION).
    """
    found = find_samna(sys.path)
    if found.fault is not None:
        what, advice = found.fault
        text = f"Real boards cannot be driven: samna is {what}. {advice}"
        raise BoardFault("SAMNA_UNUSABLE", text, ErrorClass.CONFIGURATION, found=found.kind.value)
    try:
        module = importlib.import_module("samna")
        for chip in CHIP_NAMES:
            with suppress(ModuleNotFoundError):  # an attribute and no module in some versions
                importlib.import_module(f"samna.{chip}")
    except Exception as error:  # compiled code, missing system libraries: anything
        text = f"{found.text} cannot be imported: {type(error).__name__}: {error}"
        raise BoardFault("SAMNA_BROKEN", text, ErrorClass.CONFIGURATION) from error
    return module
