"""The record in memory and on the disk: what the disk does not take does not happen.

But for one thing: the way back to a model that works is gone at once, and written down when the disk allows it.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from broker.contract.errors import StoreError
from broker.contract.offer import Offer
from broker.contract.updates import TrialFigures, UpdateState
from edge_node.ota.ports import Files
from edge_node.ota.record import Record, started, step, stopped
from edge_node.ota.table import Event

__all__ = ["Ledger"]

_FLOOR_STEP_US: Final = 3_600_000_000
"""The time floor is written when it has risen by this much: a disk of flash is not worn by it."""


class Ledger:
    """The record of one updater."""

    def __init__(self, files: Files, trouble: Callable[[str], None]) -> None:
        """Read the record, and count this start of the program in it.

        Args:
            files: where it is kept.
            trouble: hears why it could not be written; an empty word: it could.

        Raises:
            StoreError: what was saved cannot be read.
        """
        self._files, self._trouble = files, trouble
        saved = files.load()
        self.record = started(saved)
        """How things stand."""
        self.is_kept = self.record == saved or self._save(self.record)
        """Whether the disk says so, too."""
        if not self.is_kept and self.record.is_installed:  # it could end the program for ever, and nobody would count
            self.record = step(self.record, Event.BROKEN, reason="the disk cannot count the starts of a new model")

    def take(
        self,
        event: Event,
        *,
        reason: str = "",
        offer: Offer | None = None,
        trial: TrialFigures | None = None,
        command: str = "",
    ) -> bool:
        """Take the table's step, and return whether it was taken; the arguments are those of `record.step`."""
        after = step(self.record, event, reason=reason, offer=offer, trial=trial, command=command)
        is_kept = self._save(after)
        if not is_kept and after.state is not UpdateState.ROLLING_BACK:
            return False
        self.record, self.is_kept = after, is_kept
        return True

    def keep(self, record: Record) -> bool:
        """Take another record in the same state, and return whether it could be written."""
        if record == self.record and self.is_kept:
            return True
        if not self._save(record):
            return False
        self.record, self.is_kept = record, True
        return True

    def clear(self) -> None:
        """Take away the files that no state needs, if the disk knows which."""
        if not self.is_kept:
            return
        try:
            self._files.clear(self.record)
        except StoreError as error:
            self._trouble(str(error))

    def raise_floor(self, now_us: int) -> None:
        """Believe no earlier time from now on, µs since 1970."""
        if now_us >= self.record.floor_us + _FLOOR_STEP_US:
            self.keep(replace(self.record, floor_us=now_us))

    def end(self) -> None:
        """Write down that this start of the program ended well."""
        self.keep(stopped(self.record))

    def _save(self, record: Record) -> bool:
        try:
            self._files.save(record)
        except StoreError as error:
            self._trouble(str(error))
            return False
        self._trouble("")
        return True
