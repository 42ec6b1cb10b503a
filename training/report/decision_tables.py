"""Rows of the two tables that tell what a decision is worth, for report and model card alike."""

from typing import Final

from training.exam.turns import Flicker
from training.fitting.calibrate import Calibration
from training.terminal import share

__all__ = ["CLIP_COLUMNS", "TALK_COLUMNS", "clip_rows", "talk_rows"]

CLIP_COLUMNS: Final = ("speakers", "how many", "windows", "AURC", "answered", "wrong", "said, by all rules", "wrong")
TALK_COLUMNS: Final = (
    *("speakers", "rules", "turns", "changes", "wrong events", "right events"),
    *("wrong windows", "right windows", "delay, s", "missed turns"),
)


def clip_rows(calibration: Calibration) -> tuple[tuple[str, ...], ...]:
    """Return a row per part of the speakers, shares in per cent."""
    return tuple(
        (
            name,
            str(len(part.speakers)),
            f"{part.windows:,}",
            *(share(each.mean) for each in (part.aurc, part.answered, part.wrong, part.said, part.said_wrong)),
        )
        for name, part in calibration.parts.items()
    )


def talk_rows(calibration: Calibration) -> tuple[tuple[str, ...], ...]:
    """Return two rows per part of the speakers: each window by itself, and by all rules."""
    return tuple(
        (name, rules, *_cells(told))
        for name, part in calibration.parts.items()
        for rules, told in (("none", part.plain), ("all", part.steady))
    )


def _cells(told: Flicker) -> tuple[str, ...]:
    rates = (told.turns / told.minutes, told.changes, told.wrong_events, told.right_events)
    return (
        *(f"{rate:.1f}" for rate in rates),
        share(told.wrong),
        share(told.right),
        "-" if told.delay_s is None else f"{told.delay_s:.1f}",
        share(told.missed),
    )
