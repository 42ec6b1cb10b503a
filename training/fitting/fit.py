"""The training loop: from examples to a Keras model, the epoch chosen on validation speakers.

Reads top to bottom: the epochs and the choice among them; optimizer and step; what the network says of clips.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES
from training.augment.examples import Examples, epoch_batches
from training.config import Experiment, Recipe
from training.data.clips import Clip
from training.exam.metrics import score_clips
from training.exam.replay import Heard
from training.fitting.results import Epoch
from training.model.network import Model, Tensor, build, class_sum, keras, targets_of, tf
from training.progress import bar

__all__ = ["Fitted", "clip_logits", "clip_probabilities", "fit"]

log = logging.getLogger(__name__)

Logits = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float32]


class Fitted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A trained network."""

    model: Model
    """Keras model from normalised features to logits."""
    epochs: tuple[Epoch, ...]
    """All that were run, from the first."""
    best: int
    """Index of the epoch whose weights were kept."""


def fit(
    examples: Examples,
    validation: Sequence[tuple[Clip, Heard]],
    experiment: Experiment,
    seed: int,
    title: str,
    last: int | None = None,
) -> Fitted:
    """Return the network that scored best on the validation clips.

    Args:
        examples: training windows.
        validation: validation clips as a node hears them, normalised by the examples' statistics; none: the last
            epoch's weights are kept.
        experiment: network and recipe.
        seed: of the weights and the draws.
        title: what the progress bar calls this run.
        last: stop after that many epochs of the schedule; None: run all.
    """
    recipe = experiment.recipe
    keras.utils.clear_session()  # or the names of layers, which files carry, would count on from the last run
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    random = np.random.default_rng(seed)
    normalisation = examples.normalisation()
    targets = targets_of(experiment, examples.clips)
    model = build(experiment.network, targets.shape[1], examples.window_shape)
    weights = _Weights(model, recipe, max(1, (recipe.draws or len(examples.owner)) // recipe.batch))
    epochs: list[Epoch] = []
    best, best_weights = 0, model.get_weights()
    with bar() as progress:
        task = progress.add_task(title, total=recipe.epochs, note="")
        for number in range(recipe.epochs):
            batches = epoch_batches(examples, targets, experiment, normalisation, random)
            told = [weights.step(features, wanted) for features, wanted in batches]
            with weights.averaged():
                epochs.append(
                    Epoch(
                        loss=float(np.mean([loss for loss, _ in told])),
                        accuracy=float(np.mean([right for _, right in told])),
                        validation_uar=_validation_uar(model, validation, experiment) if validation else None,
                    )
                )
                if number == 0 or _is_better(epochs[-1], epochs[best]):
                    best, best_weights = number, model.get_weights()
            log.debug("%s: epoch %d: %s", title, number, epochs[-1])
            progress.update(task, advance=1, note=_note(epochs, best))
            if number - best >= recipe.patience or number + 1 == last:
                break
    model.set_weights(best_weights)
    return Fitted(model=model, epochs=tuple(epochs), best=best)


class _Weights:
    """A network's weights as they move, and their running mean, which is what is judged and kept."""

    def __init__(self, model: Model, recipe: Recipe, steps: int) -> None:
        """Begin where the network stands.

        Args:
            model: what to fit.
            recipe: optimizer and memory.
            steps: per epoch.
        """
        self._model, self._ema, self._taken = model, recipe.ema, 0
        rate = keras.optimizers.schedules.CosineDecay(recipe.learning_rate, recipe.epochs * steps)
        self._optimizer = keras.optimizers.AdamW(
            rate if recipe.cosine else recipe.learning_rate, weight_decay=recipe.weight_decay, clipnorm=recipe.clip_norm
        )
        self._optimizer.build(model.trainable_variables)
        self._means = [tf.Variable(weight.value) for weight in model.trainable_variables]
        self._compiled = tf.function(self._step, jit_compile=True)

    def step(self, features: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and the share that is told rightly, after learning from it.

        Args:
            features: shape (windows, frames, columns), normalised.
            wanted: shape (windows, outputs); each row's sum is 1.
        """
        self._taken += 1
        memory = min(self._ema, (1 + self._taken) / (10 + self._taken))  # the first steps are not remembered for long
        batch = (tf.constant(features), tf.constant(wanted), tf.constant(memory, tf.float32))
        told: tuple[Tensor, Tensor] = self._compiled(*batch)
        return told

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the network have the running mean of its weights inside a `with` block."""
        current = self._model.get_weights()
        for weight, mean in zip(self._model.trainable_variables, self._means, strict=True):
            weight.assign(mean)
        try:
            yield
        finally:
            self._model.set_weights(current)

    def _step(self, features: Tensor, wanted: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        with tf.GradientTape() as tape:
            logits = self._model(features, training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))
        weights = self._model.trainable_variables
        self._optimizer.apply(tape.gradient(loss, weights), weights)
        for mean, weight in zip(self._means, weights, strict=True):
            mean.assign(memory * mean + (1 - memory) * weight.value)
        right = tf.equal(tf.argmax(logits, axis=1), tf.argmax(wanted, axis=1))
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))


def clip_logits(model: Model, heard: Sequence[Heard]) -> list[Logits]:
    """Return each clip's window logits, shape (windows, outputs)."""
    windows = np.concatenate([item.features for item in heard])
    logits = np.concatenate(
        [np.asarray(model(windows[first : first + 512], training=False)) for first in range(0, len(windows), 512)]
    )
    ends = np.cumsum([len(item.features) for item in heard])
    return np.split(logits, ends[:-1])


def clip_probabilities(logits: Sequence[Logits], experiment: Experiment) -> list[Probabilities]:
    """Return each clip's window probabilities, shape (windows, 3), in the order of `CLASSES`."""
    to_class = class_sum(experiment)
    scaled = [np.exp(item - item.max(axis=1, keepdims=True)) for item in logits]
    return [item / item.sum(axis=1, keepdims=True) @ to_class for item in scaled]


def _validation_uar(model: Model, validation: Sequence[tuple[Clip, Heard]], experiment: Experiment) -> float:
    """Return the corpus-macro UAR of the mean probabilities per clip."""
    clips = [clip for clip, _ in validation]
    probabilities = clip_probabilities(clip_logits(model, [heard for _, heard in validation]), experiment)
    decided = np.array([int(np.argmax(item.mean(axis=0))) for item in probabilities])
    truth = np.array([CLASSES.index(clip.label) for clip in clips])
    return score_clips(truth, decided, clips).macro_uar


def _is_better(epoch: Epoch, best: Epoch) -> bool:
    """Return whether to keep this epoch's weights: a better score, or, where nothing is scored, a later one."""
    return epoch.validation_uar is None or best.validation_uar is None or epoch.validation_uar > best.validation_uar


def _note(epochs: Sequence[Epoch], best: int) -> str:
    told = epochs[-1].validation_uar
    return f"loss {epochs[-1].loss:.3f}" if told is None else f"UAR {told:.3f} best {epochs[best].validation_uar:.3f}"
