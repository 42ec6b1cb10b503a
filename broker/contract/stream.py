"""Windows of a stream, and the features of those that are asked for: each frame is analysed at most once.

    samples, cut anyhow -> Windower -> window -> frames not analysed before -> assemble -> normalise -> model input

The node and the trainer both hear through `FrameStream`.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from broker.contract.features import FeatureSpec, Normalisation, analyse, assemble, normalise
from broker.contract.windows import Window, Windower, WindowSpec

__all__ = ["FrameStream", "windows_of"]

Samples = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]


class FrameStream:
    """Cuts a stream into windows and tells the features of the newest, the same as `extract` of its samples.

    Two overlapping windows share frames. A frame is analysed for the first of them whose features are asked for, and
    kept for the next; windows that nobody asks about, such as silence, cost no analysis.

    Where frames cannot be shared, each window is analysed as a whole: its hop is not a multiple of the frames' hop, or
    a frame depends on more than its own samples (`FeatureSpec.is_local`).
    """

    def __init__(self, features: FeatureSpec, normalisation: Normalisation | None, window: WindowSpec) -> None:
        """Start with an empty stream."""
        self._spec = features
        self._normalisation = normalisation
        self._windower = Windower(window, features.sample_rate_hz)
        self._shares_frames = features.is_local and window.hop_samples % features.hop_samples == 0
        self.reset()

    def reset(self) -> None:
        """Forget the samples heard so far, because some were lost: no window and no frame may span a gap."""
        self._windower.reset()
        self._newest: Window | None = None
        self._frames = np.zeros((0, self._spec.raw_columns), dtype=np.float32)  # of the window analysed last
        self._analysed_to = 0  # where that window ends

    def push(self, samples: Samples, captured_ns: int) -> Iterator[Window]:
        """Yield the windows that these samples complete, oldest first.

        Args:
            samples: shape (n,), float32; any n.
            captured_ns: monotonic time at which the last of them was captured, in ns.
        """
        for window in self._windower.push(samples, captured_ns):
            self._newest = window
            yield window

    def features(self, window: Window) -> Features:
        """Return the model's input for the newest window, shape (frames, spec.columns), float32; perhaps read-only.

        Raises:
            ValueError: the window is not the one that `push` yielded last, or its samples are not finite.
        """
        if window is not self._newest:
            msg = "features are told of the newest window only, before the next one is taken"
            raise ValueError(msg)
        known = self._known(window)
        fresh = analyse(window.samples[len(known) * self._spec.hop_samples :], self._spec)
        self._frames = np.concatenate((known, fresh))
        self._frames.flags.writeable = False  # what is returned may be a view of them
        self._analysed_to = window.end_sample
        return normalise(assemble(self._frames, self._spec), self._normalisation)

    def _known(self, window: Window) -> Features:
        """Return the frames that this window begins with and that were analysed for an earlier one."""
        if not self._shares_frames:
            return self._frames[:0]
        return self._frames[(window.end_sample - self._analysed_to) // self._spec.hop_samples :]


def windows_of(
    samples: Samples, features: FeatureSpec, normalisation: Normalisation | None, window: WindowSpec
) -> Iterator[tuple[Window, Features]]:
    """Yield a whole clip's windows and their features, as a node hears them that begins with the clip.

    A clip shorter than a window is padded with silence at its end, so that there is at least one. What remains after
    the last whole window is not heard.

    Args:
        samples: shape (n,), float32, full scale at 1, at `features.sample_rate_hz`.
        features: the front-end's settings.
        normalisation: fixed statistics; None: features as they are.
        window: how much audio a window holds, and how often there is one.

    Raises:
        ValueError: the samples are not finite, or the statistics are not one per column.
    """
    stream = FrameStream(features, normalisation, window)
    padded = np.pad(samples, (0, max(0, window.length_samples - len(samples))))
    for heard in stream.push(padded, 0):
        yield heard, stream.features(heard)
