import msgspec
import numpy as np
import pytest

from training.model.network import tf
from training.model.plain import Cell, Convolution, Dense, Plain, infer
from training.model.rounding import round_weights

RANDOM = np.random.default_rng(7)
FRAMES, COLUMNS = 40, 12


def _weights(*shape: int) -> np.ndarray:
    return RANDOM.normal(scale=shape[0] ** -0.5, size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def plain() -> Plain:
    return Plain(
        frames=FRAMES,
        columns=COLUMNS,
        convolutions=(
            Convolution(kernel=_weights(5, COLUMNS, 16), bias=_weights(16), stride=2),
            Convolution(kernel=_weights(3, 16, 8), bias=_weights(8), stride=1),
        ),
        cells=(Cell(kernel=_weights(8, 24), recurrent=_weights(6, 24), bias=_weights(24)),),
        pooling="mean-std",
        dense=(Dense(kernel=3 * _weights(12, 3), bias=_weights(3), has_relu=False),),
        to_class=np.eye(3, dtype=np.float32),
    )


@pytest.fixture(scope="module")
def windows() -> np.ndarray:
    """Columns and frames that go together, as those of a voice do."""
    mixing = RANDOM.normal(size=(COLUMNS, COLUMNS))
    steps = RANDOM.normal(size=(200, FRAMES, COLUMNS)).cumsum(axis=1) @ mixing
    return np.asarray((steps - steps.mean(axis=(0, 1))) / steps.std(axis=(0, 1)) + 0.5, dtype=np.float32)


def _nearest(kernel: np.ndarray) -> np.ndarray:
    step = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0) / 127
    rounded: np.ndarray = (np.round(kernel / step) * step).astype(np.float32)
    return rounded


def _to_nearest(plain: Plain) -> Plain:
    convolutions = tuple(msgspec.structs.replace(each, kernel=_nearest(each.kernel)) for each in plain.convolutions)
    cells = tuple(msgspec.structs.replace(each, kernel=_nearest(each.kernel)) for each in plain.cells)
    return msgspec.structs.replace(plain, convolutions=convolutions, cells=cells)


def test_rounded_weights_lie_on_the_steps_that_the_converter_finds(plain: Plain, windows: np.ndarray) -> None:
    rounded = round_weights(plain, windows)
    for before, after in zip(
        (*(each.kernel for each in plain.convolutions), plain.cells[0].kernel),
        (*(each.kernel for each in rounded.convolutions), rounded.cells[0].kernel),
        strict=True,
    ):
        assert not np.array_equal(before, after)
        np.testing.assert_allclose(_nearest(after), after, atol=1e-6)
        kept, largest = (np.abs(each).reshape(-1, each.shape[-1]).max(axis=0) for each in (after, before))
        np.testing.assert_allclose(kept, largest, rtol=1e-6)
    np.testing.assert_array_equal(rounded.cells[0].recurrent, plain.cells[0].recurrent)


def test_rounded_weights_change_the_answers_less_than_the_nearest_ones_do(plain: Plain, windows: np.ndarray) -> None:
    others, known = windows[:100], windows[100:]  # what it was fitted to, and what it was not
    exact, nearest, fitted = (
        np.asarray(infer(each, tf.constant(others)))
        for each in (plain, _to_nearest(plain), round_weights(plain, known))
    )
    assert np.abs(fitted - exact).mean() < 0.6 * np.abs(nearest - exact).mean()


def test_rounded_weights_of_an_output_that_is_zero_stay_zero(plain: Plain, windows: np.ndarray) -> None:
    kernel = plain.cells[0].kernel.copy()
    kernel[:, 3] = 0
    cell = msgspec.structs.replace(plain.cells[0], kernel=kernel)
    rounded = round_weights(msgspec.structs.replace(plain, cells=(cell,)), windows)
    assert not rounded.cells[0].kernel[:, 3].any()
    assert np.isfinite(rounded.cells[0].kernel).all()


def test_rounded_weights_of_inputs_that_never_vary_are_finite(plain: Plain) -> None:
    rounded = round_weights(plain, np.ones((2, FRAMES, COLUMNS), dtype=np.float32))
    assert all(np.isfinite(each.kernel).all() and np.isfinite(each.bias).all() for each in rounded.convolutions)
