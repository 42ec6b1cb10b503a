"""card.json, the evaluation card in a bundle: what was measured, on whom, how and where."""

from collections.abc import Iterable

import msgspec

from broker.contract.bundle import Bundle
from broker.contract.errors import BundleError
from training.config import Experiment
from training.data.corpora import CORPORA
from training.exam.evaluate import Figures, Group
from training.exam.replay import RULE
from training.fitting.calibrate import Calibration
from training.fitting.results import Energy, FoldResult, Machine, Run
from training.fitting.summary import Summary, summarise

__all__ = ["Card", "make_card", "read_card"]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """The content of card.json."""

    experiment: str
    settings: Experiment
    split: str
    """As `Split.name` tells it."""
    rule: str
    """How a clip's label is made of the node's windows."""
    metric: str = "UAR per corpus; corpus-macro is their unweighted mean"
    data: dict[str, str]
    """Sources of the corpora trained on, by title."""
    training_clips: dict[str, int]
    """Per corpus."""
    parameters: int
    float_bytes: int
    """Size of reference.tflite."""
    quantized_bytes: int
    """Size of model.tflite."""
    exam: tuple[Group, ...]
    """This model on the speakers that its training left out, as measured by `train`; empty where all trained."""
    validation: Figures
    """Quantized; of the weights that chose the settings."""
    refitted: bool
    """Whether the weights saw the validation speakers after they had chosen the settings."""
    temperature: float
    """Divided the logits."""
    bias: tuple[float, ...]
    """Per class, added to the logits; folded into the last layer, as is the temperature."""
    speakers: tuple[Group, ...]
    """The bundled files on every clip at hand when they were bundled, by the speakers' part in training."""
    cross_validation: dict[str, Summary]
    """Of this experiment, and of those it was compared with, by name."""
    calibration: Calibration | None = None
    """How the decision was chosen, and what it is worth; None: `train` chose it."""
    machine: Machine
    energy: Energy | None


def make_card(run: Run, result: FoldResult, others: Iterable[Run], calibration: Calibration | None = None) -> Card:
    """Return the card of a fold's model, as far as its training run can tell.

    Args:
        run: the run that the model comes from.
        result: the fold whose model it is.
        others: runs to stand beside it.
        calibration: where the decision comes from, if not from the run.
    """
    return Card(
        experiment=run.experiment,
        settings=run.settings,
        split=result.origin.split,
        rule=RULE,
        data={corpus.title: corpus.source for corpus in CORPORA if corpus.key in result.training_clips},
        training_clips=result.training_clips,
        parameters=result.parameters,
        float_bytes=result.float_bytes,
        quantized_bytes=result.quantized_bytes,
        exam=tuple(group for group in (result.test, result.cross_corpus) if group),
        validation=result.validation,
        refitted=run.settings.recipe.refit,
        temperature=result.temperature,
        bias=result.bias,
        speakers=(),
        cross_validation={each.experiment: summarise(each) for each in (run, *others) if each.folds[0].test},
        calibration=calibration,
        machine=run.machine,
        energy=run.energy,
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
