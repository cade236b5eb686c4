"""What doctor says of samna and devkits, asked of real child processes with the double in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from speckfarm_server.config import BoardConfig, UsbConfig
from speckfarm_server.doctor import devkits
from speckfarm_server.doctor.line import Line, State
from tests.double_world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path / "world")
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    return made


def lines(world: World, *boards: BoardConfig) -> list[Line]:
    usb = UsbConfig(sysfs=str(world.sysfs), nodes=str(world.nodes))
    return list(devkits.judge_devkits(devkits.find_devkits(usb, boards)))


def other_samna(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put another package of that name before the double."""
    (folder / "other" / "samna").mkdir(parents=True)
    (folder / "other" / "samna" / "__init__.py").write_text(text)
    if "pip" not in text:  # else it is to look like PyPI's stub
        (folder / "other" / "samna" / "_samna.abi3.so").touch()
    path = [str(folder / "other"), os.environ["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


def test_each_real_board_is_told_its_devkit(world: World) -> None:
    world.plug("2-1.3")
    world.plug("2-1.4", address=12)

    found = lines(
        world,
        BoardConfig(id="left", kind="real", usb="2-1.3"),
        BoardConfig(id="right", kind="real", usb="2-9"),
    )

    assert [line.state for line in found] == [State.OK, State.OK, State.WRONG]
    assert "every name that the farm drives speck2f with" in found[0].found
    assert found[1].found == "left is Speck2fDevKit at USB 2-1.3"
    assert "No devkit fits board right" in found[2].found
    assert "2-1.4" in found[2].found


def test_devkits_that_no_board_uses_are_named(world: World) -> None:
    world.plug(serial="A1")

    [_, note] = lines(world)

    assert note.state is State.NOTE
    assert "Speck2fDevKit at USB 2-1.3, serial A1" in note.found
    assert "[[boards]]" in note.advice


def test_nothing_is_opened(world: World) -> None:
    world.plug(chatter=True)  # what samna prints does not get into the answer either

    found = lines(world, BoardConfig(id="left", kind="real"))

    assert found[-1].state is State.OK
    assert "open" not in world.log()


def test_names_that_are_missing_are_listed_without_a_board(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_samna(tmp_path, "__version__ = '0.1'", monkeypatch)

    found = lines(world)

    assert [line.check for line in found] == ["names", "names", "devkits"]
    assert "samna.device.get_all_devices" in found[0].found
    assert "samna.speck2f" in found[0].found
    assert "samna.speck2e" in found[1].found
    assert {line.state for line in found} == {State.WRONG}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os; os.abort()", "exit code -6"),
        ("raise OSError('libGL.so.1: cannot open shared object file')", "libGL.so.1"),
        ("import subprocess  # pip install", "PyPI's stub"),
    ],
)
def test_a_samna_that_is_of_no_use_is_told_and_harms_nobody(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    other_samna(tmp_path, text, monkeypatch)

    [line] = lines(world)

    assert line.state is State.WRONG
    assert words in line.found


def test_a_samna_that_hangs_is_given_up(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_samna(tmp_path, "import threading; threading.Event().wait()", monkeypatch)
    monkeypatch.setattr(devkits, "LOOK_LIMIT_S", 1.0)

    [line] = lines(world)

    assert "did not answer within 1 s" in line.found
