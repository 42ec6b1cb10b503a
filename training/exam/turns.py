"""Conversations that nobody held: one speaker's clips in turns, to see how a node's label follows.

A clip holds one emotion, so clips cannot show whether a live label flickers, or how far it lags behind. A talk is all
clips of a speaker, in turns of two to four clips of one class, with short pauses between the clips. Every other turn,
by chance, begins after a silence longer than a window, so that the node starts anew; the others follow at once.

What is true of a window is the class of the turn that began last before the window's end, although the window still
holds some of the turn before: somebody who reads the label does not care why it lags.
"""

import bisect
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from broker.contract.decision import CLASSES, Deciding, DecisionSpec, Label, Probabilities, advance, fall_silent
from training.data.clips import RATE_HZ, Clip

__all__ = ["Flicker", "HeardTalk", "Talk", "Turn", "flicker", "make_talk"]

Samples = npt.NDArray[np.float32]

_CLIPS: Final = (2, 4)
"""Fewest and most in a turn."""
_PAUSE_S: Final = (0.3, 1.0)
"""Shortest and longest between two clips."""
_SILENCE_S: Final = 5.0
_US: Final = 1_000_000


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Some clips of one class."""

    begins_us: int
    """When its first clip begins, in µs of the talk."""
    label: Label


class Talk(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All clips of one speaker."""

    samples: Samples
    """Shape (n,), at `RATE_HZ`."""
    turns: tuple[Turn, ...]


class HeardTalk(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A talk's windows, and what a model makes of each alone."""

    turns: tuple[Turn, ...]
    ends_us: tuple[int, ...]
    levels_dbfs: tuple[float, ...]
    probabilities: tuple[Probabilities, ...]


class Flicker(msgspec.Struct, frozen=True, kw_only=True):
    """How a node's label follows some talks. Minutes are of windows that are not silent."""

    minutes: float
    turns: int
    changes: float
    """Of the label, per minute, `uncertain` included; a talk itself has `turns / minutes`."""
    events: float
    """Per minute, repeats included."""
    wrong_events: float
    """Those that name another class than the turn's, per minute."""
    right_events: float
    """Those that name the turn's class, per minute."""
    right: float
    """Share of the windows with the turn's class; what remains beside `wrong` is `uncertain`."""
    wrong: float
    delay_s: float | None
    """Median time from a turn's beginning until its class is decided, of the turns in which it is; None: in none."""
    missed: float
    """Share of the turns in which it never is."""


def make_talk(clips: Sequence[Clip], read: Callable[[Clip], Samples], seed: Sequence[int]) -> Talk:
    """Return the clips of one speaker, in turns.

    Args:
        clips: at least one.
        read: returns a clip's samples.
        seed: of the order and the pauses.
    """
    random = np.random.default_rng(seed)
    parts: list[Samples] = []
    turns: list[Turn] = []
    length = 0

    def add(samples: Samples) -> None:
        nonlocal length
        parts.append(samples)
        length += len(samples)

    for label, chosen in _order(clips, random):
        if random.random() < 1 / 2:
            add(_silence(_SILENCE_S))
        turns.append(Turn(begins_us=length * _US // RATE_HZ, label=label))
        for clip in chosen:
            add(read(clip))
            add(_silence(random.uniform(*_PAUSE_S)))
    return Talk(samples=np.concatenate(parts), turns=tuple(turns))


def flicker(talks: Iterable[HeardTalk], spec: DecisionSpec, hop_s: float) -> Flicker:
    """Return how the label that a node decides by these rules follows the talks.

    Args:
        talks: as the node hears them.
        spec: the rules.
        hop_s: from one window to the next.
    """
    followed = [_follow(talk, spec) for talk in talks]
    windows = [window for each in followed for window in each.windows]
    minutes = len(windows) * hop_s / 60
    delays = [delay for each in followed for delay in each.delays_us if delay is not None]
    turns = sum(len(each.delays_us) for each in followed)
    answered = [said == truth for said, truth, _ in windows if said is not Label.UNCERTAIN]
    told = [said == truth for said, truth, is_event in windows if is_event and said is not Label.UNCERTAIN]
    return Flicker(
        minutes=minutes,
        turns=turns,
        changes=_over(sum(each.changes for each in followed), minutes),
        events=_over(sum(is_event for *_, is_event in windows), minutes),
        wrong_events=_over(told.count(False), minutes),
        right_events=_over(told.count(True), minutes),
        right=_over(answered.count(True), len(windows)),
        wrong=_over(answered.count(False), len(windows)),
        delay_s=float(np.median(delays)) / _US if delays else None,
        missed=_over(turns - len(delays), turns),
    )


class _Followed(msgspec.Struct, frozen=True, kw_only=True):
    windows: tuple[tuple[Label, Label, bool], ...]
    """What was said, what is true, and whether it became an event, of each window that is not silent."""
    changes: int
    delays_us: tuple[int | None, ...]
    """Of each turn; None: missed."""


def _follow(talk: HeardTalk, spec: DecisionSpec) -> _Followed:
    begins = [turn.begins_us for turn in talk.turns]
    delays: dict[int, int] = {}
    windows: list[tuple[Label, Label, bool]] = []
    state, states = Deciding(), [Deciding()]
    for end_us, level, probabilities in zip(talk.ends_us, talk.levels_dbfs, talk.probabilities, strict=True):
        is_silent = level < spec.silent_below_dbfs
        state = fall_silent(state) if is_silent else advance(state, probabilities, end_us, spec)
        states.append(state)
        if state.decision is None:
            continue
        place = max(0, bisect.bisect_right(begins, end_us) - 1)
        said, truth = state.decision.label, talk.turns[place].label
        windows.append((said, truth, state.is_event))
        if said == truth:
            delays.setdefault(place, end_us - begins[place])
    labels = [None if each.decision is None else each.decision.label for each in states]
    return _Followed(
        windows=tuple(windows),
        changes=sum(old not in {None, new} and new is not None for old, new in itertools.pairwise(labels)),
        delays_us=tuple(delays.get(place) for place in range(len(begins))),
    )


def _order(clips: Sequence[Clip], random: np.random.Generator) -> Iterable[tuple[Label, list[Clip]]]:
    """Yield turns until no clip is left; a class does not follow itself while there is another."""
    shuffled = [clips[place] for place in random.permutation(len(clips))]
    left = {label: [clip for clip in shuffled if clip.label == label] for label in CLASSES}
    before: Label | None = None
    while any(left.values()):
        offered = [label for label in CLASSES if left[label] and label != before] or [
            label for label in CLASSES if left[label]
        ]
        weights = np.array([len(left[label]) for label in offered], dtype=np.float64)
        before = offered[int(random.choice(len(offered), p=weights / weights.sum()))]
        count = int(random.integers(_CLIPS[0], _CLIPS[1] + 1))
        yield before, left[before][:count]
        left[before] = left[before][count:]


def _over(count: int, whole: float) -> float:
    """Return a share or a rate; of nothing, 0."""
    return count / whole if whole else 0.0


def _silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE_HZ), dtype=np.float32)
