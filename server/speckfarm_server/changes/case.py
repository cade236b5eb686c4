"""A finding and the network it was found in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from speckfarm_server.chip import Chip
from speckfarm_server.errors import Change, Finding
from speckfarm_server.network import Layer, Network
from speckfarm_server.settings import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A finding and where it was found."""

    finding: Finding
    network: Network
    chip: Chip
    settings: Settings
    layer: int  # of the finding; -1 if it is about the whole network

    @property
    def at(self) -> Layer:
        """The layer the finding is about."""
        return self.network.layers[self.layer]


# Alternatives of one kind, the smallest intervention first; not yet tried.
Generate: TypeAlias = Callable[[Case], Iterator[Change]]
