"""What words look like in the panels: one colour per word, everywhere."""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, ValueMap, ValueMapping, ValueMappingResult

from broker.contract.condition import CaptureProblem, CaptureState
from broker.contract.decision import Label
from broker.contract.updates import UpdateState

__all__ = [
    "COLOURS",
    "GATE_COLOURS",
    "capture_mappings",
    "coloured_cells",
    "label_mappings",
    "online_mappings",
    "problem_mappings",
    "slowed_mappings",
    "state_mappings",
]

COLOURS: Final[Mapping[Label, str]] = {
    Label.PLEASANT: "#3a9d5d",
    Label.NEUTRAL: "#8a94a6",
    Label.UNPLEASANT: "#d2553f",
    Label.UNCERTAIN: "#c9a227",
}
"""One colour per label, everywhere."""

_GOOD, _QUIET, _BAD, _UNDER_WAY = COLOURS.values()
GATE_COLOURS: Final[Mapping[str, str]] = {"classified": "#2f6fb2", "no speech": _UNDER_WAY, "silent": "#d5dae1"}
"""One colour for what becomes of a window, by its name in the panel."""
_HEARS: Final = {
    CaptureState.LISTENING: _GOOD,
    CaptureState.MUTED: _QUIET,
    CaptureState.RECOVERING: _BAD,
}
_STATES: Final = {UpdateState.IDLE: _QUIET, UpdateState.ROLLING_BACK: _BAD, UpdateState.REJECTED: _BAD}


def label_mappings() -> list[ValueMapping]:
    """Return the colours of the labels."""
    results = {
        label.value: ValueMappingResult(text=label.value, color=colour, index=index)
        for index, (label, colour) in enumerate(COLOURS.items())
    }
    return [ValueMap(results)]


def online_mappings() -> list[ValueMapping]:
    """Return words and colours for whether a node says that it is there."""
    results = {
        "true": ValueMappingResult(text="online", color=_GOOD, index=0),
        "false": ValueMappingResult(text="offline", color=_BAD, index=1),
    }
    return [ValueMap(results)]


def state_mappings() -> list[ValueMapping]:
    """Return the colours of an update's states: of what is under way, of what failed, of nothing to do."""
    results = {
        state.value: ValueMappingResult(text=state.value, color=_STATES.get(state, _UNDER_WAY), index=index)
        for index, state in enumerate(UpdateState)
    }
    return [ValueMap(results)]


def capture_mappings() -> list[ValueMapping]:
    """Return the colours of whether a node hears."""
    return [
        ValueMap({state.value: _worded(state.value, _HEARS[state], index) for index, state in enumerate(CaptureState)})
    ]


def problem_mappings() -> list[ValueMapping]:
    """Return the colour of what is wrong with the sound: one for all."""
    return [ValueMap({each.value: _worded(each.value, _BAD, index) for index, each in enumerate(CaptureProblem)})]


def slowed_mappings() -> list[ValueMapping]:
    """Return words and colours for whether a processor is slowed down."""
    return [ValueMap({"true": _worded("slowed down", _BAD, 0), "false": _worded("full speed", _GOOD, 1)})]


def coloured_cells() -> DynamicConfigValue:
    """Return the option that fills a cell with its colour."""
    return DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"})


def _worded(text: str, colour: str, index: int) -> ValueMappingResult:
    return ValueMappingResult(text=text, color=colour, index=index)
