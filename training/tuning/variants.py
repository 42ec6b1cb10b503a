"""Named changes of an experiment, as a TOML file lists them: one table each, settings by dotted key.

["mixup 0.2"]
why = "a regulariser that costs nothing on the device"
"recipe.mixup" = 0.2
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from broker.contract.errors import SettingsError, SottovoceError
from training.config import Experiment
from training.data.clips import digest
from training.tuning.dotted import check_varies, leaves_of, read_table, with_values

__all__ = ["BASELINE", "Variant", "load_variants", "only"]

BASELINE: Final = "as it stands"
"""What the experiment itself is called beside its variants."""
_LONGEST_NAME: Final = 40
"""Characters that leave room for the figures beside them."""


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """The experiment with some other settings."""

    name: str
    why: str
    """What one expects of it; may be empty."""
    values: dict[str, Any]
    """By dotted key; empty: the experiment as it stands."""
    experiment: Experiment
    """With those values."""

    @property
    def identity(self) -> str:
        """Digest of all settings but the seeds, which tell a variant's runs apart: it may change its name."""
        recipe = msgspec.structs.replace(self.experiment.recipe, seeds=())
        return digest(msgspec.json.encode(msgspec.structs.replace(self.experiment, recipe=recipe)))


def load_variants(path: Path, experiment: Experiment) -> tuple[Variant, ...]:
    """Return the experiment as it stands, and after it the variants that a TOML file describes, in its order.

    Raises:
        SettingsError: the file cannot be read, is no TOML or names no variant; a variant changes nothing, or what
            another changes; a key is no setting of the experiment or may not be varied; a value is not allowed.
    """
    tables = read_table("--variants", path)
    if not tables:
        msg = f'--variants {path}: names no variant; write e.g. ["mixup 0.2"] and below it "recipe.mixup" = 0.2'
        raise SettingsError(msg)
    variants = [Variant(name=BASELINE, why="", values={}, experiment=experiment)]
    for name, table in tables.items():
        try:
            variant = _variant(name, table, experiment)
            for before in variants:
                if variant.experiment == before.experiment:
                    msg = "changes nothing" if before is variants[0] else f"changes what {before.name} changes"
                    raise SettingsError(msg)
        except SottovoceError as error:
            msg = f"--variants {path}: {name!r}: {error}"
            raise SettingsError(msg) from error
        variants.append(variant)
    return tuple(variants)


def only(variants: Sequence[Variant], names: Sequence[str]) -> tuple[Variant, ...]:
    """Return the variants of these names, and the first one, which is what they are compared with.

    Raises:
        SettingsError: there is none of a name.
    """
    known = [variant.name for variant in variants]
    for name in names:
        if name not in known:
            msg = f"--only {name!r}: allowed are {', '.join(map(repr, known))}"
            raise SettingsError(msg)
    return tuple(variant for variant in variants if variant.name in {known[0], *names})


def _variant(name: str, table: object, experiment: Experiment) -> Variant:
    """Return one variant.

    Raises:
        SettingsError: it cannot be had; the message does not name it.
    """
    if not isinstance(table, Mapping):
        msg = f"{table!r}: give a table of settings"
        raise SettingsError(msg)
    if name == BASELINE or not name.isprintable() or name != name.strip() or not 0 < len(name) <= _LONGEST_NAME:
        msg = f"no name for a variant; allowed are 1 to {_LONGEST_NAME} printable characters, and not {BASELINE!r}"
        raise SettingsError(msg)
    why = table.get("why", "")
    if not isinstance(why, str):
        msg = f"why = {why!r}: give a text"
        raise SettingsError(msg)
    values = leaves_of({key: value for key, value in table.items() if key != "why"})
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            msg = f"{key} = {value}: give a finite number"
            raise SettingsError(msg)
        try:
            check_varies(key, experiment)
        except SettingsError as error:
            msg = f"{key}: {error}"
            raise SettingsError(msg) from error
    return Variant(name=name, why=" ".join(why.split()), values=values, experiment=with_values(experiment, values))
