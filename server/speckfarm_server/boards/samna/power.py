"""What the supply rails of a devkit take, averaged over the run of a recording."""

from __future__ import annotations

from speckfarm_server.boards.samna.assumptions import POWER_HZ, RAILS
from speckfarm_server.boards.samna.link import Link
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.job_result import RailPower


class PowerMeter:
    """Averages values and leaves their stamps alone: those come in bursts (BMI)."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._sums: dict[int, tuple[float, int]] = {}
        self._has_stamps = False

    def start(self) -> None:
        """Begin anew."""
        self._link.receive_power()  # what is left of before
        self._sums, self._has_stamps = {}, False
        self._link.start_power(POWER_HZ)

    def collect(self) -> None:
        """Take in what was measured since the last call."""
        for channel, watts, stamp in self._link.receive_power():
            total_w, samples = self._sums.get(channel, (0.0, 0))
            self._sums[channel] = (total_w + watts, samples + 1)
            self._has_stamps |= stamp != 0

    def stop(self) -> None:
        """End; `rails` and `findings` have the averages since `start`."""
        self.collect()
        self._link.stop_power()

    @property
    def rails(self) -> tuple[RailPower, ...]:
        """Mean of each rail that told anything, by channel."""
        return tuple(
            RailPower(rail=_rail(channel), mean_w=total_w / samples, samples=samples)
            for channel, (total_w, samples) in sorted(self._sums.items())
        )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """POWER_STAMPS_ZERO, which tells of old firmware (S power_monitoring)."""
        if not self._sums or self._has_stamps:
            return ()
        text = (
            "All measurements of power have the stamp 0, which the vendor calls a sign of old "
            "firmware on the board. The means are right as far as their values are"
        )
        return (Finding(reason="POWER_STAMPS_ZERO", severity=Severity.INFO, message=text),)


def _rail(channel: int) -> str:
    return RAILS[channel] if 0 <= channel < len(RAILS) else f"channel {channel}"
