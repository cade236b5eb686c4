"""`speckfarm export`: a network of the user's own module, on the user's own machine, as NIR."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from speckfarm.cli_flags import number
from speckfarm.errors import BadRequest

if TYPE_CHECKING:
    from torch import nn

    from speckfarm.cli_output import Screen
    from speckfarm.cli_parser import Parser, Subparsers

TEXT = "write a sinabs or torch network of your own module as a NIR file"


def add_export(commands: Subparsers) -> Parser:
    """Add the command; what all commands take is added by the caller."""
    export = commands.add_parser("export", help=TEXT, description=TEXT[0].upper() + TEXT[1:] + ".")
    export.add_argument(
        "network", metavar="MODULE:OBJECT", type=_reference,
        help="network, or function without arguments that returns it, e.g. train:load; imported "
        "here, from the current folder, as `python -m` does",
    )  # fmt: skip
    export.add_argument("out", metavar="OUT.nir", help="file to write")
    export.add_argument(
        "--input-shape", metavar="C,H,W", type=_shape, required=True,
        help="features, height, width, e.g. 2,34,34; or features alone",
    )  # fmt: skip
    export.add_argument(
        "--reset", choices=("subtract", "zero"),
        help="record this for all layers instead of what their reset_fn says",
    )  # fmt: skip
    export.add_argument(
        "--lower-clip", metavar="X", type=number,
        help="record this lower clip, times threshold, for all layers instead of min_v_mem",
    )  # fmt: skip
    return export


def run_export(args: argparse.Namespace, screen: Screen) -> int:
    """`speckfarm export`; needs no farm. Returns 0, or raises BadRequest."""
    from speckfarm.cli_output import Answer
    from speckfarm.export import ExportWarning, export
    from speckfarm.trace import require_extra

    require_extra()  # before the user's module fails for the same reason with a traceback
    network = _load(*args.network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExportWarning)  # they come as notes
        exported = export(
            network,
            args.out,
            input_shape=args.input_shape,
            reset=args.reset,
            lower_clip=args.lower_clip,
        )
    for text in exported.warnings:
        screen.note(f"warning: {text}")
    rows = [dict(vars(each)) for each in exported.neurons]
    line = f"wrote {args.out}"
    header = ("name", "reset", "lower_clip", "spike_fn")
    screen.show(Answer(plain=exported.to_dict(), rows=rows, above=[line], header=header))
    return 0


def _reference(text: str) -> tuple[str, str]:
    module, _, name = text.partition(":")
    if not module or not name or module.endswith(".py") or os.sep in module:
        wanted = "MODULE:OBJECT is wanted, as in `import`, e.g. train:network"
        raise argparse.ArgumentTypeError(f"found {text}; {wanted}")
    return module, name


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) not in (1, 3) or not all(part.strip().isdigit() for part in parts):
        wanted = "features,height,width or features alone, whole numbers"
        raise argparse.ArgumentTypeError(f"found {text}; {wanted}")
    return tuple(int(part) for part in parts)


def _load(module_name: str, name: str) -> nn.Module:
    """Import the user's module and find the network in it; a function is called."""
    from torch import nn

    found = _imported(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            raise _refuse(f"{module_name} has no {name}", found=f"{module_name}:{name}")
        found = getattr(found, part)
    network = found if isinstance(found, nn.Module) or not callable(found) else _called(found, name)
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        wanted = "a torch module, or a function that returns one, is wanted"
        raise _refuse(f"{module_name}:{name} is of type {kind}; {wanted}", found=kind)
    return network


def _called(function: Callable[..., object], name: str) -> object:
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        text = f"{name} cannot be called without arguments ({error}); write a function that can"
        raise _refuse(text, found=name) from None
    return function()


def _imported(module_name: str) -> object:
    """Import; what the user's own code raises is shown as Python shows it."""
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise
        text = f"There is no module {error.name} here or among the installed packages"
        raise _refuse(text, found=str(error.name)) from error


def _refuse(text: str, *, found: str) -> BadRequest:
    return BadRequest("BAD_ARGUMENT", text, metadata={"argument": "MODULE:OBJECT", "found": found})
