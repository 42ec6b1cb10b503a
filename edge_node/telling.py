"""What a node says: drafted here, kept in the outbox, delivered by the publisher."""

import logging
from collections.abc import Callable

from broker.contract.bundle import Manifest
from broker.contract.errors import MessageError, StoreError
from broker.contract.messages import EmotionEvent, NodeStatus, StatusReason, Telemetry
from broker.contract.topics import EMOTION, TELEMETRY, NodeId
from edge_node.control.mute import Mute
from edge_node.delivery.outbox import Outbox
from edge_node.drafts import Condition, Drafts, Losses
from edge_node.model import Model
from edge_node.pipeline import Heard
from edge_node.sound.capture import Capture
from edge_node.telemetry import Meter

__all__ = ["Telling"]

_log = logging.getLogger(__name__)


class Telling:
    """Events, telemetry and status of one node. Belongs to the pipeline's thread, but for `status`."""

    def __init__(
        self, node: NodeId, drafts: Drafts, meter: Meter, *, outbox: Outbox, model: Model, capture: Capture, mute: Mute
    ) -> None:
        """Prepare.

        Args:
            node: who speaks.
            drafts: makes the messages.
            meter: knows the figures.
            outbox: keeps events and telemetry.
            model: what judges the sound.
            capture: what hears it.
            mute: who keeps the node from listening.
        """
        self._node, self._drafts, self._meter = node, drafts, meter
        self._outbox, self._model, self._capture, self._mute = outbox, model, capture, mute
        self._has_told_of_refusal = False
        self.last: Telemetry | None = None
        """The last telemetry; None: there was none yet."""

    def events(self, heard: Heard, stored: Callable[[int], None]) -> None:
        """Count a window, and put its event into the outbox if it is worth one; `stored` hears of the row."""
        self._meter.heard(heard)
        if not heard.is_event:
            return

        def draft(seq: int) -> EmotionEvent:
            return self._drafts.event(seq, heard, self.manifest.identity)

        try:
            row = self._outbox.put(EMOTION, self._node, draft)
        except (StoreError, MessageError) as error:  # no figure ends a node
            self._meter.refused_events += 1
            self._tell_of_refusal(error)
            return
        self._has_told_of_refusal = False
        stored(row)

    def telemetry(self, reconnects: int, stored: Callable[[int], None]) -> None:
        """Put a telemetry message into the outbox; `stored` hears of the row."""

        def draft(seq: int) -> Telemetry:
            self.last = self._drafts.telemetry(seq, reading, counters, self._capture.report(), losses)
            return self.last

        losses = Losses(
            refused_events=self._meter.refused_events,
            dropped_blocks=self._capture.dropped_blocks,
            reconnects=reconnects,
        )
        try:
            counters = self._outbox.counters()
            reading = self._meter.read(self.manifest.prior)
            row = self._outbox.put(TELEMETRY, self._node, draft)
        except (StoreError, MessageError) as error:
            self._tell_of_refusal(error)
            return
        stored(row)

    def status(self, reason: StatusReason) -> NodeStatus:
        """Return what the node is; any thread may ask."""
        condition = Condition(
            model=self.manifest.identity,
            source=self._capture.description,
            muted_by=self._mute.by(),
            capture=self._capture.report(),
            thresholds=self._model.tuning.thresholds(),
        )
        return self._drafts.status(reason, condition)

    @property
    def manifest(self) -> Manifest:
        """Of the model that runs."""
        return self._model.manifest

    def _tell_of_refusal(self, error: StoreError | MessageError) -> None:
        if not self._has_told_of_refusal:  # said once; telemetry counts the rest
            self._has_told_of_refusal = True
            _log.error("%s; events are lost until then", error)
