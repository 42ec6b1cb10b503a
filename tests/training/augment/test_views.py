import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from broker.contract.features import FeatureSpec
from broker.contract.windows import WindowSpec
from training.augment.background import gather
from training.augment.view_settings import Copy, Views
from training.augment.views import crop, drop_at_random, in_crowd, make_views, paper_views, view_count
from training.config import Experiment, PaperLstm, PaperViews, Recipe
from training.data.clips import Clip, digest
from training.data.corpora import CLASS_OF, Emotion

Samples = npt.NDArray[np.float32]
Make = Callable[..., Clip]
Speech = Callable[..., Samples]

WITHOUT_VOCODER = Views(copies=(*Views().copies, Copy(tilt_db=6, noise=("babble",), gain_db=(-10, 6))))
EVERYTHING = Views(copies=(*WITHOUT_VOCODER.copies, Copy(stretch=(0.9, 1.1), pitch_semitones=(-2, 2), tilt_db=6)))

IN_ANOTHER_PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from test_views import digest_of_views
print(digest_of_views({order!r}))
"""


def _experiment(views: Views | PaperViews, seed: int = 1) -> Experiment:
    return Experiment(
        name="views",
        features=FeatureSpec(fft_samples=1024, hop_samples=320, mel_bands=40),
        window=WindowSpec(length_samples=16_000, hop_samples=8_000),
        views=views,
        network=PaperLstm(),
        recipe=Recipe(seed=seed, epochs=1, patience=1),
    )


def _voices() -> dict[str, tuple[Clip, Samples]]:
    """Eight speakers' clips, made without any fixture."""
    from training.data.synthetic import voiced

    made = {}
    for actor in range(1, 9):
        samples = voiced(8_000 + 400 * actor, 16_000, 100.0 + 20 * actor, -25.0, np.random.default_rng(actor))
        made[f"ravdess_{actor:02d}"] = (
            Clip(
                corpus="ravdess",
                speaker=f"ravdess_{actor:02d}",
                sex=None,
                emotion=Emotion.SAD,
                label=CLASS_OF[Emotion.SAD],
                stem=str(actor),
                duration_s=len(samples) / 16_000,
                source_sha256="",
                sha256=digest(samples.tobytes()),
                start=0,
            ),
            samples,
        )
    return made


def digest_of_views(order: tuple[int, ...], views: Views = WITHOUT_VOCODER) -> str:
    """Return the digest of some views of two clips, made in that order of numbers."""
    voices = _voices()
    crowd = gather([clip for clip, _ in voices.values()], lambda clip: voices[clip.speaker][1])
    experiment = _experiment(views)
    made: dict[tuple[str, int], Samples] = {}
    for number in order:
        for speaker in ("ravdess_01", "ravdess_05"):
            clip, samples = voices[speaker]
            made[(speaker, number)] = make_views(samples, clip, experiment, frozenset({number}), crowd)[number]
    return digest(b"".join(made[key].tobytes() for key in sorted(made)))


def test_views_are_the_same_to_the_bit_in_another_process() -> None:
    """Without the phase vocoder, whose library takes seconds to import."""
    order = tuple(range(view_count(WITHOUT_VOCODER)))
    code = IN_ANOTHER_PROCESS.format(folder=str(Path(__file__).parent), order=order[::-1])
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == digest_of_views(order)


def test_views_are_the_same_to_the_bit_in_any_order() -> None:
    order = tuple(range(view_count(EVERYTHING)))
    assert digest_of_views(order[::-1], EVERYTHING) == digest_of_views(order, EVERYTHING)


def test_views_depend_on_the_clip_the_seed_and_their_number(clip: Make, speech: Speech) -> None:
    """Two copies of equal settings differ, and so do those of another seed and of another clip."""
    twice = Copy(speeds=(0.9, 0.95, 1.0, 1.05, 1.1), noise=("pink",), gain_db=(-10, 6))
    views, samples = Views(copies=(twice, twice)), speech(0.8)

    def made(sha256: str, seed: int) -> list[Samples]:
        each = clip(sha256=sha256)
        crowd = gather([each], lambda _: samples)
        return list(make_views(samples, each, _experiment(views, seed), frozenset({1, 2}), crowd).values())

    others = [*made("a" * 64, 1), *made("a" * 64, 2), *made("b" * 64, 1)]
    assert len({digest(view.tobytes()) for view in others}) == 6


def test_first_view_is_the_clip_itself(clip: Make, speech: Speech) -> None:
    samples = speech(0.8)
    made = make_views(samples, clip(), _experiment(Views()), frozenset({0}), gather([], lambda _: samples))
    assert list(made) == [0]
    np.testing.assert_array_equal(made[0][4_000:16_800], samples)
    assert not made[0][:4_000].any()


def test_every_view_holds_more_than_a_window_within_full_scale() -> None:
    voices = _voices()
    crowd = gather([clip for clip, _ in voices.values()], lambda clip: voices[clip.speaker][1])
    clip, samples = voices["ravdess_02"]
    experiment = _experiment(EVERYTHING)
    loudest = samples / np.abs(samples).max()
    made = make_views(loudest, clip, experiment, frozenset(range(view_count(EVERYTHING))), crowd)
    assert len(made) == 9
    for view in made.values():
        assert len(view) > experiment.window.length_samples
        assert np.abs(view).max() <= 1
        assert view.dtype == np.float32


def test_only_views_with_babble_hear_the_crowd() -> None:
    """`in_crowd` says so beforehand: another crowd changes these views and no other."""
    voices = _voices()
    clips = [clip for clip, _ in voices.values()]
    crowds = [gather(some, lambda clip: voices[clip.speaker][1]) for some in (clips, clips[3:])]
    clip, samples = voices["ravdess_01"]
    experiment = _experiment(EVERYTHING)
    everything = frozenset(range(view_count(EVERYTHING)))
    one, other = (make_views(samples, clip, experiment, everything, crowd) for crowd in crowds)
    changed = {number for number in everything if not np.array_equal(one[number], other[number])}
    assert changed == in_crowd(clip, experiment)
    assert 7 in changed


@pytest.mark.parametrize("views", [Views(copies=()), PaperViews()])
def test_views_without_babble_hear_nobody_else(clip: Make, views: Views | PaperViews) -> None:
    assert in_crowd(clip(), _experiment(views)) == frozenset()
    assert view_count(views) == (2 if isinstance(views, PaperViews) else 1)


def test_paper_views_are_two_crops(clip: Make, speech: Speech) -> None:
    samples = speech(1.7)
    items = paper_views(samples, clip(), PaperViews(), 1)
    assert [len(item) for item in items] == [24_000, 24_000]
    assert not np.array_equal(items[0], crop(samples, PaperViews()))
    made = make_views(samples, clip(), _experiment(PaperViews()), frozenset({0, 1}), gather([], lambda _: samples))
    np.testing.assert_array_equal(made[1], items[1])


def test_crop_pads_a_short_clip_with_silence(speech: Speech) -> None:
    samples = speech(1.0)
    cropped = crop(samples, PaperViews())
    np.testing.assert_array_equal(cropped[:9_600], samples[6_400:])
    assert not cropped[9_600:].any()


def test_balancing_drops_the_papers_shares(clip: Make) -> None:
    clips = tuple(
        clip("tess_OAF", emotion, str(k), sha256=f"{k * 7 + index:016x}{0:048x}")
        for index, emotion in enumerate((Emotion.NEUTRAL, Emotion.HAPPY, Emotion.SAD))
        for k in range(1000)
    )
    kept = [item.emotion for item in drop_at_random(clips, PaperViews(), 1)]
    assert kept.count(Emotion.NEUTRAL) == 1000
    assert 700 < kept.count(Emotion.HAPPY) < 800
    assert 350 < kept.count(Emotion.SAD) < 450
