"""What is drawn for each node: repeatable, within the contract's rates, and as often as was asked for."""

import random
from itertools import islice

from edge_node.simulate.churn import Churn, draw_presence
from edge_node.simulate.cost import SLOW_FACTOR, Costs, draw_device
from edge_node.simulate.speech import said


def test_speech_keeps_the_rates_of_the_contract() -> None:
    events = list(islice(said(0.3, random.Random(1)), 5_000))
    waits = [wait_s for wait_s, _ in events[1:]]
    assert min(waits) >= 1
    repeats = [
        wait_s for wait_s, (_, label), (_, before) in zip(waits, events[1:], events, strict=False) if label is before
    ]
    assert sum(wait_s == 5 for wait_s in repeats) > 100


def test_speech_without_end_pauses_no_longer_than_a_repeat() -> None:
    waits = [wait_s for wait_s, _ in islice(said(1.0, random.Random(1)), 2_000)]
    assert max(waits) <= 5


def test_speech_of_more_talkative_places_is_more_frequent() -> None:
    rates = [500 / sum(wait_s for wait_s, _ in islice(said(share, random.Random(1)), 500)) for share in (0.1, 0.3, 1.0)]
    assert rates == sorted(rates)
    assert 2 < rates[2] / rates[1] < 5


def test_speech_where_nobody_speaks_is_none() -> None:
    assert list(said(0.0, random.Random(1))) == []


def test_presence_is_as_restless_as_was_asked_for() -> None:
    churn = Churn(share=0.2, horizon_s=100)
    drawn = [draw_presence(churn, 10, random.Random(number)) for number in range(4_000)]
    never = [each for each in drawn if each.comes_s is None]
    late = [each for each in drawn if each.comes_s is not None and each.comes_s > 10]
    left = [each for each in drawn if each.absences]
    assert 300 < len(never) < 500
    assert 300 < len(late) < 500
    assert 600 < len(left) < 850
    assert 700 < sum(each.is_slow for each in drawn) < 900
    for each in left:
        moments = [each.comes_s, *(moment for absence in each.absences for moment in absence)]
        assert moments == sorted(moments, key=lambda moment: moment or 0)


def test_presence_without_churn_is_there_from_the_ramp_on() -> None:
    drawn = [draw_presence(Churn(share=0), 10, random.Random(number)) for number in range(200)]
    assert all(each.comes_s is not None and each.comes_s <= 10 and not each.absences for each in drawn)
    assert not any(each.is_slow for each in drawn)


def test_draws_of_the_same_seed_are_the_same() -> None:
    first, second = (
        (
            draw_presence(Churn(), 10, random.Random("1 a")),
            draw_device(Costs(), random.Random("1 a"), is_slow=False).proof_s(),
            list(islice(said(0.3, random.Random("1 a")), 20)),
        )
        for _ in range(2)
    )
    assert first == second


def test_device_that_is_slow_takes_longer() -> None:
    ordinary, slow = (draw_device(Costs(), random.Random(1), is_slow=is_slow) for is_slow in (False, True))
    ratio = sum(slow.trust_s() for _ in range(200)) / sum(ordinary.trust_s() for _ in range(200))
    assert 0.9 * SLOW_FACTOR < ratio < 1.1 * SLOW_FACTOR
