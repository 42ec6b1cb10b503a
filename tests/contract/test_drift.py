"""How far a model's answers have moved: bounded, and nothing where nothing has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.decision import CLASSES
from broker.contract.drift import divergence, entropy

THIRDS = (1 / 3, 1 / 3, 1 / 3)
amounts = st.tuples(*[st.floats(0, 1e6)] * len(CLASSES))
some = amounts.filter(lambda each: sum(each) > 0)


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [((1, 0, 0), 0.0), (THIRDS, 1.0), ((0.5, 0.5, 0), 0.6309), ((0.8, 0.1, 0.1), 0.5817), ((0, 0, 0), 1.0)],
)
def test_entropy_is_a_share_of_the_largest(probabilities: tuple[float, ...], expected: float) -> None:
    assert entropy(probabilities) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_entropy_of_what_is_not_finite_is_the_largest(bad: float) -> None:
    assert entropy((bad, 0.1, 0.1)) == 1


@given(amounts)
def test_entropy_any_probabilities_is_within_0_and_1_whatever_their_order(each: tuple[float, ...]) -> None:
    assert 0 <= entropy(each) <= 1
    assert entropy(each) == pytest.approx(entropy(each[::-1]))


@pytest.mark.parametrize(
    ("observed", "prior", "expected"),
    [
        ((20, 20, 20), THIRDS, 0.0),
        ((1, 0, 0), (0, 0.5, 0.5), 1.0),
        ((20, 0, 0), THIRDS, 0.4591),
        ((8, 6, 6), THIRDS, 0.0035),
    ],
)
def test_divergence_is_0_alike_and_1_with_nothing_in_common(
    observed: tuple[int, ...], prior: tuple[float, ...], expected: float
) -> None:
    assert divergence(observed, prior) == pytest.approx(expected, abs=1e-4)


def test_divergence_of_nothing_observed_is_unknown() -> None:
    assert divergence((0, 0, 0), THIRDS) is None


@pytest.mark.parametrize("prior", [(0, 0, 0), (0.5, 0.5)])
def test_divergence_from_no_prior_is_refused(prior: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="3 classes with a prior of"):
        divergence((1, 0, 0), prior)


@given(some, some, st.floats(0.001, 1000))
def test_divergence_any_counts_is_within_0_and_1_the_same_both_ways_and_at_any_scale(
    first: tuple[float, ...], second: tuple[float, ...], scale: float
) -> None:
    found = divergence(first, second)
    assert found is not None
    assert 0 <= found <= 1
    assert divergence(second, first) == pytest.approx(found, abs=1e-9)
    assert divergence([value * scale for value in first], second) == pytest.approx(found, abs=1e-6)
    assert divergence(first, first) == pytest.approx(0, abs=1e-9)
