"""What words look like in the panels: one colour per word, everywhere."""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue, ValueMap, ValueMapping, ValueMappingResult

from broker.contract.decision import Label
from broker.contract.updates import UpdateState

__all__ = ["COLOURS", "coloured_cells", "label_mappings", "online_mappings", "state_mappings"]

COLOURS: Final[Mapping[Label, str]] = {
    Label.PLEASANT: "#3a9d5d",
    Label.NEUTRAL: "#8a94a6",
    Label.UNPLEASANT: "#d2553f",
    Label.UNCERTAIN: "#c9a227",
}
"""One colour per label, everywhere."""

_GOOD, _QUIET, _BAD, _UNDER_WAY = COLOURS.values()
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


def coloured_cells() -> DynamicConfigValue:
    """Return the option that fills a cell with its colour."""
    return DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"})
