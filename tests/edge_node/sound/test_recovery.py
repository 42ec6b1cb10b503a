"""The table of attempts: it never gives up, never hurries, and never takes a quiet room for a broken microphone."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract.condition import CaptureProblem
from edge_node.sound.recovery import (
    SCANS_AT_FIRST,
    STEADY_S,
    TIERS,
    WAITS_S,
    ZEROS_S,
    Attempt,
    Failed,
    Heard,
    Load,
    Recovery,
    Tier,
    step,
    weigh,
)

HEALABLE = sorted(set(TIERS) - {CaptureProblem.STUCK})
SOUND, ZEROS = Heard(zeros=False), Heard(zeros=True)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([SOUND, SOUND, ZEROS, *(Failed(each) for each in HEALABLE)]),
        st.floats(0, 700, allow_subnormal=False),
    ),
    max_size=60,
)


def _attempts(problem: CaptureProblem, count: int) -> list[Attempt]:
    state, found = Recovery(), []
    for k in range(count):
        state, attempt = step(state, Failed(problem), 100.0 * k)
        assert attempt is not None
        found.append(attempt)
    return found


def _listen(state: Recovery, event: Heard, seconds: float, from_s: float) -> tuple[Recovery, list[tuple[float, Tier]]]:
    """Hear the same for so long, in blocks of 1 s; return the state and the attempts."""
    found = []
    for k in range(int(seconds)):
        state, attempt = step(state, event, from_s + k)
        if attempt is not None:
            found.append((from_s + k, attempt.tier))
    return state, found


@pytest.mark.parametrize("problem", HEALABLE)
def test_recovery_goes_on_for_ever_with_growing_waits(problem: CaptureProblem) -> None:
    attempts = _attempts(problem, 30)
    assert [each.wait_s for each in attempts] == [*WAITS_S, *[60.0] * (30 - len(WAITS_S))]
    assert list(dict.fromkeys(each.tier for each in attempts[:SCANS_AT_FIRST])) == list(TIERS[problem])
    assert {each.tier for each in attempts[5:SCANS_AT_FIRST]} == {TIERS[problem][-1]}


def test_recovery_that_takes_long_seldom_scans() -> None:
    """Each scan costs PortAudio some memory for good."""
    tiers = [each.tier for each in _attempts(CaptureProblem.LOST, 1_000)]
    assert tiers.count(Tier.RESCAN) <= 110
    assert {each for each in tiers[SCANS_AT_FIRST:] if each is not Tier.RESCAN} == {Tier.REOPEN}


def test_recovery_of_a_busy_device_never_scans() -> None:
    """PortAudio does not list what another program has: after a scan the device would be gone, too."""
    assert Tier.RESCAN not in {each.tier for each in _attempts(CaptureProblem.BUSY, 30)}


def test_recovery_other_problem_on_the_way_goes_on_where_it_was() -> None:
    state, _ = step(Recovery(), Failed(CaptureProblem.LOST), 0)
    for k in range(1, 4):
        state, _ = step(state, Failed(CaptureProblem.LOST), k)
    state, attempt = step(state, Failed(CaptureProblem.BUSY), 9)
    assert attempt == Attempt(Tier.REOPEN, WAITS_S[4])
    assert state.trouble is not None
    assert (state.trouble.problem, state.trouble.began_s) == (CaptureProblem.BUSY, 0)


def test_recovery_that_does_not_last_waits_longer_and_longer() -> None:
    """A device that gives a second of sound and fails again: attempts must not begin at the first each time."""
    state, waits, now_s = Recovery(), [], 0.0
    for _ in range(12):
        state, attempt = step(state, Failed(CaptureProblem.STALLED), now_s)
        assert attempt is not None
        waits.append(attempt.wait_s)
        now_s += attempt.wait_s + 1
        state, _ = step(state, SOUND, now_s)
        now_s += 1
    assert waits == [*WAITS_S, *[60.0] * 4]


def test_recovery_that_lasts_is_over_and_the_next_begins_at_the_first() -> None:
    state, _ = step(Recovery(heard_s=4.0), Failed(CaptureProblem.LOST), 9)
    state, _ = step(state, SOUND, 20)
    assert state.trouble is not None
    assert state.trouble.deaf_s == 16  # since 4, when there was sound last
    state, _ = step(state, SOUND, 20 + STEADY_S - 0.1)
    assert state.trouble is not None
    state, _ = step(state, SOUND, 20 + STEADY_S)
    assert state.trouble is None
    assert step(state, Failed(CaptureProblem.LOST), 50)[1] == Attempt(Tier.RESTART, 0.0)


def test_recovery_deaf_time_adds_up_over_what_did_not_last() -> None:
    state = Recovery(heard_s=0.0)
    for failed_s, heard_s in ((5, 10), (12, 20)):  # deaf from 0 to 10, and from 10, the last sound, to 20
        state, _ = step(state, Failed(CaptureProblem.LOST), failed_s)
        state, _ = step(state, SOUND, heard_s)
    assert state.trouble is not None
    assert state.trouble.deaf_s == 20


def test_zeros_are_left_alone_for_a_minute_and_then_tried_further_and_further_apart() -> None:
    state, attempts = _listen(Recovery(), ZEROS, 4_000, 0)
    times = [0.0, *(at for at, _ in attempts)]
    assert [later - sooner for sooner, later in itertools.pairwise(times)][:6] == [*ZEROS_S, 600]
    assert [tier for _, tier in attempts][:4] == [Tier.RESTART, Tier.REOPEN, Tier.RESCAN, Tier.RESCAN]
    assert state.trouble is not None
    assert state.trouble.problem is CaptureProblem.STUCK


def test_zeros_end_with_the_first_sound() -> None:
    state, _ = _listen(Recovery(), ZEROS, 100, 0)
    state, _ = step(state, SOUND, 101)
    assert state.trouble is None


def test_zeros_that_end_by_themselves_are_what_the_device_is_like() -> None:
    """A sound server's input when nobody speaks: not a restart per minute of quiet, all night."""
    state, now_s, attempts = Recovery(), 0.0, []
    for _ in range(100):  # 100 times five minutes of quiet and a second of speech
        state, found = _listen(state, ZEROS, 300, now_s)
        attempts += found
        state, _ = step(state, SOUND, now_s + 300)
        now_s += 301
    assert len(attempts) == 3  # after 60 s, 120 s more, and in the next quiet 240 s


def test_zeros_that_end_by_an_attempt_are_mended_as_soon_the_next_time() -> None:
    state, now_s = Recovery(), 0.0
    for _ in range(5):
        state, found = _listen(state, ZEROS, 62, now_s)
        assert [at - now_s for at, _ in found] == [60]
        state, _ = step(state, SOUND, now_s + 62)
        now_s += 100


def test_zeros_then_the_device_is_lost_begins_its_own_attempts() -> None:
    state, _ = _listen(Recovery(), ZEROS, 200, 0)
    state, attempt = step(state, Failed(CaptureProblem.LOST), 201)
    assert attempt == Attempt(Tier.RESTART, 0.0)
    assert state.trouble is not None
    assert state.trouble.problem is CaptureProblem.LOST


@given(EVENTS)
def test_recovery_any_events(events: list[tuple[Failed | Heard, float]]) -> None:
    state, now_s, heard_since_s = Recovery(), 0.0, None
    zeros_tried_s = -1_000.0
    for event, pause_s in events:
        now_s += pause_s
        before = state
        state, attempt = step(state, event, now_s)
        if isinstance(event, Failed):
            heard_since_s = None
            assert attempt is not None  # it never gives up
            assert 0 <= attempt.wait_s <= 60
            assert attempt.tier in {*TIERS[event.problem], Tier.REOPEN}
            assert state.trouble is not None
            assert state.trouble.problem is event.problem
            if before.trouble is not None and before.trouble.problem is event.problem:
                assert state.trouble.attempts == before.trouble.attempts + 1
            continue
        heard_since_s = now_s if heard_since_s is None else heard_since_s
        if attempt is not None:  # sound is interrupted for zeros only, and not often
            assert event.zeros
            assert now_s - zeros_tried_s >= ZEROS_S[0]
            zeros_tried_s = now_s
        if not event.zeros and now_s - heard_since_s >= STEADY_S:
            assert state.trouble is None
        if state.trouble is not None:
            assert state.trouble.deaf_s <= now_s + 1e-6


def test_load_a_few_lost_blocks_are_no_overload() -> None:
    load = Load(since_s=0)
    for k in range(1_000):
        load = weigh(load, k // 60, float(k))  # less than two in 10 s
        assert not load.is_too_much


def test_load_is_too_much_at_once_and_well_after_a_span_without_loss() -> None:
    load, story = Load(since_s=0), []
    for now_s in range(100):
        dropped = min(max(0, now_s - 20), 30)  # a block a second from 20 to 50 s
        load = weigh(load, dropped, float(now_s))
        story.append((load.is_too_much, load.lost_blocks))
    began = next(k for k, (is_too_much, _) in enumerate(story) if is_too_much)
    ended = next(k for k, (is_too_much, _) in enumerate(story) if k > began and not is_too_much)
    assert 20 < began < 30
    assert 50 < ended <= 70
    assert story[ended][1] >= 28  # all but what was lost before it counted
    assert not any(is_too_much for is_too_much, _ in story[ended:])
