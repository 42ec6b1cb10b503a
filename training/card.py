"""card.json, the evaluation card in a bundle: what was measured, on whom, how and where."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from broker.contract.bundle import Bundle
from broker.contract.errors import BundleError
from training.config import Experiment
from training.corpora import CORPORA
from training.evaluate import Figures, Group
from training.metrics import Scores, merge
from training.replay import RULE
from training.results import FoldResult, Machine, Run

__all__ = ["Card", "CrossValidation", "FoldScores", "NetworkSize", "make_card", "read_card"]


class NetworkSize(msgspec.Struct, frozen=True, kw_only=True):
    """The network in figures."""

    parameters: int
    float_bytes: int
    quantized_bytes: int


class FoldScores(msgspec.Struct, frozen=True, kw_only=True):
    """One fold's quantized model on its test speakers."""

    fold: int | None
    """Index of the tested fold; None: by clip."""
    uar: dict[str, float]
    """Per corpus."""
    accuracy: float
    corpus_macro_uar: float


class CrossValidation(msgspec.Struct, frozen=True, kw_only=True):
    """All folds of a run."""

    by: Literal["speaker", "clip"]
    """`clip`: speakers stand on both sides, and the figures are optimistic."""
    quantized_bytes: int
    folds: tuple[FoldScores, ...]
    all_folds_uar: dict[str, float]
    """Per corpus, quantized, the folds' test sides taken as one."""
    all_folds_corpus_macro_uar: float
    pooled: Scores
    """Quantized, all test clips taken as one."""
    cropped: Scores | None
    """Float, all test clips cropped as in the paper; None for other experiments."""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """The content of card.json."""

    experiment: str
    settings: Experiment
    split: str
    rule: str
    metric: str = "UAR per corpus; corpus-macro is their unweighted mean"
    data: dict[str, str]
    """Sources of the corpora trained on, by title."""
    training_clips: dict[str, int]
    """Per corpus."""
    network: NetworkSize
    held_out: dict[str, Figures]
    """`float` and `quantized`, as measured by `train`."""
    validation: Figures
    """Quantized."""
    float_and_quantized_decide_alike: float
    """Share of the held-out windows."""
    bias_folded_into_the_last_layer: tuple[float, ...]
    """Per class, added to the logits."""
    speakers: tuple[Group, ...]
    """The bundled files on every clip at hand when they were bundled, by the speakers' part in training."""
    cross_validation: dict[str, CrossValidation]
    """Of this experiment, and of those it was compared with, by name."""
    machine: Machine


def make_card(run: Run, result: FoldResult, others: Iterable[Run]) -> Card:
    """Return the card of a fold's model, as far as its training run can tell.

    Args:
        run: the run that the model comes from.
        result: the fold whose model it is.
        others: runs to stand beside it.
    """
    return Card(
        experiment=run.experiment,
        settings=run.settings,
        split=result.split,
        rule=RULE,
        data={corpus.title: corpus.source for corpus in CORPORA if corpus.key in result.training_clips},
        training_clips=result.training_clips,
        network=NetworkSize(
            parameters=result.parameters, float_bytes=result.float_bytes, quantized_bytes=result.quantized_bytes
        ),
        held_out=result.test,
        validation=result.validation,
        float_and_quantized_decide_alike=result.same_windows,
        bias_folded_into_the_last_layer=result.bias,
        speakers=(),
        cross_validation={item.experiment: _cross_validation(item) for item in (run, *others)},
        machine=run.machine,
    )


def read_card(bundle: Bundle) -> Card:
    """Return a bundle's card.

    Raises:
        BundleError: it is another program's, or an older one's.
    """
    try:
        return msgspec.convert(bundle.card, Card)
    except msgspec.ValidationError as error:
        msg = f"{bundle.manifest.identity}: card.json: {error}; build the bundle again with `sottovoce-train bundle`"
        raise BundleError(msg) from error


def _cross_validation(run: Run) -> CrossValidation:
    cropped = [item.test_cropped.pooled for item in run.folds if item.test_cropped]
    return CrossValidation(
        by=run.settings.split.by,
        quantized_bytes=run.folds[0].quantized_bytes,
        folds=tuple(
            FoldScores(
                fold=item.fold,
                uar={corpus: scores.uar for corpus, scores in item.test["quantized"].corpora.items()},
                accuracy=item.test["quantized"].pooled.accuracy,
                corpus_macro_uar=item.test["quantized"].macro_uar,
            )
            for item in run.folds
        ),
        all_folds_uar={corpus: scores.uar for corpus, scores in run.pooled.items()},
        all_folds_corpus_macro_uar=run.macro_uar,
        pooled=merge(run.pooled.values()),
        cropped=merge(cropped) if cropped else None,
    )
