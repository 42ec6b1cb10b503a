from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from broker.contract.windows import WindowSpec
from training.clips import Clip
from training.config import PaperViews, Views
from training.corpora import Emotion
from training.views import crop, drop_at_random, paper_views, product_views

WINDOW = WindowSpec(length_samples=16_000, hop_samples=8_000)
Make = Callable[..., Clip]
Speech = Callable[..., npt.NDArray[np.float32]]


def test_views_are_the_same_in_every_run_and_different_from_each_other(clip: Make, speech: Speech) -> None:
    first, again = (product_views(speech(0.8), clip(sha256="a" * 64), Views(), WINDOW, 1) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other = product_views(speech(0.8), clip(sha256="a" * 64), Views(), WINDOW, 2)
    assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(first[1:], other[1:], strict=True))


def test_first_view_is_the_clip_itself(clip: Make, speech: Speech) -> None:
    samples = speech(0.8)
    first = product_views(samples, clip(), Views(), WINDOW, 1)[0]
    np.testing.assert_array_equal(first[4_000:16_800], samples)
    assert not first[:4_000].any()


def test_every_view_holds_more_than_a_window_within_full_scale(clip: Make, speech: Speech) -> None:
    for view in product_views(speech(0.5) * 8, clip(), Views(copies=8), WINDOW, 1)[1:]:
        assert len(view) > WINDOW.length_samples
        assert np.abs(view).max() <= 1
        assert view.dtype == np.float32


def test_paper_views_are_two_crops(clip: Make, speech: Speech) -> None:
    samples = speech(1.7)
    items = paper_views(samples, clip(), PaperViews(), 1)
    assert [len(item) for item in items] == [24_000, 24_000]
    assert not np.array_equal(items[0], crop(samples, PaperViews()))


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
