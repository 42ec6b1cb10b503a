"""Makes what `broker.contract.features` must reproduce where librosa is not installed.

    features.npz   frames (MFCC): librosa's
    windows.npz    whole windows: librosa's bands, and pitch, smoothing, mean and slopes one frame after the other in
                   float64, as plainly as they can be written

python tests/golden/make.py
"""

from pathlib import Path

import librosa
import msgspec
import numpy as np

from broker.contract.features import PAPER_FEATURES, FeatureSpec

FOLDER = Path(__file__).parent
RATE_HZ = 16_000
LAGS = range(0, RATE_HZ // 60 + 5, 2)
"""To one step beyond 60 Hz."""
HIGHEST = RATE_HZ // 500
SPECS = {
    "paper": PAPER_FEATURES,
    "causal": FeatureSpec(),
    "short": FeatureSpec(coefficients=20, fft_samples=1024, hop_samples=320),
    "band": FeatureSpec(coefficients=40, mel_bands=64, hop_samples=256, low_hz=80.0, high_hz=7_000.0, floor_db=-80.0),
}


_VOICE = FeatureSpec(
    fft_samples=1024, hop_samples=320, mel_bands=40, low_hz=50.0, high_hz=7_600.0, floor_db=-60.0, pitch=True
)
WINDOW_SPECS = {
    "bands": msgspec.structs.replace(_VOICE, kind="log-mel", coefficients=40, mean_removed=1.0),
    "slopes": msgspec.structs.replace(_VOICE, coefficients=13, window_range_db=40.0, mean_removed=0.5, delta_frames=2),
}


def reference(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Return the MFCC, shape (frames, coefficients), computed with librosa, or with its pieces."""
    if spec.centred:
        features: np.ndarray = librosa.feature.mfcc(
            y=samples,
            sr=spec.sample_rate_hz,
            n_mfcc=spec.coefficients,
            n_fft=spec.fft_samples,
            hop_length=spec.hop_samples,
            n_mels=spec.mel_bands,
            fmin=spec.low_hz,
            fmax=spec.high_hz,
        )
        return features.T
    cepstrum: np.ndarray = librosa.feature.mfcc(S=reference_bands(samples, spec), n_mfcc=spec.coefficients)
    return cepstrum.T  # scipy's orthonormal DCT-II


def reference_bands(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Return decibels of the mel bands, shape (bands, frames), computed with librosa's pieces."""
    spectrum = librosa.stft(samples, n_fft=spec.fft_samples, hop_length=spec.hop_samples, center=False)
    filters = librosa.filters.mel(
        sr=spec.sample_rate_hz, n_fft=spec.fft_samples, n_mels=spec.mel_bands, fmin=spec.low_hz, fmax=spec.high_hz
    )
    decibels: np.ndarray = librosa.power_to_db(
        filters @ np.abs(spectrum) ** 2, ref=1.0, amin=10 ** (spec.floor_db / 10), top_db=None
    )
    return decibels


def reference_pitch(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Return octaves above 180 Hz, voicing strength and whether voiced, shape (frames, 3), of a signal at 16 kHz."""
    length = spec.fft_samples
    window = np.hanning(length + 1)[:-1]  # periodic
    of_window = {lag: np.dot(window, np.roll(window, lag)) / np.dot(window, window) for lag in LAGS}
    starts = range(0, len(samples) - length + 1, spec.hop_samples)
    frames = [samples[start : start + length].astype(np.float64) * window for start in starts]
    return np.array([_pitch_of_frame(frame, of_window) for frame in frames])


def _pitch_of_frame(frame: np.ndarray, of_window: dict[int, float]) -> tuple[float, float, float]:
    spectrum = np.fft.rfft(frame)
    spectrum[np.fft.rfftfreq(len(frame), 1 / RATE_HZ) > 2_000] = 0
    low = np.fft.irfft(spectrum)
    energy = max(np.dot(low, low), 2.5e-10 * len(frame))
    height = {lag: np.dot(low, np.roll(low, lag)) / energy / of_window[lag] for lag in LAGS}
    peaks = [lag for lag in LAGS[HIGHEST // 2 : -1] if height[lag - 2] <= height[lag] > height[lag + 2]]
    peaks = [lag for lag in peaks if height[lag] > 0.2 + min(height[shorter] for shorter in range(0, lag, 2))]
    if not peaks:
        return (0.0, 0.0, 0.0)
    tops = {lag: _top(*(height[lag + step] for step in (-2, 0, 2))) for lag in peaks}
    best = max(peaks, key=lambda lag: tops[lag][1] - 0.02 * np.log2(lag / HIGHEST))
    strength = float(np.clip(tops[best][1], 0, 1))
    if strength < 0.45:
        return (0.0, strength, 0.0)
    return (float(np.log2(RATE_HZ / (best + 2 * tops[best][0]) / 180)), strength, 1.0)


def _top(left: float, middle: float, right: float) -> tuple[float, float]:
    """Return the top of the parabola through three points: steps from the middle one, height."""
    curve, rise, height = np.polyfit([-1, 0, 1], [left, middle, right], 2)
    place = -rise / (2 * curve)
    return float(place), float(height + rise * place + curve * place**2)


def reference_window(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Return a window's features, shape (frames, columns), not normalised."""
    bands, voice = reference_bands(samples, spec), reference_pitch(samples, spec)
    if spec.window_range_db is not None:
        bands = np.maximum(bands, bands.max() - spec.window_range_db)
    spectral = bands.T if spec.kind == "log-mel" else librosa.feature.mfcc(S=bands, n_mfcc=spec.coefficients).T
    smoothed = voice.copy()
    for k in range(1, len(voice) - 1):
        if voice[k - 1 : k + 2, 2].all():
            smoothed[k, 0] = np.median(voice[k - 1 : k + 2, 0])
    columns = np.hstack([spectral - spec.mean_removed * spectral.mean(axis=0), smoothed])
    reach = spec.delta_frames
    if not reach:
        return np.asarray(columns)
    padded = np.pad(columns, ((reach, reach), (0, 0)), mode="edge")
    steps = np.arange(-reach, reach + 1)
    slopes = [np.polyfit(steps, padded[k : k + len(steps)], 1)[0] for k in range(len(columns))]
    return np.asarray(np.hstack([columns, slopes]))


def signals() -> dict[str, np.ndarray]:
    """Return half a second of each kind, int16, so that the file is small and the same everywhere."""
    rng = np.random.default_rng(7)
    time = np.arange(RATE_HZ // 2) / RATE_HZ
    glide = np.sin(2 * np.pi * (120 * time + 90 * time**2))
    made = {
        "noise": 0.1 * rng.standard_normal(len(time)),
        "glide": 0.3 * np.sign(glide) * glide**2,
        "clicks": np.where(np.arange(len(time)) % 1600 == 0, 0.9, 0.0),
        "silence": np.zeros(len(time)),
        "whisper": 2e-4 * rng.standard_normal(len(time)),
    }
    return {name: _to_int16(samples) for name, samples in made.items()}


def voices() -> dict[str, np.ndarray]:
    """Return 0.3 s of each kind that has pitch, or might seem to, int16."""
    rng = np.random.default_rng(11)
    time = np.arange(3 * RATE_HZ // 10) / RATE_HZ

    def harmonics(hertz: float | np.ndarray, numbers: range) -> np.ndarray:
        phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, time.shape)) / RATE_HZ
        return np.asarray((np.sin(np.outer(numbers, phase)) / np.array(numbers)[:, None]).sum(axis=0))

    hiss = 0.002 * rng.standard_normal(len(time))
    made = {
        "low voice": 0.2 * harmonics(85.0, range(1, 30)) + hiss,
        "high voice": 0.2 * harmonics(310.0, range(1, 12)) + hiss,
        "glide": 0.2 * harmonics(100.0 * 2 ** (2 * time), range(1, 16)) + hiss,
        "no fundamental": 0.3 * harmonics(150.0, range(3, 9)) + hiss,
        "voice, then noise": np.where(time < 0.15, 0.2 * harmonics(140.0, range(1, 20)), 10 * hiss),
        "voice over rumble": 0.1 + 0.2 * np.sin(2 * np.pi * 18 * time) + 0.05 * harmonics(120.0, range(1, 9)) + hiss,
        "noise": 0.1 * rng.standard_normal(len(time)),
        "silence": np.zeros(len(time)),
        "whisper": 2e-4 * rng.standard_normal(len(time)),
    }
    return {name: _to_int16(samples) for name, samples in made.items()}


def _to_int16(samples: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = np.round(np.clip(samples, -1, 1) * 32_767).astype(np.int16)
    return scaled


def main() -> None:
    """Write the files."""
    frames, windows = {}, {}
    for name, samples in signals().items():
        frames[f"samples/{name}"] = samples
        for spec_name, spec in SPECS.items():
            frames[f"{spec_name}/{name}"] = reference(samples.astype(np.float32) / 32_768, spec).astype(np.float32)
    for name, samples in voices().items():
        windows[f"samples/{name}"] = samples
        for spec_name, spec in WINDOW_SPECS.items():
            made = reference_window(samples.astype(np.float32) / 32_768, spec)
            windows[f"{spec_name}/{name}"] = made.astype(np.float32)
    np.savez_compressed(FOLDER / "features.npz", allow_pickle=False, **frames)
    np.savez_compressed(FOLDER / "windows.npz", allow_pickle=False, **windows)


if __name__ == "__main__":
    main()
