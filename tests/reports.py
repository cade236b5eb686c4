"""Short ways to check a network in a test and to look at what was found."""

from typing import Any

from speckfarm_server.check import Report, check
from speckfarm_server.chip import CHIPS
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Network
from speckfarm_server.settings import Settings


def report(made: Network, **settings: Any) -> Report:
    """The check's report for a speck2f."""
    return check(made, CHIPS["speck2f"], Settings(**settings))


def found(made: Report, severity: Severity = Severity.ERROR) -> list[tuple[int | None, str]]:
    """Layer and reason of the findings of one severity, in the report's order."""
    return [(f.layer, f.reason) for f in made.findings if f.severity is severity]


def only(made: Report, reason: str) -> Finding:
    """The one finding with this reason."""
    (finding,) = [f for f in made.findings if f.reason == reason]
    return finding
