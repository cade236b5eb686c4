"""A double of the vendor's library with boards that are computed, for tests of what drives it.

Written from the public documentation (samna's reference, sinabs, the Speck Dev Kit Datasheet),
under the names of speckfarm_server.boards.samna.names, without older spellings. No part of
it is the vendor's. A process gets it as `samna` when `tests/samna_double` stands first on its
PYTHONPATH, and its boards from the file that SAMNA_DOUBLE_WORLD names: see tests/double_world.py.

What nobody has documented and the double decides:
- input waits in a queue, so what is written behind an event that is held is held as well;
- a reset of the stop watch does not empty that queue, only a soft reset of the board does;
- what the chip fires after a reset of the watch, for input from before, has stamps of the new time;
- the slow clock ticks first one period after it was switched on, or given another rate;
- while cores are full, what waits for them is computed ahead up to its entry, and the slow clock
  that is switched meanwhile is so only after that;
- a reset of the stop watch does not touch the slow clock, but averages of the readout are 0 then;
- without the stop watch, events with stamps above its value are held for ever;
- the sink of a board that was unplugged gives nothing more, in silence; its handle raises.
"""

from samna import device, graph
from samna.chips import chip_module
from samna.nodes import SinkNode, source_node_class

__version__ = "0.48.6"
__all__ = ["device", "graph", "speck2e", "speck2f"]

speck2f = chip_module("speck2f")
speck2e = chip_module("speck2e")
globals().update({
    "BasicSourceNode_speck2f_event_input_event": source_node_class(speck2f.event),
    "BasicSourceNode_speck2e_event_speck2e_input_event": source_node_class(speck2e.event),
    **{
        f"BasicSinkNode_{what}": type(f"BasicSinkNode_{what}", (SinkNode,), {})
        for what in (
            "speck2f_event_output_event",
            "speck2e_event_output_event",
            "unifirm_modules_events_measurement",
        )
    },
})
