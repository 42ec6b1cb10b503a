"""A hyperparameter search by Optuna: what it tries next, what it keeps, and how it goes on after an interruption.

out/
    search.sqlite   every trial as soon as it ends; the same command goes on from here
    trials.json     Search
    best.toml       the best experiment so far, complete: `sottovoce-train train --config` takes it
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from broker.contract.errors import DataError, SettingsError
from training.config import Experiment
from training.data.clips import digest
from training.tuning.space import Choices, Range, Space, base_values, with_values
from training.tuning.trials import Score, Search, Trial, write_search

__all__ = ["Budget", "Target", "search"]

log = logging.getLogger(__name__)

_STORE_NAME: Final = "search.sqlite"
_AT_RANDOM: Final = 5
"""Trials before the sampler (TPE, Bergstra et al. 2011) learns from them; Optuna's 10 would be the whole budget."""
_ENOUGH: Final = 10
"""Trials from which the importance of a setting is told."""
_INTERRUPTED: Final = "interrupted"
_DIGITS: Final = 4
"""Of a number that is tried."""


class Budget(NamedTuple):
    """When to stop."""

    trials: int = 10
    """Those of an earlier, interrupted command among them."""
    minutes: float | None = None
    """No trial begins later than this; None: no limit."""


class Target(NamedTuple):
    """What a search climbs."""

    name: str
    """In words: which score of whom, with which seed."""
    note: str
    """What to bear in mind when the best experiment is tested."""
    data: str
    """Digest of the clips: scores on others do not compare."""
    seed: int
    score: Callable[[Experiment, str], Score]
    """Called with the experiment to fit and a title for its progress."""


def search(
    experiment: Experiment,
    space: Space,
    target: Target,
    out: Path,
    budget: Budget,
    told: Callable[[Search], None] = lambda _: None,
) -> Search:
    """Return every trial, after writing them and the best experiment to `out`.

    The experiment as it stands is tried first, where the space holds it. A trial that fails is noted. Ctrl-C leaves the
    files as they are after the last trial, and passes on.

    Args:
        experiment: what is varied.
        space: how.
        target: what is to become as high as possible.
        out: folder of the search.
        budget: when to stop.
        told: called with the search so far after each trial.

    Raises:
        SettingsError: the folder cannot be used, or holds another search.
        DataError: no trial finished.
    """
    study = _open(out, _fingerprint(experiment, space, target), target.seed)
    distributions = {key: _distribution(dimension) for key, dimension in space.items()}
    found = _collect(study, experiment, space, target)
    standing = base_values(experiment, space)
    if found.ended == 0 and standing is not None:
        study.enqueue_trial({key: _stored(space[key], value) for key, value in standing.items()})
    began = time.monotonic()
    while found.ended < budget.trials:
        if budget.minutes is not None and time.monotonic() - began >= budget.minutes * 60:
            break
        try:
            _try(study, study.ask(distributions), experiment, space, target)
        finally:
            found = _collect(study, experiment, space, target)
            write_search(out, found, experiment)
        told(found)
    if found.winner is None:
        why = next((trial.error for trial in reversed(found.trials) if trial.error), "its time was up before")
        msg = f"{out}: no trial finished: {why}"
        raise DataError(msg)
    return found


def _try(study: optuna.Study, trial: optuna.Trial, experiment: Experiment, space: Space, target: Target) -> None:
    """Score one point of the space, and note what came of it."""
    began = time.monotonic()
    score, error = None, ""
    try:
        tried = with_values(experiment, _values(trial.params, space))
        score = target.score(tried, f"trial {trial.number}")
    except KeyboardInterrupt:
        error = _INTERRUPTED
        raise
    except Exception as failure:
        error = " ".join(str(failure).split()) or type(failure).__name__
        log.debug("trial %d failed", trial.number, exc_info=True)
    finally:
        outcome = {"score": msgspec.to_builtins(score), "error": error, "seconds": round(time.monotonic() - began, 1)}
        trial.set_user_attr("outcome", outcome)
        study.tell(trial, score.uar if score else None, state=None if score else TrialState.FAIL)


def _open(out: Path, fingerprint: str, seed: int) -> optuna.Study:
    """Return the study that `out` holds, or a new one.

    Raises:
        SettingsError: the folder cannot be used, or holds another search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # each trial is told by the caller
    place = out / _STORE_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        url = URL.create("sqlite", database=str(place.absolute())).render_as_string()
        study = optuna.create_study(storage=url, study_name="search", direction="maximize", load_if_exists=True)
    except OSError as error:
        msg = f"{out}: the folder cannot be made ({error.strerror}); choose another --out"
        raise SettingsError(msg) from error
    except (SQLAlchemyError, RuntimeError) as error:  # no database, or one of another version of Optuna
        reason = str(error).splitlines()[0]
        msg = f"{place}: holds no search that can be read ({reason}); choose another --out, or remove it"
        raise SettingsError(msg) from error
    if study.user_attrs.get("fingerprint", fingerprint) != fingerprint:
        msg = f"{out}: holds a search of another experiment, space, fold or data; choose another --out, or remove it"
        raise SettingsError(msg)
    study.set_user_attr("fingerprint", fingerprint)
    # Another seed after each interruption, or the sampler would draw what it drew before.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=_AT_RANDOM)
    return study


def _fingerprint(experiment: Experiment, space: Space, target: Target) -> str:
    told = msgspec.json.encode((experiment, list(space.items()), target.name, target.data, target.seed))
    return digest(told)


def _distribution(dimension: Range | Choices) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(tuple(dimension.by_text))
    low, high, step = dimension.low, dimension.high, dimension.step
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=dimension.log, step=int(step or 1))
    return FloatDistribution(low, high, log=dimension.log, step=step)


def _stored(dimension: Range | Choices, value: object) -> object:
    """Return a value as the storage has it."""
    if isinstance(dimension, Choices):
        return next(text for text, choice in dimension.by_text.items() if choice == value)
    return value


def _values(stored: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """Return the values that the storage's stand for; numbers of as many digits as a person would write."""
    values = {}
    for key, dimension in space.items():
        value = stored[key]
        if isinstance(dimension, Choices):
            value = dimension.by_text[value]
        elif isinstance(value, float):
            value = min(max(float(f"{value:.{_DIGITS}g}"), dimension.low), dimension.high)
        values[key] = value
    return values


def _collect(study: optuna.Study, experiment: Experiment, space: Space, target: Target) -> Search:
    trials = tuple(_trial(each, space) for each in study.trials if each.params.keys() == space.keys())
    finished = [(trial.score.uar, -trial.number) for trial in trials if trial.score]
    differ = len(finished) >= _ENOUGH and len({uar for uar, _ in finished}) > 1
    shares = optuna.importance.get_param_importances(study) if differ else {}
    return Search(
        experiment=experiment.name,
        target=target.name,
        note=target.note,
        trials=trials,
        best=-max(finished)[1] if finished else None,
        importances={key: round(share, 3) for key, share in shares.items()},
    )


def _trial(trial: FrozenTrial, space: Space) -> Trial:
    outcome = trial.user_attrs.get("outcome", {"score": None, "error": _INTERRUPTED, "seconds": 0.0})  # it was killed
    state: Literal["finished", "failed", "interrupted"] = "finished" if outcome["score"] else "failed"
    interrupted = outcome["error"] == _INTERRUPTED
    return Trial(
        number=trial.number,
        state="interrupted" if interrupted else state,
        values=_values(trial.params, space),
        score=msgspec.convert(outcome["score"], Score | None),
        error="" if interrupted else outcome["error"],
        seconds=outcome["seconds"],
    )
