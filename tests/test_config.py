"""farm.toml: defaults, and an error that names the nearest key for one that is not known."""

from __future__ import annotations

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
        ("listen = ", "CONFIG_UNREADABLE", "farm.toml"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(
    text: str, reason: str, hint: str, tmp_path: Path
) -> None:
    error = refusal(tmp_path, text)

    assert error.reason == reason
    assert hint in error.message
