"""The double of samna in this process: its library, a world, and a board driven as documented."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from speckfarm_server.boards.samna.configuration import read, write
from speckfarm_server.boards.samna.names import CHIP_NAMES, names_of, resolve
from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.twin import Twin
from tests.double_world import World
from tests.reference_twin import Event
from tests.twin_builders import core, pack_events

ONE = core([[[[100]]]], (4, 4), core=3)  # each spike in gives one out
Seen = list[tuple[int, int, int, int, int]]  # stamp, core, feature, y, x


class Time:
    """The time of all boards, as far as a test has let it pass."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Library:
    """The double as a process has it, its world, and its time."""

    samna: Any
    world: World
    time: Time


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    world = World(tmp_path_factory.mktemp("world"))
    with pytest.MonkeyPatch.context() as patched, world.entered():
        import samna
        from samna import clock

        time = Time()
        patched.setattr(clock, "now_s", time)
        yield Library(samna, world, time)


@pytest.fixture
def world(library: Library) -> Iterator[World]:
    library.time.now_s = 1000.0
    yield library.world
    for board, _ in list(sys.modules["samna.device"]._opened.values()):
        library.samna.device.close_device(board)
    for usb_path in [each.name for each in library.world.sysfs.iterdir()]:
        library.world.unplug(usb_path)
        (library.world.folder / f"{usb_path}.log").unlink(missing_ok=True)


class Rig:
    """An opened board with its graphs, driven as the documentation says."""

    def __init__(self, library: Library, name: str = "speck2f") -> None:
        self.library, self.name = library, name
        self.chip = getattr(library.samna, name)
        self.board = library.samna.device.open_device(library.samna.device.get_all_devices()[0])
        self.model, self.watch = self.board.get_model(), self.board.get_stop_watch()
        names = names_of(name)
        self.source = resolve(library.samna, names["source"])()
        self.sink = resolve(library.samna, names["sink"])()
        self.graph = library.samna.graph.EventFilterGraph()
        self.graph.sequential([self.source, self.model.get_sink_node()])
        self.graph.sequential([self.model.get_source_node(), self.sink])
        self.graph.start()

    def apply(self, configuration: Configuration) -> None:
        """Write a configuration; it has not taken effect."""
        made = self.chip.configuration.SpeckConfiguration()
        write(configuration, made, CHIP_NAMES[self.name])
        assert self.chip.validate_configuration(made) == (True, "")
        self.model.apply_configuration(made)

    def load(self, configuration: Configuration) -> None:
        """Write a configuration, wait, and start the watch at 0; the slow clock stays off."""
        if configuration.slow_clock_hz is not None:
            self.board.get_io_module().set_slow_clk_rate(int(configuration.slow_clock_hz))
        self.apply(configuration)
        self.later(30_000)
        self.begin()

    def begin(self) -> None:
        """A recording begins."""
        self.watch.start()
        self.watch.reset()
        self._zero_s = self.library.time.now_s

    def slow_clock(self, *, is_on: bool) -> None:
        """Switch the slow clock, at the rate of the configuration that was loaded."""
        self.board.get_io_module().set_slow_clk(is_on)

    def later(self, us: float) -> None:
        """Let time pass."""
        self.library.time.now_s += us / 1e6

    def at_us(self, us: float) -> None:
        """Let the watch show so much, and a little more."""
        self.library.time.now_s = max(self.library.time.now_s, self._zero_s + (us + 0.1) / 1e6)

    def event(self, kind: str, **fields: int) -> Any:
        """An event of the chip."""
        made = getattr(self.chip.event, kind)()
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    def spikes(self, events: Sequence[Event], *cores: int) -> list[Any]:
        """Each event as one spike to each core."""
        return [
            self.event("Spike", layer=core, feature=e.feature, x=e.x, y=e.y, timestamp=e.t_us)
            for e in events
            for core in cores
        ]

    def seen(self) -> Seen:
        """Spikes that have come out."""
        return [
            (e.timestamp, e.layer, e.feature, e.y, e.x)
            for e in self.sink.get_events()
            if isinstance(e, self.chip.event.Spike)
        ]

    def all_in(self, *events: Any) -> Seen:
        """Spikes that come of these within a second."""
        self.source.write(list(events))
        self.later(1e6)
        return self.seen()


@pytest.fixture
def opened(library: Library, world: World) -> Callable[..., Rig]:
    def open_rig(**behaviour: Any) -> Rig:
        world.plug(**behaviour)
        return Rig(library)

    return open_rig


def expected(configuration: Configuration, events: Sequence[Event]) -> Seen:
    """What the twin gives, as a board says it; without what the pins of the readout tell."""
    cores = {each.layer: each.core for each in configuration.cores}
    return [
        (t_ns // 1000, cores[layer], feature, y, x)
        for t_ns, _, layer, feature, y, x in Twin(configuration)
        .run(pack_events(list(events)))
        .tolist()
        if layer in cores
    ]


def ticks_us(configuration: Configuration, events: Sequence[Event]) -> tuple[int, int]:
    """When to switch a board's slow clock on and off, so that it ticks as often as the twin's."""
    twin, hz, first_ns = Twin(configuration), configuration.slow_clock_hz, events[0].t_us * 1000
    assert hz is not None
    twin.run(pack_events(list(events)))
    period_ns = round(1e9 / hz)
    ticks = (int(twin._machine.flow["horizon_ns"]) - first_ns) // period_ns
    return events[0].t_us, -(-(first_ns + ticks * period_ns) // 1000)


def as_held(library: Library, wanted: Configuration) -> Configuration:
    """A configuration as it is read from the object that it is written into."""
    made = library.samna.speck2f.configuration.SpeckConfiguration()
    write(wanted, made, CHIP_NAMES["speck2f"])
    return replace(read(made, CHIP_NAMES["speck2f"]), slow_clock_hz=wanted.slow_clock_hz)


def pulses(*times_us: int) -> list[Event]:
    return [Event(t_us, 0, 1, 2) for t_us in times_us]
