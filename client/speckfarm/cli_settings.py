"""Setting flags of the command line become keyword arguments of the Python interface."""

from __future__ import annotations

import argparse
from typing import cast

from speckfarm.errors import BadRequest
from speckfarm.options import GridOptions, JobOptions
from speckfarm.settings import SettingOptions


def setting_options(args: argparse.Namespace) -> SettingOptions:
    """Settings that were given; the others keep the farm's defaults. Raises BadRequest."""
    found: dict[str, object] = {
        "reset": dict(_pair(text, "--reset", whole=True) for text in args.reset or ()),
        "decimator": dict(_pair(text, "--decimator") for text in args.decimator or ()),
        "cores": dict(_pair(text, "--core") for text in args.core or ()),
        "monitor": _layers(args.monitor) if args.monitor else None,
        "lower_clip": args.lower_clip,
        "input_dt_us": args.input_dt_us,
        "polarity": args.polarity,
        "input_pooling": _pooling(args.input_pooling),
        "crop": args.crop,
        "mirror": args.mirror,
        "swap_xy": args.swap_xy or None,
        "slow_clock_hz": args.slow_clock_hz,
        "state": args.state,
        "order_seed": args.order_seed,
        "readout_threshold": args.readout_threshold,
        "readout_average": args.readout_average,
    }
    given = {key: value for key, value in found.items() if value not in (None, {}, "off")}
    if args.polarity:
        given["polarity"] = args.polarity  # there, off is a value
    return cast("SettingOptions", given)


def job_options(args: argparse.Namespace) -> JobOptions:
    """Settings and how the job is queued."""
    options: JobOptions = {
        **setting_options(args),
        "chip": args.chip,
        "kind": _kind(args),
        "board": args.board,
        "keep_lags": getattr(args, "keep_lags", False),
        "queue_timeout_s": args.queue_timeout,
        "run_timeout_s": args.run_timeout,
        "request_id": None,
    }
    return options


def grid_options(args: argparse.Namespace) -> GridOptions:
    """Settings that all points of a benchmark share, and how its jobs are queued."""
    return {**setting_options(args), "chip": args.chip, "kind": _kind(args), "request_id": None}


def sweep_axes(texts: list[str]) -> dict[str, list[object]]:
    """KEY=V1,V2 as setting -> values."""
    axes: dict[str, list[object]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise _usage("--sweep", text, "KEY=V1,V2, e.g. decimator.0=off,2,4")
        if key in axes:
            text = f"--sweep {key} is given twice; put all its values in one: {key}=V1,V2"
            raise BadRequest("AXIS_TWICE", text, metadata={"argument": "--sweep", "found": key})
        axes[key] = list(values.split(","))
    return axes


def _pooling(sizes: object) -> object:
    """One number is for both axes."""
    return sizes[0] if isinstance(sizes, list) and len(sizes) == 1 else sizes


def _kind(args: argparse.Namespace) -> str | None:
    if args.sim:
        return "simulated"
    return "real" if args.real else None


def _pair(text: str, flag: str, *, whole: bool = False) -> tuple[int | str, str]:
    """LAYER=VALUE; with `whole`, VALUE alone is for all layers."""
    layer, equals, value = text.partition("=")
    if not equals and whole:
        return "all", text
    if not layer.isdigit() or not value:
        raise _usage(flag, text, f"LAYER=VALUE, e.g. {flag} 0=4")
    if not whole and value != "off" and not value.lstrip("-").isdigit():
        raise _usage(flag, text, f"a whole number after the =, e.g. {flag} 0=4,")
    return int(layer), value


def _layers(text: str) -> list[str]:
    layers = [] if text == "off" else text.split(",")
    if not all(layer.isdigit() or layer == "input" for layer in layers):
        raise _usage("--monitor", text, "a list of layers, e.g. --monitor 0,2 or --monitor input,")
    return layers


def _usage(flag: str, found: str, wanted: str) -> BadRequest:
    text = f"{flag} {found} is not understood; {wanted} is wanted"
    return BadRequest("BAD_ARGUMENT", text, metadata={"argument": flag, "found": found})
