"""An experiment in words, for people: the same ones in reports and in the model card."""

from typing import Final

from broker.contract.decision import CLASSES, DecisionSpec, Label
from broker.contract.features import FeatureSpec
from broker.contract.windows import WindowSpec
from training.config import ConvLstm, Experiment, PaperViews
from training.data.corpora import Emotion, official, title_of
from training.fitting.results import Energy
from training.fitting.summary import Spread

__all__ = [
    "classes_in_words",
    "decision_in_words",
    "energy_in_words",
    "figure_in_words",
    "front_end_in_words",
    "network_in_words",
    "recipe_in_words",
    "speaker_in_words",
    "spread_in_words",
    "views_in_words",
    "window_in_words",
]

_POOLED: Final = {"last": "last step", "mean": "mean over time", "mean-std": "mean and deviation over time"}


def front_end_in_words(spec: FeatureSpec) -> str:
    """Return what a frame is made of, and what is done to the frames of a window."""
    kilohertz = spec.sample_rate_hz / 1000
    parts = [
        f"{spec.mel_bands} log-mel bands"
        if spec.kind == "log-mel"
        else f"{spec.coefficients} MFCC of {spec.mel_bands} mel bands",
        f"{spec.low_hz:,.0f} to {spec.high_hz:,.0f} Hz",
    ]
    if spec.pitch:
        parts.append("pitch and voicing")
    if spec.delta_frames:
        parts.append(f"slopes over {spec.delta_frames} frames either way")
    frames = (
        f"frames of {spec.fft_samples / kilohertz:g} ms every {spec.hop_samples / kilohertz:g} ms at {kilohertz:g} kHz"
    )
    said = [", ".join(parts), frames if not spec.centred else f"{frames}, centred"]
    if spec.window_range_db is not None:
        said.append(f"what is more than {spec.window_range_db:g} dB below the window's loudest band is raised to that")
    elif spec.top_db is not None:
        said.append(f"clipped {spec.top_db:g} dB below the loudest")
    else:
        said.append(f"floor of {spec.floor_db:g} dB")
    if spec.mean_removed:
        said.append(f"{spec.mean_removed:.0%} of each coefficient's mean over the window removed")
    said.append("fixed mean and deviation per column")
    return "; ".join(said)


def window_in_words(window: WindowSpec, sample_rate_hz: int) -> str:
    """Return how long a window is and how often one comes."""
    return f"{window.length_samples / sample_rate_hz:g} s, every {window.hop_samples / sample_rate_hz:g} s"


def network_in_words(experiment: Experiment) -> str:
    """Return the layers, from input to output."""
    network = experiment.network
    if isinstance(network, ConvLstm):
        convolutions = ", ".join(
            f"Conv1D ({layer.filters} filters, {layer.kernel} frames, stride {layer.stride})"
            for layer in network.convolutions
        )
        layers = f"{convolutions}, LSTM ({network.units}), {_POOLED[network.pooling]}, dropout {network.dropout:g}"
    else:
        layers = "LSTM (128), LSTM (64), dense (64, ReLU), dropout 0.3"
    if experiment.recipe.outputs == "emotions":
        return f"{layers}; softmax over {len(Emotion)} emotions, summed to {len(CLASSES)} classes"
    return f"{layers}; softmax over {len(CLASSES)} classes"


def classes_in_words(experiment: Experiment) -> str:
    """Return which emotions count as which class."""
    members = {
        label: [str(emotion) for emotion, counted in experiment.merge.items() if counted == label] for label in CLASSES
    }
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in members.items())


def decision_in_words(spec: DecisionSpec) -> str:
    """Return when a label is decided, kept and left."""
    parts = [
        f"newest window weighs {spec.smoothing:g}",
        f"`{Label.UNCERTAIN}` below {spec.uncertain_below:g}",
        f"silent below {spec.silent_below_dbfs:g} dBFS",
    ]
    if spec.margin:
        floor = spec.uncertain_below - spec.margin
        parts.append(f"a class is kept until another is {spec.margin:g} likelier, or it falls below {floor:.2g}")
    if spec.confirm_windows > 1:
        parts.append(f"another label must be favoured {spec.confirm_windows} windows in a row")
    if spec.hold_us:
        parts.append(f"a label stands for {spec.hold_us / 1e6:g} s at least")
    return "; ".join(parts)


def views_in_words(experiment: Experiment) -> str:
    """Return what is done to training clips."""
    views = experiment.views
    if isinstance(views, PaperViews):
        return (
            f"the paper's two copies, cut to {views.start_s:g} to {views.end_s:g} s: with noise; slower and pitched "
            f"up; {views.drop_unpleasant:.0%} of the sad, angry, fearful and disgusted clips and "
            f"{views.drop_pleasant:.0%} of the happy and surprised ones left out"
        )
    changes = {
        "another speed": any(copy.speeds != (1.0,) for copy in views.copies),
        "stretched": any(copy.stretch != (1.0, 1.0) for copy in views.copies),
        "pitched": any(copy.pitch_semitones != (0.0, 0.0) for copy in views.copies),
        "another spectral tilt": any(copy.tilt_db for copy in views.copies),
        "in a room": any(copy.room for copy in views.copies),
        "in noise": any(copy.noise for copy in views.copies),
        "another level": any(copy.gain_db != (0.0, 0.0) for copy in views.copies),
    }
    copies = f"{len(views.copies)} altered {'copy' if len(views.copies) == 1 else 'copies'}"
    said = [f"the clean clip and {copies} ({', '.join(_true(changes))})"]
    per_draw = {
        f"part of the window silenced ({views.edges:.0%} of them)": views.edges > 0,
        f"pitch left out ({views.pitch_dropout:.0%} of them)": views.pitch_dropout > 0,
        f"a channel's colour ({views.channel:g})": views.channel > 0,
        "masks in time and coefficients": views.time_masks + views.coefficient_masks > 0,
    }
    return "; at each draw ".join([*said, *([", ".join(_true(per_draw))] if any(per_draw.values()) else [])])


def recipe_in_words(experiment: Experiment) -> str:
    """Return how the weights were fitted."""
    recipe = experiment.recipe
    drawn = f"{recipe.draws:,} windows drawn per epoch, balanced by class and" if recipe.draws else "every view once"
    said = [
        f"at most {recipe.epochs} epochs",
        f"{drawn} by speaker (power {recipe.speaker_power:g})" if recipe.draws else f"{drawn} per epoch",
        f"batches of {recipe.batch}",
        f"learning rate {recipe.learning_rate:g}{', falling along a cosine' if recipe.cosine else ''}",
        f"weight decay {recipe.weight_decay:g}" if recipe.weight_decay else "",
        f"label smoothing {recipe.label_smoothing:g}" if recipe.label_smoothing else "",
        f"mixup {recipe.mixup:g}" if recipe.mixup else "",
        f"running mean of the weights ({recipe.ema:g})" if recipe.ema else "",
        "at last fitted anew with the validation speakers among the others" if recipe.refit else "",
    ]
    return "; ".join(part for part in said if part)


def energy_in_words(energy: Energy | None) -> str:
    """Return what a run took from the grid."""
    if energy is None:
        return "not measured"
    place = "the world's mean mix" if energy.country == "world" else f"the mix of {energy.country}"
    return (
        f"{energy.kilowatt_hours * 1000:,.1f} Wh in {_duration(energy.seconds)}, {energy.co2_kg * 1000:,.1f} g of CO2 "
        f"equivalents by {place} (estimated by codecarbon)"
    )


def figure_in_words(name: str) -> str:
    """Return a figure of a summary as people call it: corpora by their titles."""
    corpus, _, rest = name.partition(" ")
    if official(corpus) is None:
        return name
    return f"{title_of(corpus)} {rest.replace('unseen', '(never trained on)')}"


def speaker_in_words(speaker: str) -> str:
    """Return a speaker, `<corpus>_<name>`, as people call it."""
    corpus, _, name = speaker.partition("_")
    return f"{title_of(corpus)} {name}"


def spread_in_words(spread: Spread | None) -> str:
    """Return a share in per cent with its deviation over the seeds, the lowest and the highest; `-` for None."""
    if spread is None:
        return "-"
    if spread.low == spread.high:
        return f"{100 * spread.mean:.1f}"
    low, high = 100 * spread.low, 100 * spread.high
    return f"{100 * spread.mean:.1f} ± {100 * spread.deviation:.1f} ({low:.1f} to {high:.1f})"


def _true(parts: dict[str, bool]) -> list[str]:
    return [name for name, holds in parts.items() if holds]


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} h"  # noqa: PLR2004 -- as people say it
