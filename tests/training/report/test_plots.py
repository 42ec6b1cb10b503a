"""Pictures show the values they are given."""

import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from broker.contract.decision import CLASSES
from training.config import Experiment
from training.data.clips import Collection, make_clip
from training.data.corpora import Emotion
from training.data.names import Name
from training.data.synthetic import voiced
from training.exam.calibration import reliability
from training.exam.predictions import probabilities_of, truth_of
from training.fitting.summary import Spread
from training.report.calibration_plots import draw_calibration
from training.report.canvas import fitting, png
from training.report.measured import ALL_COLOURS, Measured, measure
from training.report.plots import Panel, draw_confusion, draw_curves, plot_confusion, plot_curves
from training.report.score_plots import MOST_SPEAKERS, draw_bars, draw_groups, draw_noise, draw_speakers
from training.report.voice_plots import draw_voices, pitch_hz, real_voices, synthetic_voices

MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def made(make_run: MakeRun) -> Measured:
    return measure(make_run())


@pytest.fixture(scope="module")
def settings(made: Measured) -> Experiment:
    return made.run.settings


def _spread(mean: float) -> Spread:
    return Spread(mean=mean, deviation=0.1, low=mean - 0.1, high=mean + 0.1)


def _texts(figure: Figure) -> set[str]:
    return {text.get_text() for axes in figure.axes for text in axes.texts}


def _widths(figure: Figure) -> list[float]:
    return [float(bar.get_width()) for axes in figure.axes for bar in axes.patches]  # type: ignore[attr-defined]


def _heights(line: Line2D) -> list[float]:
    return [float(value) for value in np.asarray(line.get_ydata(), dtype=float)]


def test_curves_draw_each_fold_and_seed(made: Measured) -> None:
    losses, scores = draw_curves(made.run.folds, "made").axes
    assert len(losses.lines) == len(made.run.folds) == 4
    first = made.run.folds[0]
    assert _heights(losses.lines[0]) == [epoch.loss for epoch in first.epochs]
    assert _heights(scores.lines[0]) == [epoch.validation_uar for epoch in first.epochs]
    assert losses.lines[0].get_color() == losses.lines[1].get_color() != losses.lines[2].get_color()  # one per fold


def test_curves_without_validation_show_the_training_alone(made: Measured, tmp_path: Path) -> None:
    fold = made.run.folds[0]
    epochs = tuple(msgspec.structs.replace(epoch, validation_uar=None) for epoch in fold.epochs)
    blind = msgspec.structs.replace(fold, epochs=epochs)
    assert draw_curves([blind], "made").axes[1].get_title() == "Accuracy"
    plot_curves(blind, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]  # and no temporary file


def test_confusion_tells_shares_and_clips(made: Measured, tmp_path: Path) -> None:
    scores = made.confusion["ravdess"]
    figure = draw_confusion([Panel("RAVDESS", scores, 2)], "made")
    row = scores.confusion[0]
    assert f"{row[0] / sum(row):.0%}\n{row[0] / 2:.0f}" in _texts(figure)
    assert f"UAR {scores.uar:.1%}, {scores.clips // 2} clips" in figure.axes[0].get_title()
    assert made.results[0].test
    plot_confusion(made.results[0].test.models["quantized"], "fold 0", tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert image.width > 800


@pytest.mark.parametrize(("panels", "shown"), [(1, 1), (3, 3), (4, 4), (5, 5)])
def test_confusion_finds_room_for_every_corpus(made: Measured, panels: int, shown: int) -> None:
    figure = draw_confusion([Panel(str(n), made.confusion["ravdess"]) for n in range(panels)], "made")
    assert sum(axes.get_visible() for axes in figure.axes) == shown


def test_bars_are_as_long_as_their_figures(made: Measured) -> None:
    figure = draw_bars([("one", {"a": _spread(0.5), "b": _spread(0.7)}), ("two", {"b": _spread(0.6)})], "made")
    assert _widths(figure) == [0.5, 0.7, 0.6]
    assert _texts(figure) == {"50.0", "60.0", "70.0"}
    assert sorted(_widths(draw_speakers(made.speakers, "made"))) == sorted(each.mean for each in made.speakers.values())


def test_speakers_are_cut_where_there_are_too_many() -> None:
    speakers = {f"cremad_{1000 + n}": _spread(0.3 + n / 200) for n in range(91)}
    widths = _widths(draw_speakers(speakers, "made"))
    assert len(widths) == MOST_SPEAKERS
    assert min(widths) == 0.3  # the worst and the best are kept
    assert max(widths) == 0.75


def test_groups_wear_the_colour_of_their_class(made: Measured, settings: Experiment) -> None:
    _, emotions = draw_groups(made.sexes, made.emotions, settings.merge, "made").axes
    names = [label.get_text() for label in emotions.get_yticklabels()]
    assert names == ["happy", "surprised", "neutral", "angry", "disgust", "fearful", "sad"]
    colours = [bar.get_facecolor() for bar in emotions.patches]
    assert [colours.index(each) for each in colours] == [0, 0, 2, 3, 3, 3, 3]
    assert [bar.get_width() for bar in emotions.patches] == [made.emotions[name].mean for name in names]  # type: ignore[attr-defined]


def test_noise_goes_from_quiet_to_loud(made: Measured) -> None:
    curve, quiet = made.noise[ALL_COLOURS], made.summary.figures["pooled UAR"]
    (axes,) = draw_noise([(ALL_COLOURS, curve, quiet)], "made").axes
    assert _heights(axes.lines[0]) == [quiet.mean, *(curve[level].mean for level in (20, 10, 5))]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["quiet", "20 dB", "10 dB", "5 dB"]
    assert axes.xaxis_inverted()


def test_calibration_draws_the_bins_and_the_curve(made: Measured) -> None:
    said = [item for items in made.predictions.values() for item in items]
    bins = reliability(truth_of(said), probabilities_of(said))
    left, right = draw_calibration([("made", made.predictions)], "made").axes
    assert [bar.get_height() for bar in left.patches][: len(bins)] == [item.accuracy for item in bins]  # type: ignore[attr-defined]
    wrong = np.mean([item.decided != item.truth for item in said])
    assert _heights(right.lines[0])[-1] == pytest.approx(wrong)  # all answered
    several = draw_calibration([("one", made.predictions), ("two", made.predictions)], "made")
    assert [text.get_text() for text in several.legends[0].get_texts()] == ["one", "two"]


def test_pitch_over_the_spectrogram_is_that_of_the_voice(settings: Experiment) -> None:
    random = np.random.default_rng(3)
    samples = voiced(48_000, 16_000, 150.0, -25.0, random)
    assert float(np.nanmedian(pitch_hz(samples, settings.features))) == pytest.approx(150, rel=0.15)
    assert np.isnan(pitch_hz(np.zeros(48_000, dtype=np.float32), settings.features)).all()


def test_voices_are_synthetic_unless_clips_are_given(settings: Experiment) -> None:
    voices = synthetic_voices(settings.features, settings.window)
    assert [voice.label for voice in voices] == list(CLASSES)
    assert all("synthetic" in voice.title and len(voice.samples) == 48_000 for voice in voices)
    figure = draw_voices(voices, settings.features, "made")
    assert len(figure.axes) == 9  # waveform, bands, pitch
    name = Name(corpus="own", speaker="own_a", sex=None, emotion=Emotion.SAD, stem="a")
    clip = make_clip(name, Emotion.SAD, "", np.zeros(64_000, dtype=np.int16), 0)
    collection = Collection(clips=(clip,), read=lambda _: np.ones(64_000, dtype=np.float32))
    (real,) = real_voices(collection, settings.features, settings.window)  # the other classes have no clip
    assert (real.title, len(real.samples)) == ("unpleasant: sad", 48_000)


def test_png_is_the_same_each_time_and_takes_any_name(made: Measured) -> None:
    spreads = {name: next(iter(made.speakers.values())) for name in ("own_$\\oops$", "own_$", "own_\u660e")}
    first, second = (png(lambda: draw_speakers(spreads, "$")) for _ in range(2))
    assert first == second
    image = Image.open(io.BytesIO(first))
    assert image.mode == "P"  # a palette: a third of the size
    assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_legends_fit_the_width() -> None:
    assert fitting(["factory", "paper"]) == 2
    assert fitting(["a very long name of an experiment of somebody's"] * 3) == 1
