"""`speckfarm plot`: pictures of what a job measured, in a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from speckfarm.cli_flags import number

if TYPE_CHECKING:
    from speckfarm.cli_output import Screen
    from speckfarm.farm import Farm

TEXT = "draw what a succeeded job measured: lags, spikes, synaptic operations, event images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All of the command's own."""
    parser.add_argument("job", metavar="JOB", help="job id")
    parser.add_argument(
        "-O", "--out", metavar="FILE", help="PNG, SVG or PDF to write; default JOB.png here"
    )
    parser.add_argument(
        "--panels", metavar="P1,P2", type=_words, default=[],
        help="lags, latency, raster, synops, images; default all that there is something for",
    )  # fmt: skip
    parser.add_argument(
        "--recording", metavar="N", type=_place_or_name,
        help="recording to draw, counted from 0, or its name; default the one with the largest "
        "p99 lag",
    )  # fmt: skip
    parser.add_argument(
        "--window", metavar="MS", type=number,
        help="length of each event image; default a quarter of the recording",
    )  # fmt: skip
    parser.add_argument(
        "--input", metavar="FILE", help="recording file, if the farm no longer has it"
    )


def plot(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm plot`."""
    from speckfarm.cli_files import check_writable, unwritable
    from speckfarm.cli_output import Answer
    from speckfarm.plot import check_suffix, require_matplotlib

    require_matplotlib()  # before anything is fetched
    path = Path(args.out or f"{args.job}.png")
    check_suffix(path, "--out")
    result = farm.job(args.job).result()
    check_writable("--out", path)
    made = result.plot(
        *args.panels, recording=args.recording, input_file=args.input, window_ms=args.window
    )
    try:
        made.savefig(path)
    except OSError as error:
        raise unwritable("--out", path, error.strerror or str(error)) from None
    name = result.recordings[made.recording].name
    plain = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "job": result.job_id,
        "recording": made.recording,
        "name": name,
        "panels": list(made.panels),
        "left_out": dict(made.left_out),
    }
    lines = [f"wrote {path}: {', '.join(made.panels)}; recording {made.recording} ({name})"]
    lines += [f"without {panel}: {why}" for panel, why in made.left_out.items()]
    row = plain | {"panels": " ".join(made.panels), "left_out": " ".join(made.left_out)}
    screen.show(Answer(plain=plain, rows=[row], above=lines, is_drawn=False))


def _place_or_name(text: str) -> int | str:
    return int(text) if text.isdigit() else text


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
