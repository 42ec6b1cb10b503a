"""Signed metadata looked at in a child process: python-tuf and its cryptography would stay in the node's memory.

python -m edge_node.ota.trust MIRROR TRUSTED ANCHOR CHANNEL
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

from broker.contract.errors import Refusal, SettingsError, StoreError, TrustError
from broker.contract.offer import Offer
from edge_node.ota.child import Child, ChildError, Ending, Limits
from edge_node.ota.confined import begin, within

__all__ = ["ask"]

_LIMITS: Final = Limits(wall_s=60, memory_bytes=256 << 20, output_bytes=65_536)
_NICE: Final = 5


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the child found, as it crosses the pipe."""

    offer: Offer | None = None
    refusal: Refusal | None = None
    fault: Literal["settings", "store"] | None = None
    words: str = ""
    """Why it is refused, or what the fault is."""


def ask(
    mirror: Path,
    trusted: Path,
    anchor: Path,
    channel: str,
    *,
    limits: Limits = _LIMITS,
    started: Callable[[Child], None] = lambda _: None,
) -> Offer:
    """Return what is offered to a channel, as `broker.verify.verify` does.

    Args:
        mirror: folder with the files of `release/metadata/`, as they came.
        trusted: folder where what was verified is kept, to notice a rollback; made when missing.
        anchor: file with the root metadata that this node was set up with.
        channel: which one.
        limits: of the child.
        started: is given the child before it runs, so that somebody else can cancel it.

    Raises:
        TrustError: with the refusal; what was verified before stays.
        SettingsError: the anchor cannot be read, or the package that verifies is missing.
        StoreError: `trusted` cannot be written.
        ChildError: the child was cancelled, or ended without an answer, which says nothing about the metadata.
    """
    child = Child("edge_node.ota.trust", [mirror, trusted, anchor, channel], limits=limits, nice=_NICE)
    started(child)
    try:
        answer = msgspec.json.decode(child.run(), type=_Answer)
    except ChildError as error:
        raise ChildError(error.ending, f"the check of signatures: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ChildError(Ending.CRASHED, f"the check of signatures answered nonsense: {error}") from error
    if answer.refusal is not None:
        raise TrustError(answer.refusal, answer.words)
    if answer.offer is None:
        raise (SettingsError if answer.fault == "settings" else StoreError)(answer.words)
    return answer.offer


def _look(mirror: Path, trusted: Path, anchor: Path, channel: str) -> _Answer:
    """Return what the child says to its parent."""
    from broker.verify import verify  # noqa: PLC0415 -- the node must not load it

    try:
        root = anchor.read_bytes()
    except OSError as error:
        words = f"{anchor}: {error.strerror}; name the first root, 1.root.json, that came with this node's certificate"
        return _Answer(fault="settings", words=words)
    try:
        return _Answer(offer=verify(mirror, trusted, root, channel))
    except TrustError as error:
        return _Answer(refusal=error.refusal, words=str(error).removeprefix(f"{error.refusal}: "))
    except OSError as error:
        return _Answer(fault="store", words=f"{error.filename or trusted}: {error.strerror}; let this user write there")


def _main() -> int:
    memory_bytes = begin()
    mirror, trusted, anchor, channel = sys.argv[1:]

    def work() -> None:
        answer = _look(Path(mirror), Path(trusted), Path(anchor), channel)
        sys.stdout.buffer.write(msgspec.json.encode(answer))

    try:
        import broker.verify  # noqa: F401, PLC0415 -- before memory is counted
    except ModuleNotFoundError as error:
        words = f"the package {(error.name or 'tuf').partition('.')[0]} is missing: pip install 'sottovoce[node]'"
        sys.stdout.buffer.write(msgspec.json.encode(_Answer(fault="settings", words=words)))
        return 0
    return within(memory_bytes, work, writes_files=True)


if __name__ == "__main__":
    sys.exit(_main())
