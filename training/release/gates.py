"""What a bundle must reach before it is signed: no worse than the active release, small and quick enough.

The figures are those of the bundles' evaluation cards, which `sottovoce-train bundle` wrote: on speakers that no weight
has heard. A figure that is missing, or that cannot be compared, does not pass.
"""

import enum
from typing import Final

import msgspec

from broker.contract.bundle import Bundle
from training.release.settings import Gates

__all__ = ["Gate", "Verdict", "check"]

_FIGURES: Final = ("corpus-macro UAR", "pooled UAR")


class Verdict(enum.StrEnum):
    """How a gate stands."""

    PASSED = "pass"
    FAILED = "FAIL"
    NOT_MEASURED = "not measured"
    """Here; the nodes have a gate of their own for it."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One gate, and what was found."""

    what: str
    verdict: Verdict
    detail: str
    """Figure and limit, or what is missing."""

    def __str__(self) -> str:
        """Return it in a line."""
        return f"{self.what}: {self.detail}"


class _Figure(msgspec.Struct, frozen=True):
    mean: float


class _Summary(msgspec.Struct, frozen=True):
    """What is needed of `training.fitting.summary.Summary`; what else a card holds is of no interest here."""

    by: str
    corpora: dict[str, object]
    figures: dict[str, _Figure]


class _Card(msgspec.Struct, frozen=True):
    experiment: str
    cross_validation: dict[str, _Summary]


def check(bundle: Bundle, active: Bundle | None, limits: Gates) -> tuple[Gate, ...]:
    """Return every gate.

    Args:
        bundle: what is to be released.
        active: what runs now; None: nothing does, so that there is nothing to compare with.
        limits: of the repository.
    """
    return (
        *(_accuracy(figure, bundle, active, limits.margin) for figure in _FIGURES),
        _gate(
            "size of model.tflite",
            f"{len(bundle.model):,} bytes, at most {limits.model_bytes:,}",
            passed=len(bundle.model) <= limits.model_bytes,
        ),
        _latency(bundle, active, limits.latency_ratio),
    )


def _accuracy(figure: str, bundle: Bundle, active: Bundle | None, margin: float) -> Gate:
    new = _summary(bundle)
    if new is None or figure not in new.figures:
        return _gate(figure, "the evaluation card has no such figure; bundle it with --compare RUN", passed=False)
    if new.by == "clip":
        return _gate(figure, "was measured on speakers that the weights know; split by speaker", passed=False)
    value = new.figures[figure].mean
    old = None if active is None else _summary(active)
    if active is None or old is None or figure not in old.figures:
        other = "no release is active" if active is None else f"{active.manifest.identity} tells none"
        return _gate(figure, f"{value:.1%}; {other}", passed=True)
    if new.corpora.keys() != old.corpora.keys():
        corpora = " and ".join(", ".join(sorted(each.corpora)) for each in (new, old))
        return _gate(figure, f"cannot be compared: measured on {corpora}", passed=False)
    least = old.figures[figure].mean - margin
    detail = f"{value:.1%}, at least {least:.1%} ({active.manifest.identity} less {margin:.1%})"
    return _gate(figure, detail, passed=value >= least)


def _latency(bundle: Bundle, active: Bundle | None, limit: float) -> Gate:
    what = "time of a window"
    if active is None:
        return Gate(what=what, verdict=Verdict.NOT_MEASURED, detail="no release is active to compare with")
    try:
        from training.exam.gates import latency_ratio  # noqa: PLC0415 -- needs LiteRT, which signing does not
    except ModuleNotFoundError as error:
        detail = f"the package {error.name} is missing: pip install 'sottovoce[node]'"
        return Gate(what=what, verdict=Verdict.NOT_MEASURED, detail=detail)
    ratio = latency_ratio(bundle.model, active.model, active.manifest.identity)
    detail = f"{ratio:.2f} times that of {active.manifest.identity}, at most {limit:g}"
    return _gate(what, detail, passed=ratio <= limit)


def _summary(bundle: Bundle) -> _Summary | None:
    """Return what the card says about the bundle's own experiment; None where it says nothing that can be read."""
    try:
        card = msgspec.convert(bundle.card, _Card)
    except msgspec.ValidationError:
        return None
    return card.cross_validation.get(card.experiment)


def _gate(what: str, detail: str, *, passed: bool) -> Gate:
    return Gate(what=what, verdict=Verdict.PASSED if passed else Verdict.FAILED, detail=detail)
