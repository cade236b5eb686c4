"""Constants of a proof file, for a simulated board that shall be like the proved one."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions

FACTORS = "rate_factors"


def proved_assumptions(path: str, *, chip: str | None = None) -> Assumptions:
    """The key `assumptions` of a file that `doctor --prove` wrote; the twin's own without a path.

    Raises BoardFault PROOF_UNREADABLE, PROOF_WRONG; the latter names the key, or says that
    the file is not of `chip`.
    """
    if not path:
        return ASSUMPTIONS
    values = {name: _value(path, name, value) for name, value in _read(path, chip).items()}
    try:
        return replace(ASSUMPTIONS, **values)  # type: ignore[arg-type]
    except ValueError as error:  # begins with the name of the field
        raise _wrong(path, str(error)) from error


def _read(path: str, chip: str | None) -> dict[str, Any]:
    try:
        plain = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        text = (
            f"The proof {path} cannot be read ({error}). Make it again with `speckfarm-server "
            "doctor --prove`, or take `proof` out of farm.toml"
        )
        raise BoardFault("PROOF_UNREADABLE", text, ErrorClass.CONFIGURATION, path=path) from error
    values = plain.get("assumptions") if isinstance(plain, dict) else None
    if not isinstance(values, dict):
        raise _wrong(path, "it has no key assumptions with an object")
    if chip is not None and plain.get("chip", chip) != chip:
        text = f"it is of chip {plain['chip']}, and this board has {chip}; name one of {chip}"
        raise _wrong(path, text)
    return values


def _value(path: str, name: str, value: object) -> object:
    known = {each.name: each.default for each in fields(Assumptions)}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _wrong(path, f"the twin has no assumption {name}{hint}")
    if name == FACTORS:
        if isinstance(value, list) and all(_is_factor(each) for each in value):
            return tuple(float(each) for each in value)
        raise _wrong(path, f"{name} is {value!r}; a list of numbers above 0 is wanted")
    default = known[name]
    wanted = int if default is None else type(default)
    is_right = isinstance(value, wanted) and not isinstance(value, bool)
    if not is_right and not (value is None and default is None):
        raise _wrong(path, f"{name} is {value!r}; a value like {default!r} is wanted")
    return value


def _is_factor(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value > 0  # type: ignore[arg-type,operator]


def _wrong(path: str, text: str) -> BoardFault:
    message = f"The proof {path} does not fit the twin: {text}"
    return BoardFault("PROOF_WRONG", message, ErrorClass.CONFIGURATION, path=path)
