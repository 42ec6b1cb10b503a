"""What a hyperparameter search leaves behind: its trials, and the best experiment as a file that `train` takes."""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from broker.files import write_whole
from training.config import Experiment
from training.files import writing
from training.toml import to_toml
from training.tuning.space import with_values

__all__ = ["BEST_NAME", "TRIALS_NAME", "Score", "Search", "Trial", "write_search"]

BEST_NAME: Final = "best.toml"
TRIALS_NAME: Final = "trials.json"
_SUFFIX: Final = "-tuned"
_LONGEST_NAME: Final = 26
"""Characters of an experiment's name that leave room for the suffix."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial came to."""

    uar: float
    """Corpus-macro UAR of the validation clips, at the best epoch, or of the last ones where `variants` says so."""
    best_epoch: int
    """From 0."""
    epochs: int
    """That were run."""
    parameters: int
    """Of the network."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment that was tried."""

    number: int
    """From 0, in the order tried."""
    state: Literal["finished", "failed", "interrupted"]
    values: dict[str, Any]
    """By dotted key."""
    score: Score | None
    """None: it did not finish."""
    error: str
    """Why it failed; empty if it did not."""
    seconds: float
    """Wall time."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What has been tried so far."""

    experiment: str
    target: str
    """Whose score, with which seed."""
    note: str
    """What to bear in mind when the best experiment is tested."""
    trials: tuple[Trial, ...]
    best: int | None
    """Number of the best trial, of equal ones the first; None: none has finished."""
    importances: dict[str, float]
    """Share of the differences that each setting explains (PED-ANOVA), largest first; empty: too few trials."""

    @property
    def ended(self) -> int:
        """How many trials have come to an end, good or bad."""
        return sum(trial.state != "interrupted" for trial in self.trials)

    @property
    def winner(self) -> Trial | None:
        """The best trial."""
        return next((trial for trial in self.trials if trial.number == self.best), None)


def write_search(out: Path, found: Search, experiment: Experiment) -> None:
    """Write the trials and the best experiment to a folder; each file appears whole or not at all.

    Args:
        out: the folder.
        found: the search so far.
        experiment: what it varies.

    Raises:
        SettingsError: the folder cannot be written to.
    """
    _write(out / TRIALS_NAME, msgspec.json.format(msgspec.json.encode(found), indent=1))
    winner = found.winner
    if winner is None or winner.score is None:
        return
    best = with_values(experiment, winner.values)
    best = msgspec.structs.replace(best, name=f"{best.name.removesuffix(_SUFFIX)[:_LONGEST_NAME]}{_SUFFIX}")
    head = f"# Trial {winner.number} of {len(found.trials)}: {winner.score.uar:.1%} {found.target}.\n# {found.note}\n\n"
    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(best))
    _write(out / BEST_NAME, (head + to_toml(settings)).encode())


def _write(path: Path, content: bytes) -> None:
    with writing(path, "make room or choose another --out"):
        write_whole(path, content)
