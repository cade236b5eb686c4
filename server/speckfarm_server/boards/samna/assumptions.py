"""Times and habits of a devkit that no document tells; all that SamnaBoard assumes stands here.

None of it has met hardware. `S`, `SD`, `BMI` are the sources of names.py; numbers without one are
the farm's choice.
"""

from __future__ import annotations

# Configuring. sinabs waits 1 s after apply_configuration, its readout notebook 0.1 s, and no signal
# of completion is documented; so neurons with marked states are read until all answer.
READY_LIMIT_S = 5.0
FIRST_MARK, LAST_MARK = 1000, 30000  # states that a neuron is unlikely to have by itself
PROBE_EVERY_S = 0.05  # an unanswered read is repeated
# A neuron read is answered at once by a board that lives; nothing published.
ANSWER_LIMIT_S = 1.0

# Running. Late events are forwarded in a burst (S, issue 144), so the first comes so long after the
# stop watch starts; sinabs' readout notebook takes 5 ms, and a host may pause for longer.
SAFETY_LEAD_US = 150_000
SETTLE_US = 20_000  # after the watch was started: what comes out is of before, and is dropped
# Events are written so far ahead. What `write` does when the board's queue is full is not known.
WRITE_AHEAD_US = 500_000
PIECE_EVENTS = 4096  # written together
PIECE_US = 100_000  # from the first to the last of them
PREPARED_EVENTS = 1_000_000  # made into objects before time runs; bounds memory
POLL_S = 0.002
# sinabs stops after one empty poll of 0.1 s, which was too early on speck2e (S, issue 165).
QUIET_US = 200_000
LONGEST_DRAIN_US = 10_000_000
# By how much a stamp may be later than the host's own clock says that it can be.
CLOCK_SLACK_US = 20_000
CLOCK_DRIFT = 2e-4  # of one quartz against another

# Power: at most 100 Hz (S power_monitoring); sinabs' visualizer takes 50, and knows boards with 3
# rails, which are taken for the first three.
POWER_HZ = 50.0
RAILS = ("VDD_IO", "VDD_RAM", "VDD_LOGIC", "VDD_PIXEL_DIGITAL", "VDD_PIXEL_ANALOG")

# Layer numbers of what is no core: camera events behind the pre-processing layer (SD, OF).
CAMERA = 13
