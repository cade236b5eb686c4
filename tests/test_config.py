"""farm.toml: defaults, and an error that names the nearest key for one that is not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speckfarm_server.config import FarmConfig, load
from speckfarm_server.errors import BadInput

REAL = "[[boards]]\nid = 'k'\nkind = 'real'\n"
OTHER = "[[boards]]\nid = 'l'\nkind = 'real'\n"


def refusal(tmp_path: Path, text: str) -> BadInput:
    path = tmp_path / "farm.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        load(path)
    return error.value


def test_an_empty_file_means_two_simulated_boards_on_loopback(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text("")

    config = load(path)

    assert config == FarmConfig()
    assert config.listen == "127.0.0.1:50051"
    assert [(board.id, board.kind, board.chip) for board in config.boards] == [
        ("twin-0", "simulated", "speck2f"),
        ("twin-1", "simulated", "speck2f"),
    ]


def test_every_section_is_read(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text(
        'listen = "0.0.0.0:1"\n[limits]\nlease_s = 2\n[tls]\nkey = "k"\n[[boards]]\nid = "x"\n'
    )

    config = load(path)

    assert (config.listen, config.limits.lease_s, config.tls.key) == ("0.0.0.0:1", 2, "k")
    assert [board.id for board in config.boards] == ["x"]


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("lissten = 'x'", "CONFIG_UNKNOWN_KEY", "did you mean listen?"),
        ("[limits]\nleese_s = 1", "CONFIG_UNKNOWN_KEY", "did you mean lease_s?"),
        ("[limits]\nlease_s = 'long'", "CONFIG_WRONG_TYPE", "limits.lease_s"),
        ("listen = 5", "CONFIG_WRONG_TYPE", "listen"),
        ("limits = 5", "CONFIG_WRONG_TYPE", "limits"),
        ("boards = []", "CONFIG_WRONG_TYPE", "boards"),
        ("[[boards]]\nchip = 'speck2f'", "CONFIG_WRONG_TYPE", "boards.id"),
        ("[[boards]]\nid = 'a'\nkind = 'magic'", "CONFIG_BOARD_KIND", "'magic'"),
        ("[[boards]]\nid = 'a'\nchip = 'speck9'", "UNKNOWN_CHIP", "speck2f"),
        ("[[boards]]\nid = 'a'\n[[boards]]\nid = 'a'", "CONFIG_BOARD_TWICE", "'a'"),
        (f"{REAL}first_event = 'lose'", "CONFIG_FIRST_EVENT", "'keep' or 'sacrifice'"),
        (f"{REAL}known_answer = 'no'", "CONFIG_KNOWN_ANSWER", "'required' or 'told'"),
        (f"{REAL}chip = 'speck2b'", "CONFIG_BOARD_CHIP", "speck2f, speck2e can"),
        (
            f"{REAL}usb = '2-1'\n{OTHER}usb = '2-1'",
            "CONFIG_BOARD_TWICE",
            "the usb '2-1'",
        ),
        (f"{REAL}[[boards]]\nid = 's'\nusb = '2-1'", "CONFIG_KEY_UNUSED", "board s: usb is '2-1'"),
        ("[[boards]]\nid = 's'\ndevice = 'D'", "CONFIG_KEY_UNUSED", "remove device"),
        (
            "[[boards]]\nid = 's'\nkind = 'scripted'\nserial = '7'",
            "CONFIG_KEY_UNUSED",
            "the board is scripted",
        ),
        ("listen = ", "CONFIG_UNREADABLE", "farm.toml"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(
    text: str, reason: str, hint: str, tmp_path: Path
) -> None:
    error = refusal(tmp_path, text)

    assert error.reason == reason
    assert hint in error.message


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "a\n", "ä", "a" * 65])
def test_an_id_that_commands_and_files_cannot_have_is_refused(name: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, f"[[boards]]\nid = {json.dumps(name)}")

    assert error.reason == "CONFIG_BOARD_ID"
    assert repr(name) in error.message


@pytest.mark.parametrize("name", ["a", "0", "speck-0", "Rack.1_b", "a" * 64])
def test_an_id_of_letters_digits_and_joints_is_taken(name: str, tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text(f"[[boards]]\nid = '{name}'")

    assert [board.id for board in load(path).boards] == [name]


def test_a_relative_proof_is_below_the_folder_of_the_file_and_an_absolute_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(
        f"[[boards]]\nid = 'b{at}'\nproof = '{proof}'\n"
        for at, proof in enumerate(("p.json", "proofs/p.json", "/srv/p.json", ""))
    )
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "farm.toml").write_text(text)
    monkeypatch.chdir(tmp_path)

    config = load(Path("etc/farm.toml"))

    below = tmp_path / "etc"
    assert [board.proof for board in config.boards] == [
        str(below / "p.json"), str(below / "proofs" / "p.json"), "/srv/p.json", "",
    ]  # fmt: skip
