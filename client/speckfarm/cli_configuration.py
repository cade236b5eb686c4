"""`speckfarm configuration`: what a model tells the chip, as the vendor's JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from speckfarm.errors import BadRequest

if TYPE_CHECKING:
    from speckfarm.cli_output import Screen
    from speckfarm.farm import Farm

TEXT = "print what a model tells the chip, as JSON for the vendor's library"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the settings."""
    parser.add_argument("model", metavar="MODEL", help="model file, or digest or name on the farm")
    parser.add_argument("--chip", help="chip, e.g. speck2f; default: the farm's first")
    parser.add_argument("-O", "--out", metavar="FILE", help="write it to a file instead")


def configuration(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm configuration`; raises ModelRejected with the findings of `check`."""
    from speckfarm.cli_output import Answer
    from speckfarm.cli_settings import setting_options

    made = farm.configuration(args.model, chip=args.chip, **setting_options(args))
    if not args.out:
        screen.line(made.decode())
        return
    try:
        Path(args.out).write_bytes(made)
    except OSError as error:
        text = f"--out {args.out} cannot be written: {error.strerror or error}"
        metadata = {"argument": "--out", "found": args.out}
        raise BadRequest("BAD_ARGUMENT", text, metadata=metadata) from None
    plain = {"file": args.out, "bytes": len(made)}
    line = f"wrote {args.out}, {len(made):,} bytes"
    screen.show(Answer(plain=plain, rows=[plain], above=[line], is_drawn=False))
