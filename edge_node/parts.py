"""What a node is built of, from its settings: a model that has proved itself, and a source of sound."""

from collections.abc import Callable
from pathlib import Path

from broker.contract.bundle import Manifest, read_bundle
from broker.contract.errors import BundleError
from edge_node.classifier import verify
from edge_node.models import factory_bundle
from edge_node.pipeline import Pipeline
from edge_node.settings import SourceSettings
from edge_node.sound.capture import Capture, nothing_to_rescan
from edge_node.sound.gate import SpeechGate
from edge_node.sound.once import open_once

__all__ = ["Loaded", "capture_of", "load_pipeline", "pipeline_of"]

Loaded = tuple[Manifest, Pipeline]


def load_pipeline(bundle_path: str | None, gate: SpeechGate | None = None) -> Loaded:
    """Return a pipeline around a model that has proved itself on its golden vectors.

    Args:
        bundle_path: where the bundle is; None: the factory model.
        gate: tells speech; None: whatever is loud enough is classified.

    Raises:
        BundleError: the file cannot be read, or is no bundle, or does not run rightly here.
    """
    where = bundle_path or "the factory model"
    try:
        data = factory_bundle() if bundle_path is None else Path(bundle_path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte
        msg = f"{where}: {getattr(error, 'strerror', error)}; name a model bundle"
        raise BundleError(msg) from error
    return pipeline_of(data, where, gate)


def pipeline_of(data: bytes, where: str, gate: SpeechGate | None = None) -> Loaded:
    """Return the same from a bundle's bytes; `where` is what to call it in errors.

    Raises:
        BundleError: it is no bundle, or does not run rightly here.
    """
    bundle = read_bundle(data, where)
    return bundle.manifest, Pipeline(bundle.manifest, verify(bundle, where), gate)


def capture_of(settings: SourceSettings, is_muted: Callable[[], bool], mutings: Callable[[], int]) -> Capture:
    """Return what hears the source that the settings name, and keeps hearing it, but for when the node is muted.

    Args:
        settings: `[source]`.
        is_muted: whether it is, now.
        mutings: how often it was, so far.

    Raises:
        AudioError: it can never be used as it is set. (A microphone that is not there may come.)
    """
    if settings.kind == "microphone":
        from edge_node.sound.microphone import opener  # noqa: PLC0415 -- what only one of the two needs is not loaded
        from edge_node.sound.portaudio import rescan  # noqa: PLC0415 -- likewise

        channel = settings.channel or 1
        opened = opener(settings.device, channel, gain_db=settings.gain_db, remove_dc=settings.remove_dc)
        return Capture(opened, is_muted=is_muted, mutings=mutings, rescan=rescan)
    replay = open_once(settings)
    return Capture(lambda: replay, is_muted=is_muted, mutings=mutings, rescan=nothing_to_rescan)
