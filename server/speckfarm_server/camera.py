"""The settings of the event pre-processing layer become what the chip is told, and what leaves it.

Pairs are y, x.
"""

from __future__ import annotations

from speckfarm.events import ECHO
from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Destination, DvsConfiguration
from speckfarm_server.settings import Settings

CAMERA_SETTINGS = "input_pooling, crop, mirror and swap_xy"


def dvs_configuration(
    settings: Settings, chip: Chip, destinations: tuple[Destination, ...]
) -> DvsConfiguration:
    """What `polarity`, `input_pooling`, `crop`, `mirror`, `swap_xy` and `monitor` ask for.

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
        monitor_enable=ECHO in settings.monitor,
        destinations=destinations,
    )


def size_after_layer(settings: Settings, chip: Chip) -> tuple[int, int]:
    """Height and width of the map that leaves the layer, before the swap, for an aligned crop."""
    size = chip.sensor_size
    _, _, width, height = settings.crop or (0, 0, size, size)
    pooling_y, pooling_x = settings.input_pooling
    return height // pooling_y, width // pooling_x


def sensor_window(dvs: DvsConfiguration, chip: Chip) -> tuple[range, range]:
    """Rows and columns of the sensor whose events pass the crop, as whole pooled pixels."""
    rows, columns = (
        range(first, first + (last + 1 - first) // unit * unit)
        if chip.dvs_crops_first
        else range(first * unit, (last + 1) * unit)
        for first, last, unit in zip(dvs.origin, dvs.cut, dvs.pooling, strict=True)
    )
    return rows, columns


def fitting_settings(size: tuple[int, int], chip: Chip, *, extent: tuple[int, int]) -> str:
    """Settings that make events over `extent` pixels a map of `size`, in words; "" if none do.

    First the smallest pooling that leaves nothing out (else the largest that gives this size), then
    a crop alone.
    """
    possible = [pool for pool in chip.dvs_poolings if max(size) * pool <= chip.sensor_size]
    if not possible or min(size) < 1:
        return ""
    height, width = extent
    whole = [pool for pool in possible if size[0] * pool >= height and size[1] * pool >= width]
    widest = min(whole, default=possible[-1])
    words = [_fitting(size, chip, extent, pooling) for pooling in (widest, possible[0])]
    return " or ".join(dict.fromkeys(words))


def _fitting(size: tuple[int, int], chip: Chip, extent: tuple[int, int], pooling: int) -> str:
    """One pooling for both axes, and the part in the middle of `extent` that it leaves room for."""
    height, width = size[0] * pooling, size[1] * pooling
    top, left = (
        max(0, seen - used) // 2 // pooling * pooling
        for seen, used in zip(extent, (height, width), strict=True)
    )
    words = [f"input_pooling={pooling}"] if pooling > 1 else []
    if (height, width) != (chip.sensor_size, chip.sensor_size):
        words.append(f"crop=({left}, {top}, {width}, {height})")
    return " with ".join(words) or "neither input_pooling nor crop"
