"""Talks hold every clip in turns, and what is counted of them is what was said."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from broker.contract.decision import CLASSES, DecisionSpec, Label
from training.data.clips import RATE_HZ, Clip
from training.data.corpora import Emotion
from training.exam.turns import Flicker, HeardTalk, Turn, flicker, make_talk

MakeClip = Callable[..., Clip]

HOP_US = 500_000
P, N, U = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)
PLAIN = DecisionSpec(smoothing=1.0, uncertain_below=0.5, silent_below_dbfs=-60.0)


def _heard(turns: dict[int, Label], windows: list[tuple[float, float, float] | None]) -> HeardTalk:
    """A window per hop, the first one ending after 3 s; None: silent."""
    return HeardTalk(
        turns=tuple(Turn(begins_us=begins, label=label) for begins, label in turns.items()),
        ends_us=tuple(3_000_000 + place * HOP_US for place in range(len(windows))),
        levels_dbfs=tuple(-90.0 if each is None else -20.0 for each in windows),
        probabilities=tuple(P if each is None else each for each in windows),
    )


@pytest.fixture
def clips(clip: MakeClip) -> list[Clip]:
    emotions = [Emotion.HAPPY] * 9 + [Emotion.NEUTRAL] * 4 + [Emotion.SAD] * 6 + [Emotion.ANGRY] * 6
    return [clip(emotion=emotion, stem=str(number)) for number, emotion in enumerate(emotions)]


@pytest.mark.parametrize("seed", range(6))
def test_talk_holds_every_clip_once_in_turns_of_one_class(clips: list[Clip], seed: int) -> None:
    """Each clip is one second of a level that is its own."""
    levels = {item.key: (place + 1) / 100 for place, item in enumerate(clips)}
    talk = make_talk(clips, lambda item: np.full(RATE_HZ, levels[item.key], np.float32), [seed])
    heard = np.flatnonzero(talk.samples)
    starts = heard[np.r_[True, np.diff(heard) > 1]]
    assert len(heard) == len(clips) * RATE_HZ
    label_at = {level: item.label for item, level in zip(clips, levels.values(), strict=True)}
    told = [label_at[round(float(talk.samples[start]), 2)] for start in starts]
    assert sorted(told) == sorted(item.label for item in clips)
    begins = [-(-turn.begins_us * RATE_HZ // 1_000_000) for turn in talk.turns]
    assert set(begins) <= set(starts.tolist())
    for start, label in zip(starts, told, strict=True):
        assert talk.turns[int(np.searchsorted(begins, start, side="right")) - 1].label == label
    sizes = np.diff([*(starts.tolist().index(begin) for begin in begins), len(starts)])
    assert sizes.max() <= 4
    pauses = (np.diff(starts) - RATE_HZ) / RATE_HZ
    assert pauses.min() >= 0.3
    assert any(pauses > 5)
    assert any(pauses[[starts.tolist().index(begin) - 1 for begin in begins[1:]]] < 1.1)


def test_talk_of_a_seed_is_always_the_same_one(clips: list[Clip]) -> None:
    def read(item: Clip) -> np.ndarray:
        return np.full(int(item.stem.split("-")[-1]) + 1, 0.5, np.float32)

    first, again, other = (make_talk(clips, read, [seed]) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.samples, again.samples)
    assert first.turns == again.turns != other.turns


def test_flicker_counts_what_was_said() -> None:
    """Two turns of 4 s: the first is told after 4.5 s, the second never."""
    flat = (0.4, 0.3, 0.3)
    talk = _heard({0: Label.PLEASANT, 6_000_000: Label.NEUTRAL}, [U, flat, flat, P, P, P, P, P, P, U, None, None])
    told = flicker([talk], PLAIN, 0.5)
    assert told.minutes == pytest.approx(10 * 0.5 / 60)
    assert told.turns == 2
    assert told.changes * told.minutes == pytest.approx(3)  # U ? P U; silence is no change
    assert (told.right, told.wrong) == (3 / 10, 5 / 10)  # P at 4.5, 5, 5.5 s; U at 3 s, P from 6 s on and U
    assert told.delay_s == pytest.approx(4.5)
    assert told.missed == 0.5
    # events at 3 s (U, wrong), 4 s (uncertain), 5 s (P, right, a second after), 7.5 s (U, wrong)
    assert told.events * told.minutes == pytest.approx(4)
    assert told.wrong_events * told.minutes == pytest.approx(2)
    assert told.right_events * told.minutes == pytest.approx(1)


def test_flicker_of_steady_rules_is_less() -> None:
    random = np.random.default_rng(4)
    windows = [tuple(random.dirichlet((4.0, 1.5, 1.5))) for _ in range(400)]
    talk = _heard({0: Label.PLEASANT}, [(float(a), float(b), float(c)) for a, b, c in windows])
    steady = DecisionSpec(smoothing=0.5, uncertain_below=0.5, margin=0.1, hold_us=1_500_000, confirm_windows=2)
    plain, ruled = flicker([talk], PLAIN, 0.5), flicker([talk], steady, 0.5)
    assert ruled.changes < plain.changes / 3
    assert ruled.wrong_events < plain.wrong_events / 2
    assert ruled.right > plain.right


def test_flicker_after_silence_begins_anew() -> None:
    talk = _heard({0: Label.PLEASANT, 8_000_000: Label.NEUTRAL}, [P, P, *[None] * 8, N])
    told = flicker([talk], DecisionSpec(smoothing=0.1, confirm_windows=5, hold_us=10_000_000), 0.5)
    assert told.missed == 0
    assert told.changes == 0


def test_flicker_of_silence_alone_is_nothing_said() -> None:
    told = flicker([_heard({0: CLASSES[0]}, [None, None])], PLAIN, 0.5)
    assert (told.minutes, told.changes, told.events, told.right, told.wrong) == (0, 0, 0, 0, 0)
    assert (told.delay_s, told.missed) == (None, 1)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Flicker) == told
