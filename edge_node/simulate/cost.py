"""What things take on a virtual node: medians that a real node's parts showed, and how nodes differ from each other.

`sottovoce-fleet measure` prints the medians of the machine that it runs on, from the real parts; `Costs` holds those of
one machine (docs/fleet.md says which), and `simulate --costs FILE` takes others. How far devices and runs scatter is an
assumption, not a measurement.
"""

import random
from typing import Annotated, Final

import msgspec
from msgspec import Meta

__all__ = ["SLOW_FACTOR", "Costs", "Device", "draw_device"]

SLOW_FACTOR: Final = 3.0
"""How many times slower than others a slow node is."""

_DEVICES_SIGMA: Final = 0.25
"""Scatter between devices (of a log-normal distribution): 95 % of them are between 0.6 and 1.6 times the median."""
_RUNS_SIGMA: Final = 0.1
"""Scatter between two runs of the same thing on the same device."""
_LACK_MEMORY: Final = 0.5

Seconds = Annotated[float, Meta(gt=0, le=3_600)]


class Costs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Medians of one machine; without others, of the one that `machine` names."""

    machine: Annotated[str, Meta(max_length=200)] = "AMD EPYC, 2 cores, Linux 6.18.44 x86_64, Python 3.11.7"
    """Which, in words."""
    trust_s: Seconds = 0.27
    """The child that looks at signed metadata, from its start to its end."""
    proof_s: Seconds = 0.22
    """The child that proves a bundle; the trial's takes as long to begin."""
    load_s: Seconds = 0.007
    """A bundle from the disk to a pipeline that runs: when another model is to run."""
    start_s: Seconds = 0.25
    """The node's program, from its start until it would connect."""
    window_ms: Annotated[float, Meta(gt=0, le=60_000)] = 1.08
    """Processor time of one window, features and inference."""


class Device:
    """One virtual device: how long it takes for what."""

    def __init__(self, costs: Costs, factor: float, rng: random.Random) -> None:
        """Take the medians times a factor.

        Args:
            costs: medians of an ordinary device.
            factor: how many times slower this one is.
            rng: draws each run.
        """
        self._costs, self._factor, self._rng = costs, factor, rng
        self.lacks_memory = rng.random() < _LACK_MEMORY
        """How a bad release fails here: it cannot be loaded once more, where on other devices it ends the program."""

    def trust_s(self) -> float:
        """Return how long this look at signed metadata takes, s."""
        return self._run(self._costs.trust_s)

    def proof_s(self) -> float:
        """Return how long this proof takes, s."""
        return self._run(self._costs.proof_s)

    def load_s(self) -> float:
        """Return how long it takes this time until another model runs, s."""
        return self._run(self._costs.load_s)

    def start_s(self) -> float:
        """Return how long this start of the program takes, s."""
        return self._run(self._costs.start_s)

    def window_us(self) -> int:
        """Return how long this window takes, features and inference, µs."""
        return max(1, round(1000 * self._run(self._costs.window_ms)))

    def _run(self, median: float) -> float:
        return median * self._factor * self._rng.lognormvariate(0, _RUNS_SIGMA)


def draw_device(costs: Costs, rng: random.Random, *, is_slow: bool) -> Device:
    """Return a device."""
    return Device(costs, rng.lognormvariate(0, _DEVICES_SIGMA) * (SLOW_FACTOR if is_slow else 1.0), rng)
