"""A devkit behind the board seam, driven through samna. It has never met hardware.

Tests run it on a double of samna that is made from the vendor's documentation (tests/samna_double).
What is assumed beyond that stands in assumptions.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from speckfarm.events import PackedEvents
from speckfarm_server.boards.board import Chunk, RunReport, Tell, quietly
from speckfarm_server.boards.samna.assumptions import (
    ANSWER_LIMIT_S,
    FIRST_MARK,
    POLL_S,
    PROBE_EVERY_S,
    READY_LIMIT_S,
)
from speckfarm_server.boards.samna.device import FoundDevice, Wanted, choose, claim, find_devices
from speckfarm_server.boards.samna.events import EventForms
from speckfarm_server.boards.samna.library import load_library
from speckfarm_server.boards.samna.link import Link
from speckfarm_server.boards.samna.names import Name, names_of
from speckfarm_server.boards.samna.neurons import (
    Mark,
    marked,
    marks_of,
    next_mark,
    states_of,
)
from speckfarm_server.boards.samna.remarks import changed, unasked, without_live_events
from speckfarm_server.boards.samna.run import Run
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass, Finding
from speckfarm_server.job_result import Device, LayerActivity


class SamnaBoard:
    """One opened devkit."""

    method = "estimated"
    assumptions = ""

    def __init__(
        self, library: ModuleType, found: FoundDevice, options: Mapping[str, Any], lock: IO[bytes]
    ) -> None:
        self._library = library
        self._names: Mapping[str, Name] = names_of(options["chip"])
        self._found = found
        self._options = options
        self._lock = lock  # as long as it is open, the devkit is this process's
        self._link = Link(library, found, options["chip"])
        self._forms = EventForms(library, options["chip"])
        self._configuration: Configuration | None = None
        self._marks: tuple[Mark, ...] = ()
        self._resets: list[list[Any]] = []  # what a state reset writes, made once: they are many
        self._mark = FIRST_MARK
        self._findings: tuple[Finding, ...] = ()  # about what is written otherwise than asked for
        self._is_fresh = False  # nothing has entered since the neurons were written
        self._run: Run | None = None
        self._inputs = 0  # events of the last recording

    @property
    def device(self) -> Device:
        """What samna and the operating system say of it."""
        version = self._names["version"].path
        return Device(
            type=self._found.type,
            usb_path=self._found.usb_path,
            usb_address=self._found.address,
            serial=self._found.serial,
            logic_version=self._found.logic_version,
            samna=str(getattr(self._library, version, "")),
            first_event=self._options["first_event"],
        )

    def configure(self, configuration: Configuration, tell: Tell = quietly) -> None:
        """Write a configuration and wait until the board has it.

        It is written with marked neurons, which are read until all answer; then the marks are
        erased by a state reset. Raises BoardFault BOARD_NOT_READY after 5 s, and what Link raises.
        """
        self._settle()
        self._configuration = None
        self._findings = tuple(changed(configuration))
        configuration = without_live_events(configuration)
        self._link.set_slow_clock(None)  # leaks would wash the marks away
        self._marks = marks_of(configuration)
        self._resets = [
            self._forms.write_neurons(each.core, each.addresses, each.states)
            for each in states_of(configuration)
        ]
        self._mark = next_mark(self._mark)
        self._link.apply(marked(configuration, self._marks, self._mark))
        expected = {(mark.core, mark.address): self._mark for mark in self._marks}
        if not self._answers(expected, READY_LIMIT_S, tell):
            text = (
                f"The board does not have the configuration {READY_LIMIT_S:g} s after it was "
                f"written: neurons of {len(expected)} cores were asked for the state that it gives "
                "them. The board is opened anew"
            )
            raise BoardFault(
                "BOARD_NOT_READY", text, ErrorClass.INFRASTRUCTURE, limit_s=READY_LIMIT_S
            )
        self._configuration = configuration
        self.reset_state(tell)

    def reset_state(self, tell: Tell = quietly) -> None:
        """Write the initial state of every neuron in use; raises BoardFault BOARD_NOT_READY.

        Each core is marked after its own neurons and the mark erased again, so that the answers
        tell that all was written.
        """
        self._settle()
        self._mark = next_mark(self._mark)
        for events in self._resets:
            self._link.send(events)
            tell()
        for goal in (lambda _: self._mark, lambda mark: mark.initial):
            self._write_marks({mark: goal(mark) for mark in self._marks}, tell)
        self._is_fresh = True

    def run(self, packed: PackedEvents) -> Iterator[Chunk]:
        """Put one recording in, in real time; raises what Run raises, and BOARD_SILENT."""
        self._settle()
        if self._configuration is None:
            text = "The board was asked to run before it was configured"
            raise BoardFault("BOARD_NOT_CONFIGURED", text, ErrorClass.INTERNAL)
        run = self._run = Run(self._link, self._forms, self._configuration, packed)
        self._inputs = len(packed)
        is_wanted = self._options["first_event"] == "sacrifice" and self._is_fresh
        self._is_fresh = False
        yield from run.chunks(sacrifice=is_wanted)
        if run.outputs == 0 and not self._is_alive():
            text = "No spike came out, and the board does not answer reads of its neurons any more"
            raise BoardFault("BOARD_SILENT", text, ErrorClass.DEVICE_STALL)

    def report(self) -> RunReport:
        """About the last recording; what layers did is known where they are monitored."""
        run = self._run
        if run is None or self._configuration is None:
            raise BoardFault("BOARD_NOT_CONFIGURED", "Nothing has run", ErrorClass.INTERNAL)
        return RunReport(
            activity=tuple(self._activity(self._configuration, run)),
            ending=run.ending,
            power=run.power.rails,
            findings=(*self._findings, *run.power.findings, *unasked(run.unasked)),
        )

    def health(self) -> str:
        """Whether samna still sees the devkit and a neuron answers; it may be dead though seen."""
        sysfs, nodes = Path(self._options["sysfs"]), Path(self._options["nodes"])
        try:
            seen = find_devices(self._library, self._names, sysfs=sysfs, nodes=nodes)
            key = (self._found.node, self._found.type)
            if all((each.node, each.type) != key for each in seen):
                return f"{self._found.text} is not plugged in any more"
            self._settle()
            if not self._is_alive():
                return f"{self._found.text} is plugged in and does not answer reads of a neuron"
        except BoardFault as fault:
            return fault.message
        return ""

    def close(self) -> None:
        """Give the devkit back."""
        try:
            self._settle()
            self._link.close()
        finally:
            self._lock.close()

    def _settle(self) -> None:
        """End a recording that its caller left: nothing of it may reach what comes next."""
        if self._run is not None:
            self._run.abandon()

    def _write_marks(self, goals: Mapping[Mark, int], tell: Tell) -> None:
        for mark, state in goals.items():
            self._link.send([self._forms.write_neuron(mark.core, mark.address, state)])
        expected = {(mark.core, mark.address): state for mark, state in goals.items()}
        if not self._answers(expected, READY_LIMIT_S, tell):
            text = f"Neurons do not have the states {READY_LIMIT_S:g} s after they were written"
            raise BoardFault(
                "BOARD_NOT_READY", text, ErrorClass.INFRASTRUCTURE, limit_s=READY_LIMIT_S
            )

    def _is_alive(self) -> bool:
        """Whether a neuron answers, whatever its state."""
        mark = self._marks[0] if self._marks else None
        core, address = (mark.core, mark.address) if mark is not None else (0, 0)
        return self._answers({(core, address): None}, ANSWER_LIMIT_S)

    def _answers(
        self,
        expected: Mapping[tuple[int, int], int | None],
        limit_s: float,
        tell: Tell = quietly,
    ) -> bool:
        """Read neurons until all have told their state (None: any); False after the limit."""
        missing = dict(expected)
        deadline_s = time.monotonic() + limit_s
        asked_s = 0.0
        while missing:
            now_s = time.monotonic()
            if now_s > deadline_s:
                return False
            if now_s - asked_s > PROBE_EVERY_S:
                self._link.send([self._forms.read_neuron(*place) for place in missing])
                asked_s = now_s
            for answer in self._forms.sort_out(self._link.receive()).neurons:
                place = (answer.core, answer.address)
                if place in missing and missing[place] in (None, answer.state):
                    del missing[place]
            tell()
            time.sleep(POLL_S if missing else 0)
        return True

    def _activity(self, configuration: Configuration, run: Run) -> Iterator[LayerActivity]:
        fed = {way.core for core in configuration.cores for way in core.destinations if way.enable}
        entered = {way.core for way in configuration.inputs} - fed
        for core in configuration.cores:
            is_heard = core.monitor_enable and core.decimator is None
            yield LayerActivity(
                layer=core.layer,
                input_spikes=self._inputs if core.core in entered else None,
                output_spikes=run.spikes_of(core.layer) if is_heard else None,
                synops=None,
            )


def open_samna_board(options: Mapping[str, Any]) -> SamnaBoard:
    """Find, lock and open the devkit that a board of farm.toml is.

    `options` are the keys of the board with `sysfs` and `nodes`. Raises BoardFault: SAMNA_UNUSABLE
    and its kin, DEVICE_NOT_FOUND and its kin, DEVICE_NOT_ALLOWED, DEVICE_IN_USE, DEVICE_NOT_OPENED.
    """
    library = load_library(options["chip"])
    wanted = Wanted(
        board=options["id"],
        chip=options["chip"],
        usb=options["usb"],
        device=options["device"],
        serial=options["serial"],
    )
    names = names_of(wanted.chip)
    sysfs, nodes = Path(options["sysfs"]), Path(options["nodes"])
    found = choose(find_devices(library, names, sysfs=sysfs, nodes=nodes), wanted)
    lock = claim(found)
    try:
        return SamnaBoard(library, found, options, lock)
    except BaseException:
        lock.close()
        raise
