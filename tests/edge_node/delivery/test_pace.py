"""So many a second, and after a pause a few at once."""

from hypothesis import given
from hypothesis import strategies as st

from edge_node.delivery.pace import Pace

S = 1_000_000_000


def test_pace_rested_takes_a_few_at_once_and_then_as_many_as_it_may() -> None:
    now_ns = [0]
    pace = Pace(200, 20, clock_ns=lambda: now_ns[0])
    assert pace.left == 20
    for _ in range(20):
        pace.step()
    assert pace.left == 0
    assert pace.wait_s == 0.025  # for five of them
    now_ns[0] += 25_000_000
    assert pace.left == 5
    now_ns[0] += 3_600 * S
    assert pace.left == 20


def test_pace_that_is_slow_still_takes_steps() -> None:
    now_ns = [0]
    pace = Pace(1, 20, clock_ns=lambda: now_ns[0])
    for _ in range(20):
        pace.step()
    assert pace.wait_s == 5
    now_ns[0] += S
    assert pace.left == 1


@given(st.floats(1, 1_000), st.lists(st.floats(0, 0.3), min_size=1, max_size=300))
def test_pace_is_kept_however_often_it_is_asked(per_s: float, pauses: list[float]) -> None:
    now_ns = [0]
    pace = Pace(per_s, 20, clock_ns=lambda: now_ns[0])
    steps = 0
    for pause in pauses:
        now_ns[0] += int(pause * S)
        while pace.left:
            pace.step()
            steps += 1
        assert steps <= 20 + per_s * now_ns[0] / S + 0.001
        assert pace.wait_s > 0
