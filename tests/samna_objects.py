"""Plain objects with the documented attributes of samna for speck2e and speck2f, and no others.

Names are written out here once more, from the Speck Dev Kit Datasheet 3.2.2 and samna's public
reference, so that a misspelling in our table cannot hide. Every assignment is noted.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

RANGES = {  # of the library's types
    "threshold_high": (-32768, 32767),
    "threshold_low": (-32768, 32767),
    "output_decimator_interval": (0, 7),
    "pooling": (0, 255),
}
KILL_BITS = ("weights_kill_bit", "biases_kill_bit", "neurons_value_kill_bit")


class Plain:
    """Takes only the attributes that it was made with."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes, _path="", _notes={})

    def __setattr__(self, name: str, value: object) -> None:
        if name not in vars(self):
            raise AttributeError(f"{self._path} has no {name}")
        low, high = RANGES.get(name, (-(1 << 31), 1 << 31))
        if isinstance(value, int) and not low <= value <= high:
            raise TypeError(f"incompatible function arguments: {value}")
        self._notes[f"{self._path}.{name}".removeprefix(".")] = value
        vars(self)[name] = value


def speck2ef(*, without: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> Any:
    """A new configuration; `without` and `also` are paths, `cnn_layers` stands for all cores."""
    made = Plain(
        cnn_layers=[_core() for _ in range(9)],
        dvs_layer=Plain(
            merge=True, on_channel=False, off_channel=False, pooling=_pair(0), origin=_pair(0),
            cut=_pair(0), mirror=_pair(0), mirror_diagonal=True, pass_sensor_events=True,
            monitor_enable=True, raw_monitor_enable=False,
            destinations=[Plain(layer=9, enable=True) for _ in range(2)],
        ),
        dvs_filter=Plain(
            enable=False, filter_size=_pair(7), hot_pixel_filter_enable=False,
            internal_slow_clk=False, low_pass_mode_enable=False, threshold=9,
        ),
        readout=Plain(
            enable=False, internal_slow_clk=False, low_pass_filter32_not16=True,
            low_pass_filter_disable=False, monitor_enable=False, output_mode_sel=2,
            readout_configuration_sel=2, readout_pin_monitor_enable=False, threshold=9,
        ),
        factory_config=Plain(io_sel=24),
        debug_config=Plain(),
    )  # fmt: skip
    for path in without:
        for holder, name in _holders(made, path):
            del vars(holder)[name]
    for path in also:
        for holder, name in _holders(made, path):
            vars(holder)[name] = None
    _join(made, "", {})
    return made


def noted(made: Any) -> dict[str, Any]:
    """Every assignment by its path, in order."""
    return made._notes


def samna_module(*, without: tuple[str, ...] = ()) -> ModuleType:
    """What can be seen of samna without a board; `without` are paths that are taken away."""
    module = ModuleType("samna")
    parts: dict[str, Any] = {
        "__version__": "0.48.6",
        "device": SimpleNamespace(
            DeviceInfo=SimpleNamespace(
                serial_number="", usb_bus_number=2, usb_device_address=9, logic_version=0,
                device_type_name="Speck2fDevKit",
            ),
            get_all_devices=list, open_device=object, close_device=object,
        ),
        "graph": SimpleNamespace(
            EventFilterGraph=SimpleNamespace(sequential=list, start=object, stop=object)
        ),
        "BasicSourceNode_speck2f_event_input_event": SimpleNamespace(write=object),
        "BasicSourceNode_speck2e_event_speck2e_input_event": SimpleNamespace(write=object),
        **{f"BasicSinkNode_{what}": SimpleNamespace(get_events=list, clear_events=object)
           for what in ("speck2f_event_output_event", "speck2e_event_output_event",
                        "unifirm_modules_events_measurement")},
        "speck2f": _chip(),
        "speck2e": _chip(),
    }  # fmt: skip
    vars(module).update(parts)
    for path in without:
        *steps, last = path.split(".")
        holder: Any = module
        for step in steps:
            holder = getattr(holder, step)
        delattr(holder, last)
    return module


def _chip() -> Any:
    fields = {
        "Spike": "layer feature x y timestamp", "DvsEvent": "x y p timestamp",
        "ReadNeuronValue": "layer address", "NeuronValue": "layer address neuron_state",
        "WriteNeuronValue": "layer address neuron_state", "ReadoutPinValue": "index timestamp",
    }  # fmt: skip

    class SpeckConfiguration:
        to_json = None

        def __new__(cls) -> Any:
            return speck2ef()

    return SimpleNamespace(
        validate_configuration=object,
        configuration=SimpleNamespace(SpeckConfiguration=SpeckConfiguration),
        event=SimpleNamespace(**{
            name: SimpleNamespace(**dict.fromkeys(words.split(), 0))
            for name, words in fields.items()
        }),
    )


def _core() -> Plain:
    return Plain(
        destinations=[
            Plain(layer=9, pooling=9, feature_shift=9, enable=True) for _ in range(2)
        ],
        dimensions=Plain(
            kernel_size=9, stride=_pair(9), padding=_pair(9),
            input_shape=Plain(feature_count=9, size=_pair(9)),
            output_shape=Plain(feature_count=9, size=_pair(9)),
        ),
        weights=None, biases=None, neurons_initial_value=None, **dict.fromkeys(KILL_BITS),
        threshold_high=9, threshold_low=9, return_to_zero=True, leak_enable=True,
        leak_internal_slow_clk_enable=False, monitor_enable=True, output_decimator_enable=True,
        output_decimator_interval=7, input_congestion_balancer_enable=False,
    )  # fmt: skip


def _pair(value: object) -> Plain:
    return Plain(x=value, y=value)


def _holders(made: Any, path: str) -> list[tuple[Any, str]]:
    *steps, last = path.split(".")
    holders = [made]
    for step in steps:
        found = [getattr(holder, step) for holder in holders]
        holders = [one for each in found for one in (each if isinstance(each, list) else [each])]
    return [(holder, last) for holder in holders]


def _join(value: Any, path: str, notes: dict[str, Any]) -> None:
    """All parts note in one place, each under its own path."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            _join(each, f"{path}[{index}]", notes)
    elif isinstance(value, Plain):
        parts = [(name, part) for name, part in vars(value).items() if not name.startswith("_")]
        vars(value).update(_path=path, _notes=notes)
        for name, part in parts:
            _join(part, f"{path}.{name}".removeprefix("."), notes)
