"""All rules a configuration must keep, in two tables: what the chip refuses, what the farm does.

The chip's are those of the vendor's validator; for speck2b they give its verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.rules.arrays import ARRAY_RULES
from speckfarm_server.rules.core import CORE_RULES, CoreRule
from speckfarm_server.rules.dvs import DVS_RULES
from speckfarm_server.rules.fan_in import LinkRule
from speckfarm_server.rules.farm import FARM_RULES as _FARM_RULES
from speckfarm_server.rules.link import LINK_RULES
from speckfarm_server.rules.vendor import VENDOR_RULES

Rule = Callable[[Configuration, Chip], Iterator[Finding]]


def apply_rules(configuration: Configuration, chip: Chip) -> list[Finding]:
    """Every violation of the chip's rules; [] if the chip would take the configuration."""
    return [found for rule in RULES.values() for found in rule(configuration, chip)]


def apply_farm_rules(configuration: Configuration, chip: Chip) -> list[Finding]:
    """Every violation of the farm's own rules; they need not hold on a chip."""
    return [found for rule in FARM_RULES.values() for found in rule(configuration, chip)]


def finding(
    reason: str,
    severity: Severity,
    layer: int | None,
    message: str,
    metadata: Mapping[str, object],
) -> Finding:
    """Make a Finding with its figures as text."""
    text = {key: str(value) for key, value in metadata.items()}
    return Finding(reason=reason, severity=severity, layer=layer, message=message, metadata=text)


def _of_core(reason: str, rule: CoreRule) -> Rule:
    def apply(configuration: Configuration, chip: Chip) -> Iterator[Finding]:
        for core in configuration.cores:
            for message, metadata in rule(core, chip):
                yield finding(reason, Severity.ERROR, core.layer, message, metadata)

    return apply


def _of_links(reason: str, rule: LinkRule) -> Rule:
    def apply(configuration: Configuration, chip: Chip) -> Iterator[Finding]:
        for layer, (message, metadata) in rule(configuration, chip):
            yield finding(reason, Severity.ERROR, layer, message, metadata)

    return apply


RULES: Mapping[str, Rule] = {
    **{reason: _of_core(reason, rule) for reason, rule in {**CORE_RULES, **ARRAY_RULES}.items()},
    **{
        reason: _of_links(reason, rule)
        for reason, rule in {**LINK_RULES, **DVS_RULES, **VENDOR_RULES}.items()
    },
}
FARM_RULES: Mapping[str, Rule] = {
    reason: _of_links(reason, rule) for reason, rule in _FARM_RULES.items()
}
