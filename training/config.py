"""Experiments: TOML files decoded strictly into frozen structs."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker.contract.decision import Label
from broker.contract.errors import SettingsError
from broker.contract.features import FeatureSpec, frame_count
from broker.contract.windows import WindowSpec
from broker.settings import read_settings
from training.augment.view_settings import Views
from training.data.clips import RATE_HZ
from training.data.corpora import CLASS_OF, Emotion

__all__ = [
    "ConvLstm",
    "Convolution",
    "DecisionRules",
    "Experiment",
    "PaperLstm",
    "PaperViews",
    "Recipe",
    "SplitChoice",
    "Views",
    "all_speakers",
    "by_clip",
    "load_experiment",
]

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]


class SplitChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clips are divided."""

    by: Literal["speaker", "fixed", "all", "clip"] = "speaker"
    """`speaker`: the folds of the protocol; `fixed`: the speakers named below; `all`: nobody is tested, to make the
    model that is shipped; `clip` (or `train --by-clip`) repeats the paper's mistake, to measure it, and every report
    then says so."""
    validating: dict[str, Annotated[int, Meta(ge=0)]] = msgspec.field(
        default_factory=lambda: {"ravdess": 3, "savee": 1}
    )
    """Validation speakers per corpus; a corpus always keeps one in training."""
    clip_folds: Annotated[int, Meta(ge=2, le=10)] = 5
    """By clip: how many test sides there are."""
    validation_speakers: tuple[str, ...] = ()
    """Fixed: who chooses, as `<corpus>_<speaker>`."""
    test_speakers: tuple[str, ...] = ()
    """Fixed: who is tested."""
    only_listed: str | None = None
    """CSV file that names the clips to use, as `training.data.listed` reads it; None: all."""


class PaperViews(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="paper"):
    """The paper's two items per clip: noise; slow and pitched up. The clean clip itself is not trained on."""

    start_s: NonNegative = 0.4
    """Crop begins here."""
    end_s: NonNegative = 1.9
    """Crop ends here."""
    noise_peak_share: Share = 0.5
    """White noise's largest amplitude, as a share of the clip's peak."""
    stretch: Annotated[float, Meta(gt=0)] = 0.8
    """Rate of the time stretch; below 1 is slower."""
    pitch_semitones: float = 0.7
    """Upward shift of the stretched clip."""
    drop_unpleasant: Share = 0.6
    """Share of sad, angry, fearful and disgusted clips left out at random, to balance the classes."""
    drop_pleasant: Share = 0.25
    """Share of happy and surprised clips left out."""


class Convolution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Conv1D over time with ReLU, without padding."""

    filters: Positive
    kernel: Positive = 5
    """Frames that one output hears."""
    stride: Positive = 2
    """Frames between two outputs."""


class ConvLstm(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conv-lstm"
):
    """Convolutions that thin the frames out, one LSTM, pooling over time."""

    convolutions: Annotated[tuple[Convolution, ...], Meta(min_length=1)] = (Convolution(filters=32),)
    """From the first to the last."""
    units: Positive = 64
    """Of the LSTM."""
    pooling: Literal["last", "mean", "mean-std"] = "mean"
    """What is made of the LSTM's steps: the last, their mean, or mean and standard deviation."""
    dropout: Share = 0.3
    """Share of the values set to 0 in training, before the last layer."""

    def steps(self, frames: int) -> int:
        """Return how many steps the LSTM takes over that many frames; 0 or less: there are too few."""
        for layer in self.convolutions:
            frames = (frames - layer.kernel) // layer.stride + 1
        return frames


class PaperLstm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="paper"):
    """LSTM(128), LSTM(64), Dense(64, relu), Dropout(0.3)."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights are fitted."""

    seed: Annotated[int, Meta(ge=0)] = 1
    """Of the altered copies and of splits by clip: the same in all runs of an experiment."""
    seeds: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(min_length=1)] = (1,)
    """Of the weights and of what is drawn: each fold is trained once with each, and figures come with their spread."""
    outputs: Literal["classes", "emotions"] = "classes"
    """`emotions`: a softmax over seven, summed to the three classes inside the graph."""
    epochs: Positive
    """At most; also the length of the cosine."""
    draws: Annotated[int, Meta(ge=0)] = 0
    """Windows drawn per epoch; 0: every view once, in random order, unbalanced."""
    patience: Positive
    """Epochs without a better validation score after which training stops."""
    batch: Positive = 32
    """Windows per step."""
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    """Of AdamW, at the first step."""
    cosine: bool = False
    """Whether the learning rate falls to 0 along a cosine."""
    weight_decay: NonNegative = 0.0
    """Of AdamW, decoupled from the gradient: a share of the weights per step, times the learning rate."""
    clip_norm: Annotated[float, Meta(gt=0)] | None = None
    """Gradients are scaled down to this norm; None: never."""
    label_smoothing: Share = 0.0
    """Share of each target that is spread evenly over all outputs."""
    mixup: NonNegative = 0.0
    """Windows are mixed in pairs by a share drawn from Beta(mixup, mixup); 0: never."""
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Memory per step of the running mean of the weights that is evaluated and kept; 0: the last weights."""
    speaker_power: Share = 0.5
    """Balanced draws weigh a speaker's clips by 1 / (its clips ** this): 0 all clips alike, 1 all speakers alike."""
    refit: bool = False
    """Whether the weights that are kept are fitted anew with the validation speakers among the others, after they have
    chosen the epochs, the temperature, the bias and the decision."""


class DecisionRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the thresholds of the decision are chosen by, on validation speakers."""

    smoothing: Annotated[tuple[Annotated[float, Meta(gt=0, le=1)], ...], Meta(min_length=1)] = (0.3, 0.5, 0.7, 1.0)
    """Weights of the newest window to choose from."""
    uncertain_share: Share = 0.15
    """Share of the windows that may be `uncertain`."""
    wrong_share: Share | None = None
    """Share of the other windows that may be wrong: the lowest threshold that keeps to it is taken, if it calls no more
    windows `uncertain` than may be. None: as many are `uncertain` as may be."""
    margin: Annotated[float, Meta(ge=0, le=0.3)] = 0.0
    """This and the next two go into the decision as they are: clips cannot choose them, talks can, and
    `calibrate` tells what they do."""
    hold_us: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    confirm_windows: Annotated[int, Meta(ge=1, le=20)] = 1
    silence_margin_db: NonNegative = 12.0
    """Silence begins this far below the quietest hundredth of the clips."""
    correct_prior: bool = True
    """Whether a bias per class is fitted, so that no class is decided at the others' expense."""
    calibrate: bool = True
    """Whether a temperature is fitted, so that a confidence is the share that is right."""


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file under training/configs."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    features: FeatureSpec
    window: WindowSpec
    """One model input, and the distance to the next."""
    views: Views | PaperViews
    network: ConvLstm | PaperLstm
    recipe: Recipe
    merge: dict[Emotion, Label] = msgspec.field(default_factory=lambda: dict(CLASS_OF))
    """Which class each emotion counts as; clips of an emotion that is left out are not used."""
    split: SplitChoice = SplitChoice()
    decision: DecisionRules = DecisionRules()

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other.

        Raises:
            SettingsError: the message names the settings.
        """
        if self.features.sample_rate_hz != RATE_HZ:
            msg = f"features.sample_rate_hz = {self.features.sample_rate_hz}: allowed is {RATE_HZ}, as clips have"
            raise SettingsError(msg)
        frames = frame_count(self.window.length_samples, self.features)
        if frames < 1 or (isinstance(self.network, ConvLstm) and self.network.steps(frames) < 1):
            length = self.window.length_samples
            msg = f"window.length_samples = {length}: holds {frames} frames, too few for the network"
            raise SettingsError(msg)
        if len(set(self.recipe.seeds)) != len(self.recipe.seeds):
            msg = f"recipe.seeds = {list(self.recipe.seeds)}: the same seed twice"
            raise SettingsError(msg)
        if isinstance(self.views, Views) and self.views.pitch_dropout > 0 and not self.features.pitch:
            msg = f"views.pitch_dropout = {self.views.pitch_dropout:g}: there is no pitch; set features.pitch, too"
            raise SettingsError(msg)
        if isinstance(self.views, PaperViews):
            crop = round((self.views.end_s - self.views.start_s) * RATE_HZ)
            if crop < self.window.length_samples:
                msg = f"views.end_s = {self.views.end_s:g}: the crop of {crop} samples must hold window.length_samples"
                raise SettingsError(msg)


def by_clip(experiment: Experiment, only_listed: Path | None = None) -> Experiment:
    """Return the experiment split by clip, under another name.

    Args:
        experiment: any.
        only_listed: CSV file that names the clips to use; None: all.
    """
    listed = str(only_listed) if only_listed else experiment.split.only_listed
    split = msgspec.structs.replace(experiment.split, by="clip", only_listed=listed)
    return msgspec.structs.replace(experiment, name=f"{experiment.name}-by-clip", split=split)


def all_speakers(experiment: Experiment) -> Experiment:
    """Return the experiment with every speaker trained and nobody tested."""
    return msgspec.structs.replace(experiment, split=msgspec.structs.replace(experiment.split, by="all"))


def load_experiment(path: Path) -> Experiment:
    """Return the experiment that a TOML file describes.

    Raises:
        SettingsError: the file is missing, is no TOML, or holds a key or a value that is not allowed.
    """
    return read_settings(path, Experiment, "give a file such as training/configs/factory.toml")
