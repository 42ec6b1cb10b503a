"""What a check found: findings, measured figures, and what it cannot see."""

import enum
from collections.abc import Sequence
from typing import Final

import msgspec

__all__ = ["BLIND_SPOTS", "Finding", "Report", "Sought", "Stream", "Verdict"]

BLIND_SPOTS: Final = (
    (
        "What is told by when a message comes, or by how many there are: the count of digits does not include that. "
        "When somebody spoke is in the times, and that is what a node is for."
    ),
    (
        "A cipher's output that is spread so thin that no 512 bytes of it lie together. On the wire there is no room "
        "for that, as every byte is a field of the contract; in the database's own form there could be."
    ),
    "A code of speech that nothing here unpacks, below 512 bytes, for the same reason.",
    (
        "Memory that the system itself writes to a disk: swap and core dumps. The service's unit forbids both "
        "(LimitCORE=0, MemorySwapMax=0); a node that is started otherwise depends on the machine."
    ),
    "The microphone's driver, the sound server and the kernel: the node here hears a recording.",
    (
        "Paths that this run did not take: an update's trial, a log with --verbose, an outage, what systemd is told. "
        "Run it with the node's own settings (--config); for the rest, read the code."
    ),
)


class Verdict(enum.StrEnum):
    """How a question was answered."""

    HOLDS = "holds"
    FAILS = "fails"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that has to hold, and whether it does."""

    claim: str
    verdict: Verdict
    words: str


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked for, how much of it there is, and how much there would have been."""

    what: str
    found: float
    """The greatest likeness, or count, in all that was written and sent."""
    where: str
    by_chance: float | None
    """The same for what another signal makes, which the node never heard; None: nobody looked."""
    limit: float
    planted: float | None
    """The least of what was found where a leak had been planted; None: none was."""


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What was written to one place."""

    where: str
    size: int
    """Bytes that the kernel took."""
    rest: int
    """Bytes that are left without messages of the contract, repetitions and zeros."""
    entropy: float
    """Bits a byte of the 512 bytes that are the least predictable; 0: there are fewer."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a check came to."""

    node: str
    model: str
    made_us: int
    """Wall clock, µs since 1970, UTC."""
    heard_s: float
    muted_s: float
    calls: int
    """Of the system, that were noted."""
    findings: Sequence[Finding]
    sought: Sequence[Sought]
    streams: Sequence[Stream]
    bits_per_second: float
    most_bits_per_second: float
    least_speech_bits_per_second: float
    tools: str

    @property
    def holds(self) -> bool:
        """Whether everything does."""
        return all(each.verdict is Verdict.HOLDS for each in self.findings)

    @property
    def conclusion(self) -> str:
        """In a sentence."""
        failed = sum(each.verdict is Verdict.FAILS for each in self.findings)
        if failed:
            return f"{failed} of {len(self.findings)} claims fail: do not use this node where people are."
        return "Neither audio, nor features, nor embeddings were among what the node wrote and sent."
