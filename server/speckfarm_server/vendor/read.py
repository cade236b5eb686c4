"""A file with the vendor's configuration JSON becomes a Configuration; nothing of it is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BadInput, Finding, Severity
from speckfarm_server.vendor.keys import SPECK2B, SPECK2EF, SPECK2EF_CAMEL, Dialect
from speckfarm_server.vendor.tree import Reading, kind_of, read_tree
from speckfarm_server.vendor.values import configuration_of
from speckfarm_server.vendor.write import ROOT, SWITCH, UNKNOWN

MAX_FILE_BYTES = 16 << 20
NAMED_PATHS = 20  # unknown keys that a finding names; the others are counted


@dataclass(frozen=True, kw_only=True, eq=False)
class VendorFile:
    """What a file says; `configuration.chip` stands for all chips with these keys."""

    configuration: Configuration
    findings: tuple[Finding, ...] = ()  # UNKNOWN_KEY


def looks_like_json(data: bytes) -> bool:
    """Whether a file can be the vendor's JSON and nothing else that the farm reads."""
    return data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def read_vendor_json(data: bytes) -> VendorFile:
    """Read what the vendor's `to_json` or `write_vendor_json` wrote.

    Raises BadInput: MODEL_UNREADABLE, MODEL_TOO_LARGE, MISSING_FIELD, VALUE_OUT_OF_RANGE (the
    vendor's own reader lets such numbers wrap), WRONG_SHAPE; all but the first two name the path.
    """
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(f"it has {len(data):,} bytes", len(data))
    try:
        root = _load(data)
        dialect = _dialect(root)
        return _file(read_tree(root, {ROOT: dialect.keys}, dialect), dialect)
    except RecursionError:
        raise _unreadable("objects in it are nested too deeply", "nesting") from None
    except MemoryError:
        raise _too_large("its values do not fit into the parser's memory", len(data)) from None


def _load(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise _unreadable(f"byte {error.start} is not UTF-8", "bytes") from None
    except ValueError as error:  # also numbers of more digits than Python reads
        raise _unreadable(str(error)[:200], "text") from None
    if isinstance(found, dict):
        return found
    raise _unreadable(f"it is {kind_of(found)}, not an object", kind_of(found))


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise _unreadable(f"an object has the key {ascii(twice)[:100]} twice", "key")
    return found


def _dialect(root: Mapping[str, Any]) -> Dialect:
    """By spelling, and by the decimator, which came with speck2e."""
    whole = root.get(ROOT)
    if isinstance(whole, dict) and "cnn_layers" in whole:
        return SPECK2EF
    if isinstance(whole, dict) and "cnnLayers" in whole:
        cores = whole["cnnLayers"]
        first = cores.get("value0") if isinstance(cores, dict) else None
        newer = isinstance(first, dict) and "outputDecimatorEnable" in first
        return SPECK2EF_CAMEL if newer else SPECK2B
    text = f"it has no {ROOT} with cnnLayers or cnn_layers in it"
    raise _unreadable(text, "JSON text")


def _file(reading: Reading, dialect: Dialect) -> VendorFile:
    made = configuration_of(reading.values[ROOT], dialect)
    return VendorFile(
        configuration=replace(made, vendor={**made.vendor, **reading.unknown}),
        findings=_unknown_keys([
            path.removeprefix(UNKNOWN).removesuffix(SWITCH) for path in reading.unknown
        ]),
    )


def _unknown_keys(paths: Sequence[str]) -> tuple[Finding, ...]:
    if not paths:
        return ()
    named = ", ".join(paths[:NAMED_PATHS]) + (" ..." if len(paths) > NAMED_PATHS else "")
    text = (
        f"{len(paths)} values have keys that the farm does not know: {named}. They are kept and "
        "written back, but not checked, and a simulated board does not know them either."
    )
    metadata = {"count": str(len(paths)), "paths": named}
    return (
        Finding(reason="UNKNOWN_KEY", severity=Severity.WARNING, message=text, metadata=metadata),
    )


def _unreadable(text: str, found: str) -> BadInput:
    message = f"This is no configuration as the vendor's to_json() writes it: {text}"
    return BadInput("MODEL_UNREADABLE", message, found=found)


def _too_large(text: str, size: int) -> BadInput:
    message = (
        f"The configuration is too large: {text}; {MAX_FILE_BYTES:,} bytes are read. Write the "
        "JSON again without white space, which is most of it"
    )
    return BadInput("MODEL_TOO_LARGE", message, found_bytes=size, allowed_bytes=MAX_FILE_BYTES)
