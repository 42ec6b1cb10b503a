"""What the runs of several variants tell of each other.

Each run is paired with that of the experiment as it stands, on the same fold with the same seed: folds and seeds differ
more than variants do.
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Final, Literal

import msgspec

from training.tuning.variant_runs import VariantRun
from training.tuning.variants import Variant

__all__ = ["ERRORS", "FEWEST_PAIRS", "Row", "rows_of"]

FEWEST_PAIRS: Final = 4
"""With fewer, the standard error is not to be trusted and nothing is concluded from it."""
ERRORS: Final = 2
"""How many standard errors a difference must exceed to be told from chance."""

Verdict = Literal["better", "worse", "the data cannot tell"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the finished runs of a variant tell; shares of 1."""

    variant: str
    runs: int
    uar: float | None
    """Mean; None: no run is finished."""
    pairs: int
    """Runs whose fold and seed the baseline has finished, too; 0 for the baseline."""
    difference: float | None
    """Mean over the pairs of the variant's UAR less the baseline's; None: there is no pair."""
    error: float | None
    """Standard error of that mean; None: fewer than two pairs."""
    seconds: float | None
    """Mean wall time of a run."""

    @property
    def verdict(self) -> Verdict | None:
        """Whether the variant is better; None for what is not compared."""
        if self.difference is None:
            return None
        if self.error is None or self.pairs < FEWEST_PAIRS or not abs(self.difference) > ERRORS * self.error:
            return "the data cannot tell"
        return "better" if self.difference > 0 else "worse"


def rows_of(variants: Sequence[Variant], runs: Sequence[VariantRun]) -> tuple[Row, ...]:
    """Return a row per variant; the first is what the others are compared with."""
    scored = {run.key: (run.score.uar, run.seconds) for run in runs if run.score}
    baseline = variants[0].identity
    rows = []
    for variant in variants:
        own = {(fold, seed): told for (identity, fold, seed), told in scored.items() if identity == variant.identity}
        differences = [
            uar - scored[baseline, *place][0]
            for place, (uar, _) in own.items()
            if variant.identity != baseline and (baseline, *place) in scored
        ]
        rows.append(
            Row(
                variant=variant.name,
                runs=len(own),
                uar=fmean(uar for uar, _ in own.values()) if own else None,
                pairs=len(differences),
                difference=fmean(differences) if differences else None,
                error=stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None,
                seconds=fmean(seconds for _, seconds in own.values()) if own else None,
            )
        )
    return tuple(rows)
