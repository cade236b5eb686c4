"""All rules a configuration must keep, in one table; used for our own builds and vendor files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.core_rules import CORE_RULES, CoreRule
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.link_rules import LINK_RULES, LinkRule

Rule = Callable[[Configuration, Chip], Iterator[Finding]]


def apply_rules(configuration: Configuration, chip: Chip) -> list[Finding]:
    """Every violation of every rule; [] if the chip would take the configuration."""
    return [finding for rule in RULES.values() for finding in rule(configuration, chip)]


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
    **{reason: _of_core(reason, rule) for reason, rule in CORE_RULES.items()},
    **{reason: _of_links(reason, rule) for reason, rule in LINK_RULES.items()},
}
