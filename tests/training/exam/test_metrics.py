import numpy as np
import pytest

from training.exam.metrics import UNHEARD, corpus_macro_uar, merge, score

TRUTH = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
DECIDED = np.array([0, 0, 0, 2, 1, 2, 2, 2, 0, UNHEARD])


def test_scores_equal_hand_computed_values() -> None:
    scores = score(TRUTH, DECIDED)
    assert scores.clips == 10
    assert scores.accuracy == pytest.approx(6 / 10)
    assert scores.recall == pytest.approx((3 / 4, 1 / 2, 2 / 4))
    assert scores.uar == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    # F1 = 2 hits / (true + decided): 6/(4+4), 2/(2+1), 4/(4+4)
    assert scores.macro_f1 == pytest.approx((0.75 + 2 / 3 + 0.5) / 3)
    assert scores.confusion == ((3, 0, 1), (0, 1, 1), (1, 0, 2))
    assert scores.unheard == (0, 0, 1)


def test_scores_leave_an_absent_class_out_of_the_means() -> None:
    scores = score(np.array([0, 0, 2]), np.array([0, 1, 2]))
    assert scores.recall == (0.5, None, 1.0)
    assert scores.uar == pytest.approx(0.75)


def test_scores_of_one_class_stuck_show_in_uar() -> None:
    scores = score(np.array([2] * 8 + [0, 1]), np.full(10, 2))
    assert scores.accuracy == pytest.approx(0.8)
    assert scores.uar == pytest.approx(1 / 3)


def test_merged_scores_equal_scores_of_all() -> None:
    assert merge([score(TRUTH[:5], DECIDED[:5]), score(TRUTH[5:], DECIDED[5:])]) == score(TRUTH, DECIDED)


def test_corpus_macro_counts_corpora_alike() -> None:
    good, bad = score(np.array([0] * 9), np.array([0] * 9)), score(np.array([1]), np.array([0]))
    assert corpus_macro_uar({"tess": good, "savee": bad}) == pytest.approx(0.5)


def test_scores_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot score"):
        score(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
