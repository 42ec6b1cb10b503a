import numpy as np
import numpy.typing as npt
import pytest

from training.exam.calibration import (
    BINS,
    aurc,
    expected_calibration_error,
    reliability,
    risk_coverage,
)


def _sure(*confidences: float) -> npt.NDArray[np.float64]:
    """Return probabilities whose likeliest class is the first."""
    return np.array([[each, (1 - each) / 2, (1 - each) / 2] for each in confidences])


def _told(wrong: str) -> npt.NDArray[np.int64]:
    """Return the truth of clips that are told as the first class: x is wrong."""
    return np.array([1 if each == "x" else 0 for each in wrong])


def test_calibration_error_equals_the_hand_computed_value() -> None:
    # bins of 1/15: 0.5 and 0.52 share one (mean 0.51, half right), 0.9 and 0.92 another (mean 0.91, all right)
    truth, probabilities = _told(".x.."), _sure(0.50, 0.52, 0.90, 0.92)
    assert expected_calibration_error(truth, probabilities) == pytest.approx((2 * abs(0.5 - 0.51) + 2 * 0.09) / 4)


def test_reliability_has_fifteen_bins_whose_upper_edge_belongs_to_them() -> None:
    assert BINS == 15
    bins = reliability(_told("...x"), _sure(0.6, 0.6 + 1e-9, 1.0, 1.0))
    assert [(round(each.high * BINS), each.clips, each.accuracy) for each in bins] == [
        (9, 1, 1.0),
        (10, 1, 1.0),
        (15, 2, 0.5),
    ]


def test_risk_falls_with_caution_where_confidence_is_worth_something() -> None:
    curve = risk_coverage(_told("..xx"), _sure(0.9, 0.8, 0.7, 0.6))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3, 1 / 2])
    assert aurc(_told("..xx"), _sure(0.9, 0.8, 0.7, 0.6)) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert aurc(_told("xx.."), _sure(0.9, 0.8, 0.7, 0.6)) == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)


def test_risk_of_equal_confidences_does_not_depend_on_their_order() -> None:
    one, other = (risk_coverage(_told(wrong), _sure(0.9, 0.5, 0.5, 0.5)) for wrong in (".x..", "...x"))
    np.testing.assert_array_equal(one.risk, other.risk)
    np.testing.assert_allclose(one.risk, [0, 1 / 6, 2 / 9, 1 / 4])


def test_calibration_of_nothing_is_refused() -> None:
    for measure in (reliability, expected_calibration_error, risk_coverage):
        with pytest.raises(ValueError, match="cannot calibrate"):
            measure(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
