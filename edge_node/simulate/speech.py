"""How much a virtual node has to say: spells of speech and of silence, and labels that change now and then.

The contract says when a label is worth an event; how people talk where a node listens is an assumption, and an option.
"""

import random
from collections.abc import Iterator
from typing import Final

from broker.contract.decision import MIN_INTERVAL_US, REPEAT_INTERVAL_US, Label

__all__ = ["said"]

_SPELL_S: Final = 20.0
"""Mean length of a spell of speech."""
_LABEL_S: Final = 8.0
"""Mean time between two changes of the label while speech lasts."""
_LEAST_S: Final = MIN_INTERVAL_US / 1e6
_REPEAT_S: Final = REPEAT_INTERVAL_US / 1e6


def said(share: float, rng: random.Random) -> Iterator[tuple[float, Label]]:
    """Yield, for ever, how many seconds pass until the next event, and its label; nothing where nobody speaks.

    Args:
        share: of the time that is speech, 0 to 1.
        rng: of this node.
    """
    if share <= 0:
        return
    wait_s = _silence_s(share, rng) * rng.random()
    while True:
        left_s = rng.expovariate(1 / _SPELL_S)
        label, changes_s = rng.choice(list(Label)), rng.expovariate(1 / _LABEL_S)
        while True:
            yield wait_s, label
            wait_s = max(_LEAST_S, min(_REPEAT_S, changes_s))
            left_s, changes_s = left_s - wait_s, changes_s - wait_s
            if left_s <= 0:
                break
            if changes_s <= 0:
                label = rng.choice([each for each in Label if each is not label])
                changes_s = rng.expovariate(1 / _LABEL_S)
        wait_s = max(_LEAST_S, wait_s + left_s + _silence_s(share, rng))


def _silence_s(share: float, rng: random.Random) -> float:
    return 0.0 if share >= 1 else rng.expovariate(share / ((1 - share) * _SPELL_S))
