"""Whole jobs on devkits through gRPC, queue, board process and samna's double: the farm's road.

The double is made from the vendor's documentation; nothing here says what hardware does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import speckfarm
from speckfarm.cli import main
from tests.double_world import World
from tests.farm_follow import end_of, follow_board, follow_to, rows
from tests.farm_process import FarmProcess

pytestmark = pytest.mark.system

PORTS = {"devkit-0": "2-1.3", "devkit-1": "2-1.4"}
TWIN = '[[boards]]\nid = "twin-0"\n'
LEASE_S = 3.0
RETRY_S = 5.0
LIMITS = f"[limits]\nlease_s = {LEASE_S}\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("usb"))
    for number, port in enumerate(PORTS.values()):
        made.plug(port, address=9 + number)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in made.env.items():
            patched.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, world: World) -> Iterator[FarmProcess]:
    """Two devkits and a twin."""
    folder = tmp_path_factory.mktemp("devkits")
    process = FarmProcess(folder / "data", LIMITS + world.farm_toml(PORTS) + TWIN).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


@pytest.fixture
def command(own: FarmProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line of that farm's user."""
    monkeypatch.setenv("SPECKFARM_SERVER", own.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", own.token)
    return lambda *words: main(list(map(str, words)))


@pytest.fixture
def behave(world: World) -> Iterator[Callable[..., None]]:
    """Let both devkits do something wrong until the end of the test."""
    changed: set[str] = set()

    def change(port: str | None = None, **behaviour: object) -> None:
        changed.update(behaviour)
        for each in PORTS.values() if port is None else [port]:
            world.behave(each, **behaviour)

    yield change
    change(**dict.fromkeys(changed))


def test_a_job_runs_on_a_devkit_unless_a_twin_is_asked_for(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    real = farm.run(digits_model, one_digit).wait(timeout=60)
    twin = farm.run(digits_model, one_digit, kind="simulated").wait(timeout=60)

    assert (real.board_kind, twin.board_kind) == ("real", "simulated")
    assert real.predictions.tolist() == twin.predictions.tolist()
    assert real.recordings[0].counts == twin.recordings[0].counts
    assert np.array_equal(np.sort(real.spikes), np.sort(twin.spikes))
    assert (real.recordings[0].ending, twin.recordings[0].ending) == ("quiet", "served")
    assert (real.latency.method, twin.latency.method) == ("estimated", "exact")
    assert real.device is not None
    assert real.device.usb_path in PORTS.values()
    assert twin.device is None
    assert set(real.power_w) >= {"VDD_IO", "VDD_RAM", "VDD_LOGIC"}


def test_a_benchmark_runs_on_devkits_and_never_mixes_kinds(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    bench = farm.benchmark(digits_model, one_digit, sweep={"decimator.3": [None, 2]})

    plain = bench.wait(timeout=60).to_dict()
    table = bench.table()

    assert plain["board_kind"] == "real"
    assert table[1]["output_spikes"] == table[0]["output_spikes"] // 2


def test_the_command_line_shows_devkits_and_what_ran_on_them(
    command: Callable[..., int],
    digits_model: Path,
    one_digit: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command("boards", "-o", "json") == 0
    boards = {each["board"]: each for each in json.loads(capsys.readouterr().out)}
    assert command("run", digits_model, one_digit, "-o", "json") == 0
    result = json.loads(capsys.readouterr().out)

    assert boards["devkit-1"]["device"]["usb_path"] == "2-1.4"
    assert boards["twin-0"]["device"] is None
    assert result["board_kind"] == "real"
    assert result["device"]["type"] == "Speck2fDevKit"


def test_flash_only_configures(farm: speckfarm.Farm, digits_model: Path) -> None:
    result = farm.flash(digits_model, board="devkit-0", lower_clip=-4.0).wait(timeout=60)

    assert result.recordings == ()
    assert result.timings_ms["configure"] > 0


def test_a_cancel_frees_the_devkit_and_leaves_nothing_in_it(
    farm: speckfarm.Farm, digits_model: Path, digits_recordings: Path, one_digit: Path
) -> None:
    before = farm.run(digits_model, one_digit, board="devkit-0").wait(timeout=60)
    job = farm.run(digits_model, digits_recordings, board="devkit-0")
    follow_to(job, "RUNNING")

    job.cancel()

    assert end_of(job) == "CANCELLED"
    after = farm.run(digits_model, one_digit, board="devkit-0").wait(timeout=60)
    assert after.recordings[0].counts == before.recordings[0].counts


@pytest.mark.parametrize(
    ("behaviour", "limit_s"),
    [
        ({"crash": {"value": "configure", "times": 1}}, RETRY_S),
        ({"crash": {"value": "write", "times": 1}}, RETRY_S),
        ({"fail_configure": {"times": 1}}, RETRY_S),
        ({"broken_handle": {"times": 1}}, RETRY_S),
        ({"hang": {"value": "read", "times": 1}}, RETRY_S + LEASE_S),
        ({"hang": {"value": "configure", "times": 1}}, RETRY_S + LEASE_S),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_a_job_whose_devkit_fails_runs_on_the_other_in_time(
    own: FarmProcess,
    farm: speckfarm.Farm,
    behave: Callable[..., None],
    digits_model: Path,
    one_digit: Path,
    behaviour: dict[str, object],
    limit_s: float,
) -> None:
    farm.run(digits_model, one_digit, board="devkit-0").wait(timeout=60)  # it is well
    farm.drain("devkit-1")
    behave(PORTS["devkit-0"], **behaviour)

    job = farm.run(digits_model, one_digit, reset="zero")  # which is not loaded
    follow_to(job, "ASSIGNED")
    farm.undrain("devkit-1")

    events = list(job.watch(timeout=60))
    begun = [event.time for event in events if event.state == "ASSIGNED"]
    assert events[-1].state == "SUCCEEDED"
    assert [each.board for each in attempts(own, job)] == ["devkit-0", "devkit-1"]
    assert (begun[1] - begun[0]).total_seconds() < limit_s


def test_a_devkit_that_fails_twice_gets_no_jobs_until_it_answers_as_it_should(
    own: FarmProcess,
    farm: speckfarm.Farm,
    behave: Callable[..., None],
    digits_model: Path,
    one_digit: Path,
) -> None:
    farm.run(digits_model, one_digit, board="devkit-0").wait(timeout=60)
    behave(PORTS["devkit-0"], broken_handle=True)

    jobs = [farm.run(digits_model, one_digit, board="devkit-0") for _ in range(2)]
    board = follow_board(farm, "devkit-0", lambda each: each.health == "bad")
    elsewhere = farm.run(digits_model, one_digit).wait(timeout=60)
    behave(PORTS["devkit-0"], broken_handle=False)

    assert board.faults >= 2
    assert elsewhere.board == "devkit-1"
    follow_board(farm, "devkit-0", lambda each: each.health == "good")
    for job in jobs:
        end_of(job)
    assert farm.run(digits_model, one_digit, board="devkit-0").wait(timeout=60).board == "devkit-0"


def test_a_devkit_that_is_pulled_out_comes_back_and_is_asked_for_the_known_answer(
    farm: speckfarm.Farm, world: World, digits_model: Path, one_digit: Path
) -> None:
    farm.run(digits_model, one_digit, board="devkit-1").wait(timeout=60)

    world.unplug(PORTS["devkit-1"])
    gone = follow_board(farm, "devkit-1", lambda each: each.state != "idle")
    world.plug(PORTS["devkit-1"], address=20)
    back = follow_board(farm, "devkit-1", lambda each: each.health == "good" and each.device)

    assert gone.health != "good"
    assert back.device is not None
    assert back.device.usb_address == 20
    assert (
        farm.run(digits_model, one_digit, board="devkit-1").wait(timeout=60).device == back.device
    )


def test_another_devkit_in_the_same_port_is_noticed(
    own: FarmProcess, farm: speckfarm.Farm, world: World, digits_model: Path, one_digit: Path
) -> None:
    farm.run(digits_model, one_digit, board="devkit-1").wait(timeout=60)

    world.replug(PORTS["devkit-1"], serial="Z9")
    board = follow_board(farm, "devkit-1", lambda each: each.device and each.device.serial == "Z9")

    follow_board(farm, "devkit-1", lambda each: not each.enabled)
    farm.undrain("devkit-1")
    result = farm.run(digits_model, one_digit, board="devkit-1").wait(timeout=60)
    assert result.device == board.device
    assert ("board.swapped",) in rows(own, "SELECT event FROM events WHERE board = 'devkit-1'")


def test_a_server_that_is_killed_while_it_configures_leaves_the_devkit_to_the_next(
    own: FarmProcess,
    farm: speckfarm.Farm,
    behave: Callable[..., None],
    digits_model: Path,
    one_digit: Path,
) -> None:
    farm.run(digits_model, one_digit, board="devkit-0").wait(timeout=60)
    behave(PORTS["devkit-0"], configure_ms=2000)
    job = farm.run(digits_model, one_digit, reset="zero", lower_clip=-2.0, board="devkit-0")
    follow_to(job, "CONFIGURING")

    own.kill()
    own.start(listen=own.address)

    assert end_of(job) == "SUCCEEDED"
    assert [each.board for each in attempts(own, job)] == ["devkit-0"]


def test_a_devkit_is_one_board_of_one_farm(
    own: FarmProcess, world: World, make_server: Callable[..., FarmProcess], farm: speckfarm.Farm
) -> None:
    follow_board(farm, "devkit-0", lambda each: each.health == "good")
    other = make_server(world.farm_toml({"mine": PORTS["devkit-0"]}) + TWIN)

    with other.connect() as theirs:
        board = follow_board(theirs, "mine", lambda each: each.state == "offline" and each.message)

    assert "Another process holds Speck2fDevKit at USB 2-1.3" in board.message
    assert board.health != "good"
    assert next(each for each in farm.boards() if each.board == "devkit-0").health == "good"


def test_a_recording_too_long_for_a_devkit_is_refused_before_it_waits(
    farm: speckfarm.Farm, digits_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "hours.npz"
    columns = {"x": [1, 2], "y": [1, 2], "p": [0, 0]}
    np.savez(path, t=[0, 1 << 32], **columns)

    with pytest.raises(speckfarm.BadRequest) as error:
        farm.run(digits_model, path)

    assert error.value.reason == "RECORDING_TOO_LONG"
    assert error.value.metadata["allowed_us"] == "4234967296"


def test_what_samna_prints_goes_into_the_log_and_nowhere_else(
    own: FarmProcess,
    farm: speckfarm.Farm,
    behave: Callable[..., None],
    digits_model: Path,
    one_digit: Path,
) -> None:
    behave(chatter=True)

    result = farm.run(digits_model, one_digit, lower_clip=-3.0).wait(timeout=60)

    assert result.board_kind == "real"
    assert any("samna" in line for line in own.log if "apply" in line)


class Attempt:
    """A row of what is kept of attempts."""

    def __init__(self, board: str, outcome: str) -> None:
        self.board, self.outcome = board, outcome


def attempts(server: FarmProcess, job: speckfarm.Job) -> list[Attempt]:
    query = "SELECT board, outcome FROM attempts WHERE job = ? ORDER BY attempt"
    return [Attempt(str(board), str(outcome)) for board, outcome in rows(server, query, job.id)]
