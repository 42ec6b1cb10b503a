"""Experiments: TOML files decoded strictly into frozen structs."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from broker.contract.errors import SettingsError
from broker.contract.features import FeatureSpec, frame_count
from broker.contract.windows import WindowSpec
from broker.settings import read_settings
from training.clips import RATE_HZ

__all__ = [
    "ConvLstm",
    "DecisionRules",
    "Experiment",
    "PaperLstm",
    "PaperViews",
    "Recipe",
    "SplitChoice",
    "Views",
    "by_clip",
    "load_experiment",
]

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]


class SplitChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How clips are divided."""

    by: Literal["speaker", "clip"] = "speaker"
    """`clip` (or `train --by-clip`) repeats the paper's mistake, to measure it; every report then says so."""
    validating: dict[Literal["ravdess", "tess", "savee"], Positive] = msgspec.field(
        default_factory=lambda: {"ravdess": 3, "savee": 1}
    )
    """Validation speakers per corpus; a corpus always keeps one in training."""


class Views(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="product"):
    """Copies of each training clip (made once) and what is varied each time one is drawn."""

    copies: Positive = 6
    """Views per clip; the first is clean, the others are altered as below, each by its own seed."""
    speeds: Annotated[tuple[Annotated[float, Meta(ge=0.5, le=2)], ...], Meta(min_length=1)] = (0.9, 1.0, 1.1)
    """Playing speeds to choose from; pitch moves along."""
    gain_db: NonNegative = 10.0
    """Level moves by up to this much either way."""
    noisy: Share = 0.5
    """Share of the altered views that get noise (white, pink or brown)."""
    snr_db: tuple[float, float] = (5.0, 25.0)
    """Lowest and highest ratio of active speech to noise."""
    tilt_db: NonNegative = 6.0
    """Spectrum tilts by up to this much either way across the band, as another microphone would."""
    channel: NonNegative = 0.2
    """Standard deviation of a constant added to each normalised coefficient of a window: a channel's colour."""
    time_masks: Annotated[int, Meta(ge=0)] = 2
    """Stretches of frames set to the mean (SpecAugment)."""
    time_mask_share: Share = 0.15
    """Longest stretch, as a share of the window."""
    coefficient_masks: Annotated[int, Meta(ge=0)] = 1
    """Runs of coefficients set to the mean."""
    coefficient_mask_share: Share = 0.2
    """Longest run, as a share of the coefficients."""


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
    drop_unpleasant: Share = 0.6
    """Share of sad, angry, fearful and disgusted clips left out at random, to balance the classes."""
    drop_pleasant: Share = 0.25
    """Share of happy and surprised clips left out."""


class ConvLstm(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="conv-lstm"
):
    """Conv1D with stride 2, one LSTM, pooling over time."""

    filters: Positive = 32
    kernel: Positive = 5
    units: Positive = 64
    pooling: Literal["last", "mean", "mean-std"] = "mean"
    dropout: Share = 0.3


class PaperLstm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="paper"):
    """LSTM(128), LSTM(64), Dense(64, relu), Dropout(0.3)."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the weights are fitted."""

    seed: Annotated[int, Meta(ge=0)] = 1
    outputs: Literal["classes", "emotions"] = "classes"
    """`emotions`: a softmax over seven, summed to the three classes inside the graph."""
    epochs: Positive
    draws: Annotated[int, Meta(ge=0)] = 0
    """Windows drawn per epoch; 0: every view once, in random order, unbalanced."""
    patience: Positive
    """Epochs without a better validation score after which training stops."""
    batch: Positive = 32
    learning_rate: Annotated[float, Meta(gt=0)] = 1e-3
    cosine: bool = False
    """Whether the learning rate falls to 0 along a cosine."""
    weight_decay: NonNegative = 0.0
    clip_norm: Annotated[float, Meta(gt=0)] | None = None
    """Gradients are scaled down to this norm; None: never."""
    label_smoothing: Share = 0.0
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Memory per step of the running mean of the weights that is evaluated and kept; 0: the last weights."""
    speaker_power: Share = 0.5
    """Balanced draws weigh a speaker's clips by 1 / (its clips ** this): 0 all clips alike, 1 all speakers alike."""


class DecisionRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the thresholds of the decision are chosen by, on validation speakers."""

    smoothing: Annotated[tuple[Annotated[float, Meta(gt=0, le=1)], ...], Meta(min_length=1)] = (0.3, 0.5, 0.7, 1.0)
    """Weights of the newest window to choose from."""
    uncertain_share: Share = 0.15
    """Share of the windows that may be `uncertain`."""
    silence_margin_db: NonNegative = 12.0
    """Silence begins this far below the quietest hundredth of the clips."""
    correct_prior: bool = True
    """Whether a bias per class is fitted, so that no class is decided at the others' expense."""


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file under training/configs."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    features: FeatureSpec
    window: WindowSpec
    views: Views | PaperViews
    network: ConvLstm | PaperLstm
    recipe: Recipe
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
        needed = self.network.kernel if isinstance(self.network, ConvLstm) else 1
        if frames < needed:
            length = self.window.length_samples
            msg = f"window.length_samples = {length}: holds {frames} frames, at least {needed} are needed"
            raise SettingsError(msg)
        if isinstance(self.views, PaperViews):
            crop = round((self.views.end_s - self.views.start_s) * RATE_HZ)
            if crop < self.window.length_samples:
                msg = f"views.end_s = {self.views.end_s:g}: the crop of {crop} samples must hold window.length_samples"
                raise SettingsError(msg)


def by_clip(experiment: Experiment) -> Experiment:
    """Return the experiment split by clip, under another name."""
    split = msgspec.structs.replace(experiment.split, by="clip")
    return msgspec.structs.replace(experiment, name=f"{experiment.name}-by-clip", split=split)


def load_experiment(path: Path) -> Experiment:
    """Return the experiment that a TOML file describes.

    Raises:
        SettingsError: the file is missing, is no TOML, or holds a key or a value that is not allowed.
    """
    return read_settings(path, Experiment, "give a file such as training/configs/small.toml")
