"""The event pre-processing layer equals a table of where each pixel goes, for every setting."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm.events import unpack
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.twin.preprocess import preprocess
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event, ReferenceTwin, through_layer
from tests.twin_builders import chip, core, pack_events, recordings, run_cut, run_recording

# y, x: whole map; whole windows; windows left over; a row and one pixel; as the datasheet has it.
CROPS = (
    ((0, 0), (127, 127)),
    ((4, 8), (31, 47)),
    ((1, 3), (29, 30)),
    ((5, 31), (5, 31)),
    ((0, 17), (127, 17)),
    ((126, 2), (127, 100)),
    ((10, 1), (20, 3)),
)
POLARITIES = tuple(product((False, True), repeat=3))  # merge, on_channel, off_channel
SWITCHES = tuple(product((False, True), repeat=3))  # mirror y, mirror x, swap


def camera_events(count: int) -> list[Event]:
    """Every edge of the sensor, and pixels anywhere."""
    rng = np.random.default_rng(0)
    edges = [Event(n, n % 2, y, x) for n, (y, x) in enumerate(product((0, 1, 126, 127), repeat=2))]
    places = rng.integers(0, (2, 128, 128), (count, 3)).tolist()
    return edges + [Event(20 + n // 3, *place) for n, place in enumerate(places)]


EVENTS = camera_events(400)
PACKED = pack_events(EVENTS)


@pytest.mark.parametrize("name", ["speck2f", "speck2b"])
@pytest.mark.parametrize("pooling", list(product((1, 2, 4), repeat=2)))
def test_every_setting_sends_every_event_where_the_table_says(name, pooling):
    for (origin, cut), polarity, switches in product(CROPS, POLARITIES, SWITCHES):
        merge, on_channel, off_channel = polarity
        dvs = DvsConfiguration(
            merge=merge, on_channel=on_channel, off_channel=off_channel, pooling=pooling,
            origin=origin, cut=cut, mirror=switches[:2], mirror_diagonal=switches[2],
        )  # fmt: skip

        found, index = preprocess(PACKED, dvs, find_chip(name))

        expected = by_table(dvs, crops_first=name == "speck2b")
        assert index.tolist() == [at for at, _ in expected]
        events = unpack(found)
        assert events[["feature", "y", "x"]].tolist() == [place for _, place in expected]
        assert events["t"].tolist() == [EVENTS[at].t_us for at in index]
        assert not events["layer"].any()


def by_table(dvs: DvsConfiguration, *, crops_first: bool) -> list[tuple[int, tuple[int, int, int]]]:
    """Index and place of each event that passes: pooled, cut, flipped and turned as an image."""
    image = np.stack(np.mgrid[:128, :128], axis=-1).reshape(128, 128, 2)  # which pixel is where
    window = tuple(slice(a, b + 1) for a, b in zip(dvs.origin, dvs.cut, strict=True))
    blocks = (
        pooled(image[window], dvs.pooling) if crops_first else pooled(image, dvs.pooling)[window]
    )
    for axis in (0, 1):
        if dvs.mirror[axis]:
            blocks = np.flip(blocks, axis)
    if dvs.mirror_diagonal:
        blocks = blocks.swapaxes(0, 1)
    table = np.full((128, 128, 2), -1)
    places = np.stack(np.mgrid[: blocks.shape[0], : blocks.shape[1]], axis=-1)
    table[blocks[..., 0], blocks[..., 1]] = places[:, :, None, None]
    passing = []
    for at, event in enumerate(EVENTS):
        y, x = table[event.y, event.x].tolist()
        if y >= 0 and (dvs.on_channel if event.feature else dvs.off_channel):
            passing.append((at, (0 if dvs.merge else event.feature, y, x)))
    return passing


def pooled(image: np.ndarray, pooling: tuple[int, int]) -> np.ndarray:
    """(y, x, 2) to (y, x, pooled y, pooled x, 2), without what is left over."""
    height, width = (n // p for n, p in zip(image.shape[:2], pooling, strict=True))
    whole = image[: height * pooling[0], : width * pooling[1]]
    return whole.reshape(height, pooling[0], width, pooling[1], 2).swapaxes(1, 2)


def behind_layer(dvs: DvsConfiguration, *, name: str = "speck2f") -> Configuration:
    """Two cores of 8 x 6 that the layer feeds, and one where they meet."""
    rng = np.random.default_rng(7)
    features = dvs.features
    onward = (Destination(core=6, pooling=2),)
    made = chip(
        core(rng.integers(0, 90, (2, features, 3, 3)), (8, 6), core=3, destinations=onward),
        core(rng.integers(0, 90, (2, features, 3, 3)), (8, 6), core=4, layer=1,
             destinations=onward),
        core(rng.integers(-40, 90, (3, 2, 2, 2)), (3, 2), core=6, layer=2),
        inputs=(),
    )  # fmt: skip
    dvs = replace(dvs, destinations=(Destination(core=3), Destination(core=4)))
    return replace(made, chip=name, input_shape=(2, 128, 128), dvs=dvs)


dvs_layers = st.builds(
    DvsConfiguration,
    merge=st.booleans(),
    on_channel=st.booleans(),
    off_channel=st.just(True),
    pooling=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    origin=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    cut=st.tuples(st.integers(4, 30), st.integers(4, 30)),
    mirror=st.tuples(st.booleans(), st.booleans()),
    mirror_diagonal=st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(dvs=dvs_layers, name=st.sampled_from(["speck2f", "speck2b"]), data=st.data())
def test_a_network_behind_the_layer_equals_the_reference(dvs, name, data):
    configuration = behind_layer(dvs, name=name)
    events = data.draw(recordings((2, 20, 20)))
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=3).map(sorted))

    expected = ReferenceTwin(configuration).run_recording(events)

    assert run_recording(Twin(configuration), events) == expected
    found = run_cut(Twin(configuration), pack_events(events), cuts)
    assert found[np.lexsort((found["layer"], found["t_ns"]))].tolist() == expected


def test_the_two_ways_to_say_it_agree_on_every_pixel():
    dvs = DvsConfiguration(
        pooling=(2, 4), origin=(3, 1), cut=(40, 21), mirror=(True, False), mirror_diagonal=True
    )
    pixels = [Event(0, 1, y, x) for y, x in product(range(128), repeat=2)]

    for name in ("speck2f", "speck2b"):
        found, index = preprocess(pack_events(pixels), dvs, find_chip(name))

        places = [through_layer(pixel, dvs, name == "speck2b") for pixel in pixels]
        assert index.tolist() == [at for at, place in enumerate(places) if place is not None]
        assert unpack(found)[["feature", "y", "x"]].tolist() == [p for p in places if p is not None]


def test_causes_count_the_events_that_were_recorded():
    first = core([[[[100]], [[100]]]], (1, 1), core=3)
    dvs = DvsConfiguration(
        off_channel=False, origin=(5, 9), cut=(5, 9), destinations=(Destination(core=3),)
    )
    configuration = replace(chip(first, inputs=()), input_shape=(2, 128, 128), dvs=dvs)
    twin = Twin(configuration)
    recorded = [Event(0, 0, 5, 9), Event(1, 1, 5, 9), Event(2, 1, 5, 8), Event(3, 1, 5, 9)]

    spikes = run_recording(twin, recorded)

    assert [(spike[1], spike[0]) for spike in spikes] == [(1, 1403), (3, 3403)]
    assert twin.activity.input_spikes.tolist() == [2]


def test_events_that_do_not_pass_still_are_the_recording():
    leaky = core(
        np.ones((1, 2, 1, 1)), (1, 1), core=3, leak_enable=True, biases=np.array([50], np.int16)
    )
    dvs = DvsConfiguration(origin=(0, 0), cut=(0, 0), destinations=(Destination(core=3),))
    configuration = replace(
        chip(leaky, inputs=(), slow_clock_hz=1000.0), input_shape=(2, 128, 128), dvs=dvs
    )

    spikes = run_recording(Twin(configuration), [Event(0, 0, 9, 9), Event(4000, 0, 9, 9)])

    assert [spike[0] for spike in spikes] == [2_000_403, 4_000_403]


def test_a_layer_without_destinations_changes_nothing():
    direct = chip(core([[[[100]]]], (1, 1)))

    found = run_recording(Twin(replace(direct, dvs=DvsConfiguration())), [Event(0, 0, 0, 0)])

    assert found == run_recording(Twin(direct), [Event(0, 0, 0, 0)])


def test_events_beyond_the_sensor_are_refused():
    dvs = DvsConfiguration(destinations=(Destination(core=2),))
    made = chip(core([[[[100]], [[100]]]], (1, 1)), inputs=())
    twin = Twin(replace(made, input_shape=(2, 128, 128), dvs=dvs))

    with pytest.raises(ValueError, match="event 0: feature is 2, must be 0 to 1"):
        twin.run(pack_events([Event(0, 2, 0, 0)]))
