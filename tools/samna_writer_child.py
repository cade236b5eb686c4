"""Child of `samna_writer_proof.py`: writes configurations into the vendor's own objects.

Runs on Python 3.10 with samna 0.7.1.0 and numpy, needs no board. Its first line says which names of
our table the library lacks. Then each line of stdin is a seed, and its answer what came of it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "server"), str(ROOT / "client"), str(ROOT / "tools")]

from tests.vendor_configurations import random_configuration  # noqa: E402
from tests.vendor_description import configuration_of  # noqa: E402
from tests.vendor_generator import describe  # noqa: E402
from vendor_child import core_fields, dvs_fields, load_samna  # noqa: E402
from vendor_json_proof import core_values, differing, dvs_values, flat  # noqa: E402

from speckfarm_server.boards.samna.configuration import differences, read, write  # noqa: E402
from speckfarm_server.boards.samna.names import (  # noqa: E402
    CHIP_NAMES,
    Name,
    attributes_of_chip,
    names_missing,
    names_of,
)
from speckfarm_server.chip import CHIPS  # noqa: E402
from speckfarm_server.configuration import Configuration  # noqa: E402
from speckfarm_server.errors import BadInput  # noqa: E402
from speckfarm_server.rules.tables import apply_rules  # noqa: E402
from speckfarm_server.vendor.read import read_vendor_json  # noqa: E402
from speckfarm_server.vendor.write import entries_of, write_vendor_json  # noqa: E402

CHIP = "speck2b"
NAMES = CHIP_NAMES[CHIP]
EDGES = 10  # one in so many is at the edges of the limits, with full memories: that takes long


def main() -> None:
    """Say what is missing, then answer seed by seed."""
    samna = load_samna()
    print(json.dumps(names_report(samna)), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(samna, line.strip())), flush=True)


def names_report(samna: Any) -> dict[str, Any]:
    """Names of speck2b that the library has and lacks; `wrong` should be there and are not."""
    lacking = names_missing(samna, (CHIP,))
    wanted: list[Name] = [*names_of(CHIP).values(), *attributes_of_chip(CHIP)]
    return {
        "run": sum(name.has_run for name in wanted),
        "lacking": [name.text for name in lacking],
        "wrong": [name.text for name in lacking if name.has_run],
    }


def answer(samna: Any, seed: str) -> dict[str, Any]:
    """Write, validate and read back one configuration, unless our check refuses it."""
    run, number = map(int, seed.split(":"))
    is_small = number % EDGES != 0
    made = random_configuration((run << 32) + number) if is_small else described(seed)
    if made is None or apply_rules(made, CHIPS[CHIP]):
        return {"sent": False}
    figures: Counter[str] = Counter()
    target = samna.speck2b.configuration.SpeckConfiguration()
    write(made, target, NAMES)
    faults = [f"{path} is not as written" for path in differences(made, target, NAMES)]
    valid, message = samna.speck2b.validate_configuration(target)
    figures["of them valid to the library, as to us"] += valid
    faults += [] if valid else [f"the library refuses it: {message}"]
    faults += files(made, target, figures)
    faults += way_back(made, target, is_small=is_small, figures=figures)
    if is_small:
        faults += by_index(made, target, figures)
        faults += a_change(made, target, figures)
    return {"sent": True, "faults": faults, "figures": figures}


def described(seed: str) -> Configuration | None:
    """A description at the edges of the limits; None if a field cannot hold a value of it."""
    try:
        made = configuration_of(describe(seed))
    except BadInput:
        return None
    return replace(made, inputs=entries_of(made.cores))


def files(made: Configuration, target: Any, figures: Counter[str]) -> list[str]:
    """What the library writes of its objects, and what we write, key by key."""
    ours = dict(flat(json.loads(write_vendor_json(made))))
    theirs = dict(flat(json.loads(target.to_json())))
    figures["keys and values equal in to_json() and our file"] += len(ours)
    return [f"{path} differs in to_json()" for path in differing(ours, theirs)]


def way_back(
    made: Configuration, target: Any, *, is_small: bool, figures: Counter[str]
) -> list[str]:
    """A description says things of a run, which are not in an object: its file lacks them too."""
    wanted = made if is_small else read_vendor_json(write_vendor_json(made)).configuration
    found = read(target, NAMES)
    equal = (found.digest, dict(found.vendor)) == (wanted.digest, dict(wanted.vendor))
    figures["equal when read back"] += equal
    return [] if equal else ["read back, it is another configuration"]


def by_index(made: Configuration, target: Any, figures: Counter[str]) -> list[str]:
    """Arrays and numbers of the objects, index by index, without our table of names."""
    faults = []
    for core in made.cores:
        wanted, found = core_values(core), core_fields(target.cnn_layers[core.core])
        faults += [f"core {core.core}: {name}" for name in wanted if found[name] != wanted[name]]
        figures["cores compared index by index"] += 1
    if made.dvs is not None:
        wanted, found = dvs_values(made.dvs), dvs_fields(target.dvs_layer)
        faults += [f"camera: {name}" for name in wanted if found[name] != wanted[name]]
        figures["connected camera layers compared"] += 1
    return faults


def a_change(made: Configuration, target: Any, figures: Counter[str]) -> list[str]:
    """A value that somebody else changes afterwards is noticed by its path, and only that."""
    number = made.cores[0].core
    target.cnn_layers[number].threshold_high ^= 1
    found = differences(made, target, NAMES)
    figures["changes behind our back noticed"] += 1
    path = f"cnn_layers[{number}].threshold_high"
    return [] if found == [path] else [f"{path} was changed; noticed: {found}"]


if __name__ == "__main__":
    main()
