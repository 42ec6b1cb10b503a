"""Makes features.npz with librosa: what `broker.contract.features` must reproduce where librosa is not installed.

python tests/golden/make.py
"""

from pathlib import Path

import librosa
import numpy as np

from broker.contract.features import PAPER_FEATURES, FeatureSpec

OUT = Path(__file__).parent / "features.npz"
RATE_HZ = 16_000
SPECS = {
    "paper": PAPER_FEATURES,
    "causal": FeatureSpec(),
    "short": FeatureSpec(coefficients=20, fft_samples=1024, hop_samples=320),
    "band": FeatureSpec(coefficients=40, mel_bands=64, hop_samples=256, low_hz=80.0, high_hz=7_000.0, floor_db=-80.0),
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
    spectrum = librosa.stft(samples, n_fft=spec.fft_samples, hop_length=spec.hop_samples, center=False)
    filters = librosa.filters.mel(
        sr=spec.sample_rate_hz, n_fft=spec.fft_samples, n_mels=spec.mel_bands, fmin=spec.low_hz, fmax=spec.high_hz
    )
    decibels = librosa.power_to_db(
        filters @ np.abs(spectrum) ** 2, ref=1.0, amin=10 ** (spec.floor_db / 10), top_db=None
    )
    cepstrum: np.ndarray = librosa.feature.mfcc(S=decibels, n_mfcc=spec.coefficients)  # scipy's orthonormal DCT-II
    return cepstrum.T


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
    return {name: np.round(np.clip(samples, -1, 1) * 32_767).astype(np.int16) for name, samples in made.items()}


def main() -> None:
    """Write the file."""
    arrays = {}
    for name, samples in signals().items():
        arrays[f"samples/{name}"] = samples
        for spec_name, spec in SPECS.items():
            arrays[f"{spec_name}/{name}"] = reference(samples.astype(np.float32) / 32_768, spec).astype(np.float32)
    np.savez_compressed(OUT, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main()
