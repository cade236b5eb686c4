"""`speckfarm export` imports the user's module on the user's machine and writes its network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from exported_networks import metadata, parsed

MODULE = """
import torch
from torch import nn
from sinabs.layers import IAFSqueeze

def neurons(low):
    low = None if low is None else torch.tensor(low)
    return IAFSqueeze(batch_size=1, min_v_mem=low)

network = nn.Sequential(nn.Conv2d(2, 3, 3), neurons(-0.5), nn.Conv2d(3, 2, 3), neurons(None))
number = 3

class Kept:
    @staticmethod
    def load():
        return network
"""


def command(folder: Path, *words: str) -> tuple[int, str, str]:
    """`speckfarm export` as a process, with its parser and its function."""
    code = (
        "import sys\n"
        "from speckfarm.cli_export import add_export, run_export\n"
        "from speckfarm.cli_output import Screen\n"
        "from speckfarm.cli_parser import Parser, UsageFault\n"
        "from speckfarm.errors import SpeckfarmError\n"
        "parser = Parser('speckfarm')\n"
        "add_export(parser.add_subparsers())\n"
        "try:\n"
        "    args = parser.parse_args(sys.argv[1:])\n"
        "    sys.exit(run_export(args, Screen('json')))\n"
        "except (SpeckfarmError, UsageFault) as error:\n"
        "    sys.exit(str(error))\n"
    )
    (folder / "mine.py").write_text(MODULE)
    (folder / "broken.py").write_text("import no_such_package_anywhere")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "export", *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", ["network", "Kept.load"])
def test_the_command_exports_a_network_of_the_current_folder(tmp_path: Path, name: str) -> None:
    code, out, notes = command(tmp_path, f"mine:{name}", "a.nir", "--input-shape", "2,9,9")

    assert code == 0, notes
    assert [layer.output_shape for layer in parsed(tmp_path / "a.nir").layers] == [
        (3, 7, 7), (2, 5, 5),
    ]  # fmt: skip
    assert [each["lower_clip"] for each in json.loads(out)["neurons"]] == [-0.5, None]
    assert notes.count("min_v_mem = None") == 1


def test_the_command_records_what_its_flags_say(tmp_path: Path) -> None:
    flags = ("--input-shape", "2,9,9", "--reset", "zero", "--lower-clip=-2")

    code, _, notes = command(tmp_path, "mine:network", "a.nir", *flags)

    assert (code, notes) == (0, "")
    found = metadata(tmp_path / "a.nir", "3")
    assert (found["speckfarm_reset"], found["speckfarm_lower_clip"]) == (b"zero", -2.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mine.py", "--input-shape", "2,9,9"), "MODULE:OBJECT is wanted"),
        (("yours:network", "--input-shape", "2,9,9"), "There is no module yours here"),
        (("mine:nothing", "--input-shape", "2,9,9"), "mine has no nothing"),
        (("mine:number", "--input-shape", "2,9,9"), "mine:number is of type int"),
        (("mine:network", "--input-shape", "2x9x9"), "features,height,width"),
        (("mine:network",), "--input-shape"),
        (("broken:network", "--input-shape", "2,9,9"), "Traceback"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    code, _, error = command(tmp_path, words[0], "a.nir", *words[1:])

    assert code != 0
    assert message in error
    assert not (tmp_path / "a.nir").exists()


def test_no_vendor_sdk_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys, torch; from torch import nn; import sinabs.layers as sl\n"
        "from speckfarm.export import export\n"
        "from speckfarm.training import SynopsLoss\n"
        "low = torch.tensor(-1.0)\n"
        "net = nn.Sequential(nn.Conv2d(2, 3, 3), sl.IAFSqueeze(batch_size=1, min_v_mem=low))\n"
        "SynopsLoss(net, [1.0], step_s=1.0)\n"
        "export(net, 'a.nir', input_shape=(2, 9, 9))\n"
        "print(sorted(name for name in sys.modules if 'samna' in name or 'dynapcnn' in name))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
