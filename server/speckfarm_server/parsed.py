"""What reading a model file gave: a network or a finished configuration, and findings."""

from __future__ import annotations

from dataclasses import dataclass

from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding
from speckfarm_server.network import Network


@dataclass(frozen=True, kw_only=True, eq=False)
class Parsed:
    """A parsed file: a network or a finished configuration, or neither and why."""

    network: Network | None
    findings: tuple[Finding, ...] = ()
    configuration: Configuration | None = None  # of a vendor's JSON; its chip stands for its kind
