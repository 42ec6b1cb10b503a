"""Settings of an experiment by dotted key: `recipe.mixup`, `network.convolutions.0.filters`."""

import copy
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from broker.contract.errors import SettingsError
from broker.explain import explain
from training.config import Experiment

__all__ = ["check_varies", "leaves_of", "read_table", "settings_of", "value_at", "with_values"]

_FIXED: Final = {
    "name": "it varies nothing",
    "merge": "another task has other scores",
    "split": "scores on other speakers do not compare",
    "decision": "it does not change the score; `train` chooses it afterwards",
    "recipe.seed": "luck is not searched for",
    "recipe.seeds": "luck is not searched for",
    "recipe.refit": "nobody is left to score such weights",
}


def read_table(option: str, path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Args:
        option: by which the file was named, for errors.
        path: the file.

    Raises:
        SettingsError: it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{option} {path}: {error.strerror}"
        raise SettingsError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{option} {path}: not valid TOML: {error}"
        raise SettingsError(msg) from error


def leaves_of(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every leaf by its full key, whether that was written with quotes or as nested tables.

    A range and a choice are leaves, an empty table is one, and so is whatever is no table.

    Raises:
        SettingsError: the same key is written in both ways.
    """
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        full = f"{prefix}{key}"
        is_table = isinstance(value, dict) and value and not value.keys() & {"low", "high", "choices"}
        found = leaves_of(value, f"{full}.") if is_table else {full: value}
        for twice in sorted(leaves.keys() & found.keys()):
            msg = f"{twice}: is written twice"
            raise SettingsError(msg)
        leaves |= found
    return leaves


def check_varies(key: str, experiment: Experiment) -> Any:  # noqa: ANN401 -- whatever an experiment holds
    """Return what stands under a dotted key, if it may be varied.

    Raises:
        SettingsError: it may not, or there is no such setting; the message does not repeat the key.
    """
    for fixed, reason in _FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            msg = f"cannot be varied: {reason}"
            raise SettingsError(msg)
    return value_at(settings_of(experiment), key)


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment with other values for some dotted keys.

    Raises:
        SettingsError: a key is no setting of the experiment, or the values are not allowed, alone or together.
    """
    settings = settings_of(experiment)
    for key, value in values.items():
        *path, last = key.split(".")
        table = value_at(settings, ".".join(path)) if path else settings
        value_at(table, last)
        if isinstance(table, list):
            table[int(last)] = copy.deepcopy(value)  # or a later key could reach into it
        else:
            table[last] = copy.deepcopy(value)
    try:
        return msgspec.convert(settings, Experiment)
    except msgspec.ValidationError as error:
        raise SettingsError(explain(error, settings, Experiment)) from error


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """Return an experiment as tables, lists and plain values; None where a setting has none."""
    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(experiment))
    return settings


def value_at(settings: Any, key: str) -> Any:  # noqa: ANN401 -- whatever an experiment holds
    """Return what lies under a dotted key; a number picks one of a list.

    Raises:
        SettingsError: nothing does.
    """
    for step in key.split("."):
        if isinstance(settings, dict) and step in settings:
            settings = settings[step]
        elif isinstance(settings, list) and step.isdecimal() and int(step) < len(settings):
            settings = settings[int(step)]
        else:
            here = settings if isinstance(settings, dict) else range(len(settings) if isinstance(settings, list) else 0)
            msg = f"no such setting ({step}); allowed: {', '.join(map(str, here)) or 'nothing, it is no table'}"
            raise SettingsError(msg)
    return settings
