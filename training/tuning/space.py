"""What a hyperparameter search may vary: settings of an experiment by dotted key, each with a range or with choices.

"recipe.learning_rate" = { low = 5e-4, high = 5e-3, log = true }
"network.units" = { low = 32, high = 96, step = 16 }
"network.pooling" = { choices = ["mean", "mean-std"] }
"network.convolutions.0.filters" = { choices = [32, 48] }
"""

import math
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from broker.contract.errors import SettingsError, SottovoceError
from broker.explain import explain
from training.config import Experiment
from training.toml import value_text
from training.tuning.dotted import check_varies, leaves_of, read_table, settings_of, value_at, with_values

__all__ = ["Choices", "Range", "Space", "base_values", "default_space", "load_space", "with_values"]

Number = int | float


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers from `low` to `high`, both included; whole ones if both are."""

    low: Number
    high: Number
    log: bool = False
    """Whether ratios count, not differences."""
    step: Number | None = None
    """Distance between the numbers, from `low` on; None: any number."""

    def __post_init__(self) -> None:
        """Refuse a range that holds nothing to choose from, or contradicts itself.

        Raises:
            SettingsError: the message names the values.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            msg = f"low = {self.low}, high = {self.high}: low must be below high"
            raise SettingsError(msg)
        if self.log and self.low <= 0:
            msg = f"low = {self.low}: must be above 0 where log = true"
            raise SettingsError(msg)
        if self.step is not None:
            if self.log or not self.step > 0:
                msg = f"step = {self.step}: must be above 0, and does not go with log = true"
                raise SettingsError(msg)
            steps = (self.high - self.low) / self.step
            if abs(steps - round(steps)) > _NEARLY * steps:
                msg = f"step = {self.step}: {self.high} is no whole number of steps from {self.low}"
                raise SettingsError(msg)

    def holds(self, value: object) -> bool:
        """Return whether a value is one of the range's."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0
        return abs(steps - round(steps)) <= _NEARLY * max(1, steps)


class Choices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values to choose from, of any kind that the setting may have."""

    choices: Annotated[tuple[Any, ...], Meta(min_length=2)]

    @property
    def by_text(self) -> dict[str, Any]:
        """The values by what TOML calls them: a search's storage keeps texts, not tables."""
        return {value_text(value): value for value in self.choices}


Space = dict[str, Range | Choices]

_NEARLY: Final = 1e-9
_DEFAULT: Final[Space] = {
    "recipe.learning_rate": Range(low=5e-4, high=5e-3, log=True),
    "recipe.weight_decay": Range(low=1e-5, high=1e-2, log=True),
    "recipe.label_smoothing": Range(low=0.0, high=0.2),
    "network.dropout": Range(low=0.1, high=0.5),
    "views.channel": Range(low=0.0, high=0.6),
}
"""None of it changes the features that are kept on disk, so a trial costs the fitting alone."""


def default_space(experiment: Experiment) -> Space:
    """Return what is varied if nobody says otherwise, as far as the experiment has it."""
    settings = settings_of(experiment)
    return {key: dimension for key, dimension in _DEFAULT.items() if _found(settings, key)}


def load_space(path: Path, experiment: Experiment) -> Space:
    """Return the space that a TOML file describes.

    Raises:
        SettingsError: the file cannot be read or is no TOML; a key is no setting of the experiment or may not be
            varied; a range or one of its ends, or a choice, is not allowed there.
    """
    table = read_table("--space", path)
    try:
        leaves = leaves_of(table)
    except SettingsError as error:
        msg = f"--space {path}: {error}"
        raise SettingsError(msg) from error
    if not leaves:
        msg = f'--space {path}: names nothing; write e.g. "recipe.learning_rate" = {{ low = 5e-4, high = 5e-3 }}'
        raise SettingsError(msg)
    space: Space = {}
    for key, leaf in leaves.items():
        try:
            space[key] = _fitting(key, _dimension(leaf), experiment)
        except SottovoceError as error:
            msg = f"--space {path}: {key}: {error}"
            raise SettingsError(msg) from error
    return space


def base_values(experiment: Experiment, space: Space) -> dict[str, Any] | None:
    """Return what of the space is the experiment as it stands; None where that lies outside."""
    settings = settings_of(experiment)
    values = {}
    for key, dimension in space.items():
        current = value_at(settings, key)
        if isinstance(dimension, Range):
            same = [current] if dimension.holds(current) else []
        else:
            same = [choice for choice in dimension.choices if with_values(experiment, {key: choice}) == experiment]
        if not same:
            return None
        values[key] = same[0]
    return values


def _dimension(leaf: object) -> Range | Choices:
    kind: type[Range | Choices] = Choices if isinstance(leaf, dict) and "choices" in leaf else Range
    if not isinstance(leaf, dict):
        msg = f"{leaf!r}: give {{ low = ..., high = ... }} or {{ choices = [...] }}"
        raise SettingsError(msg)
    try:
        return msgspec.convert(leaf, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(explain(error, leaf, kind)) from error


def _fitting(key: str, dimension: Range | Choices, experiment: Experiment) -> Range | Choices:
    """Return the dimension in the setting's kind of number.

    Raises:
        SettingsError: the setting cannot be varied, or not so; the message says which value, and what is allowed.
    """
    current = check_varies(key, experiment)
    if isinstance(dimension, Range):
        if isinstance(current, bool | str | list | dict):
            msg = f"is {value_text(current)}, no number: give {{ choices = [...] }}"
            raise SettingsError(msg)
        numbers = (dimension.low, dimension.high, dimension.step)
        if isinstance(current, int) and any(isinstance(number, float) for number in numbers):
            msg = "is a whole number: give low, high and step without a point"
            raise SettingsError(msg)
        if not isinstance(current, int):
            dimension = msgspec.structs.replace(dimension, low=float(dimension.low), high=float(dimension.high))
    for value in (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension.choices:
        with_values(experiment, {key: value})
    return dimension


def _found(settings: object, key: str) -> bool:
    try:
        value_at(settings, key)
    except SettingsError:
        return False
    return True
