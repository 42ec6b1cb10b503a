"""The model that runs: chosen at the start, changed by updates between two blocks, tuned by operators at any time."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from broker.contract.bundle import Manifest
from broker.contract.condition import Thresholds
from broker.contract.errors import BundleError
from edge_node.control.state import StateFile
from edge_node.control.tuning import Tuning
from edge_node.parts import Loaded, load_pipeline, pipeline_of
from edge_node.pipeline import Heard
from edge_node.settings import NodeSettings
from edge_node.sound.gate import Gate
from edge_node.sound.sources import Block

if TYPE_CHECKING:
    from edge_node.ota.service import Updates

__all__ = ["Model"]

_log = logging.getLogger(__name__)


class Model:
    """What judges the sound. Belongs to the pipeline's thread, but for what it says of itself."""

    def __init__(self, settings: NodeSettings, file: StateFile) -> None:
        """Load the model that the settings name, and what tells speech.

        Args:
            settings: the node's.
            file: remembers the thresholds that were commanded.

        Raises:
            BundleError: the model does not run rightly here.
            SettingsError: the gate does not.
        """
        self._settings = settings
        self._gate = Gate(settings.gate) if settings.gate.enabled else None
        self._floor = load_pipeline(settings.bundle, self._gate)
        self._manifest, self._pipeline = self._floor
        self._updates: Updates | None = None
        self.tuning = Tuning(file, self._said, self._tune)
        self._pipeline.tune(self.tuning.thresholds())

    @property
    def manifest(self) -> Manifest:
        """Of the model that runs."""
        return self._manifest

    @property
    def floor(self) -> str:
        """The model that the settings name, as `<name>/<version>`."""
        return self._floor[0].identity

    def follow(self, updates: "Updates") -> None:
        """Run what updates choose, from now on."""
        self._updates = updates
        chosen = updates.choose(self._load)
        if chosen is not None:
            self._run(chosen)

    def hear(self, block: Block) -> Sequence[Heard]:
        """Return what the windows that this block completes come to."""
        heard = list(self._pipeline.hear(block))
        if self._updates is not None:
            self._updates.heard(block, heard)
            self._change(self._updates)
        return heard

    def _change(self, updates: "Updates") -> None:
        """Change to another model, if one is to run."""
        if (change := updates.take()) is None:
            return
        if change.held is None or change.data is None:
            self._run(self._floor)
        else:
            try:
                self._run(self._load(change.data, change.held.release))
            except BundleError as error:
                updates.unusable(change.held, str(error))
                return
        updates.changed(change.held)
        _log.info("model %s runs from now on", self._manifest.identity)

    def _load(self, data: bytes, where: str) -> Loaded:
        return pipeline_of(data, where, self._gate)

    def _run(self, loaded: Loaded) -> None:
        self._manifest, self._pipeline = loaded
        self._pipeline.forget()
        self._pipeline.tune(self.tuning.thresholds())

    def _tune(self, thresholds: Thresholds) -> None:
        """Decide by these from now on, whatever model runs; any thread may say so."""
        self._pipeline.tune(thresholds)

    def _said(self) -> Thresholds:
        """Return what the settings and the bundle say."""
        uncertain_below = self._settings.decision.uncertain_below
        return Thresholds(
            uncertain_below=self._manifest.decision.uncertain_below if uncertain_below is None else uncertain_below,
            speech_above=self._settings.gate.speech_above,
        )
