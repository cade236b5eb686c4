"""The settings of the event pre-processing layer become what the chip is told."""

from __future__ import annotations

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Destination, DvsConfiguration
from speckfarm_server.settings import Settings


def dvs_configuration(
    settings: Settings, chip: Chip, destinations: tuple[Destination, ...]
) -> DvsConfiguration:
    """What `polarity`, `input_pooling`, `crop`, `mirror` and `swap_xy` ask for.

    `crop` counts sensor pixels; a chip that pools first is told pooled pixels.
    """
    size = chip.sensor_size
    left, top, width, height = settings.crop or (0, 0, size, size)
    unit_y, unit_x = (1, 1) if chip.dvs_crops_first else settings.input_pooling
    return DvsConfiguration(
        merge=settings.polarity != "keep",
        on_channel=settings.polarity != "off",
        off_channel=settings.polarity != "on",
        pooling=settings.input_pooling,
        origin=(top // unit_y, left // unit_x),
        cut=((top + height) // unit_y - 1, (left + width) // unit_x - 1),
        mirror=("y" in settings.mirror, "x" in settings.mirror),
        mirror_diagonal=settings.swap_xy,
        destinations=destinations,
    )
