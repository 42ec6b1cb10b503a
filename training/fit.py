"""The training loop: from examples to a Keras model, the epoch chosen on validation speakers.

Reads top to bottom: statistics, model, optimizer, one step, epochs, choice.
"""

import logging
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES
from training.clips import Clip
from training.config import Experiment
from training.corpora import CLASS_OF
from training.examples import Examples, epoch_batches
from training.metrics import corpus_macro_uar, score
from training.network import EMOTIONS, Model, Tensor, build, class_sum, keras, targets_of, tf
from training.progress import bar
from training.replay import Heard
from training.results import Epoch

__all__ = ["Fitted", "clip_probabilities", "fit"]

log = logging.getLogger(__name__)

Probabilities = npt.NDArray[np.float32]


class Fitted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A trained network."""

    model: Model
    """Keras model from normalised features to logits."""
    epochs: tuple[Epoch, ...]
    best: int
    """Index of the epoch whose weights were kept."""


def fit(examples: Examples, validation: Sequence[tuple[Clip, Heard]], experiment: Experiment, title: str) -> Fitted:
    """Return the network that scored best on the validation clips.

    Args:
        examples: training windows.
        validation: validation clips as a node hears them, normalised by the examples' statistics.
        experiment: network and recipe.
        title: what the progress bar calls this run.
    """
    recipe = experiment.recipe
    keras.utils.clear_session()  # or the names of layers, which files carry, would count on from the last run
    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    random = np.random.default_rng(recipe.seed)
    normalisation = examples.normalisation()
    targets = targets_of(recipe, [clip.emotion for clip in examples.clips])

    outputs = len(EMOTIONS) if recipe.outputs == "emotions" else len(CLASSES)
    shape = validation[0][1].features.shape[1:]
    model = build(experiment.network, outputs, shape)
    steps = max(1, (recipe.draws or len(examples.owner)) // recipe.batch)
    rate = recipe.learning_rate
    if recipe.cosine:
        rate = keras.optimizers.schedules.CosineDecay(rate, recipe.epochs * steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, clipnorm=recipe.clip_norm)
    optimizer.build(model.trainable_variables)
    averaged = [tf.Variable(weight.value) for weight in model.trainable_variables]

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]  # TensorFlow has no types
    def step(features: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            logits = model(features, training=True)
            smooth = tf.one_hot(wanted, outputs) * (1 - recipe.label_smoothing) + recipe.label_smoothing / outputs
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(smooth, logits))
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        for mean, weight in zip(averaged, weights, strict=True):
            mean.assign(recipe.ema * mean + (1 - recipe.ema) * weight.value)
        right = tf.equal(tf.argmax(logits, axis=1), wanted)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    epochs: list[Epoch] = []
    best, best_weights = 0, model.get_weights()
    with bar() as progress:
        task = progress.add_task(title, total=recipe.epochs, note="")
        for number in range(recipe.epochs):
            batches = epoch_batches(examples, targets, experiment, normalisation, random)
            told = [step(tf.constant(features), tf.constant(wanted)) for features, wanted in batches]
            current = model.get_weights()
            for weight, mean in zip(model.trainable_variables, averaged, strict=True):
                weight.assign(mean)
            epochs.append(
                Epoch(
                    loss=float(np.mean([loss for loss, _ in told])),
                    accuracy=float(np.mean([right for _, right in told])),
                    validation_uar=_validation_uar(model, validation),
                )
            )
            log.debug("%s: epoch %d: %s", title, number, epochs[-1])
            if epochs[-1].validation_uar > epochs[best].validation_uar or number == 0:
                best, best_weights = number, model.get_weights()
            model.set_weights(current)
            progress.update(
                task, advance=1, note=f"UAR {epochs[-1].validation_uar:.3f} best {epochs[best].validation_uar:.3f}"
            )
            if number - best >= recipe.patience:
                break
    model.set_weights(best_weights)
    return Fitted(model=model, epochs=tuple(epochs), best=best)


def clip_probabilities(model: Model, heard: Sequence[Heard]) -> list[Probabilities]:
    """Return each clip's window probabilities, shape (windows, 3), in the order of `CLASSES`."""
    windows = np.concatenate([item.features for item in heard])
    logits = np.concatenate(
        [np.asarray(model(windows[first : first + 512], training=False)) for first in range(0, len(windows), 512)]
    )
    scaled = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = scaled / scaled.sum(axis=1, keepdims=True) @ class_sum(logits.shape[1])
    ends = np.cumsum([len(item.features) for item in heard])
    return np.split(probabilities, ends[:-1])


def _validation_uar(model: Model, validation: Sequence[tuple[Clip, Heard]]) -> float:
    """Return the corpus-macro UAR of the mean probabilities per clip."""
    probabilities = clip_probabilities(model, [heard for _, heard in validation])
    decided = np.array([int(np.argmax(item.mean(axis=0))) for item in probabilities])
    truth = np.array([CLASSES.index(CLASS_OF[clip.emotion]) for clip, _ in validation])
    corpora = np.array([clip.corpus for clip, _ in validation])
    return corpus_macro_uar(
        {corpus: score(truth[corpora == corpus], decided[corpora == corpus]) for corpus in set(corpora)}
    )
