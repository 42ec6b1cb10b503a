"""What time it is, when nobody knows, and when somebody does."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from edge_node.clock import WallClock, kernel_id, kernel_synced, uptime_ns

S = 1_000_000_000


class Machine:
    """A board: its wall clock, how long it has been up, and what its kernel says of the time."""

    def __init__(self, *, wall_s: float = 5.0) -> None:
        self.wall_ns, self.up_ns = int(wall_s * S), 10 * S
        self.synced, self.asked = False, 0

    def clock(self, *, trusted: bool = False) -> WallClock:
        return WallClock(
            trusted=trusted,
            ask_kernel=self._ask,
            wall_ns=lambda: self.wall_ns,
            uptime_ns=lambda: self.up_ns,
            kernel="this",
        )

    def wait(self, seconds: float) -> None:
        self.wall_ns += int(seconds * S)
        self.up_ns += int(seconds * S)

    def _ask(self) -> bool:
        self.asked += 1
        return self.synced


def test_clock_is_asked_for_once_a_second() -> None:
    board = Machine()
    clock = board.clock()
    for _ in range(100):
        board.wait(0.05)
        assert not clock.is_synced()
    assert board.asked == 5
    board.synced = True
    board.wait(1)
    assert clock.is_synced()


def test_clock_that_is_trusted_asks_nobody_and_remembers_nothing() -> None:
    board = Machine()
    clock = board.clock(trusted=True)
    assert clock.is_synced()
    assert clock.is_known()
    assert (board.asked, clock.was_synced) == (0, False)


def test_clock_that_was_right_stays_known_when_the_time_server_is_lost() -> None:
    board = Machine()
    clock = board.clock()
    assert not clock.is_known()
    board.synced = True
    board.wait(1)
    assert clock.is_known()
    board.synced = False
    board.wait(40_000)
    assert not clock.is_synced()
    assert clock.is_known()


def test_clock_follows_the_wall_clock_when_that_is_set() -> None:
    board = Machine()
    clock = board.clock(trusted=True)
    before = clock.now_us()
    board.wall_ns -= 3 * S
    assert clock.now_us() == before - 3_000_000
    board.wall_ns += 3_600 * S
    assert clock.now_us() == before + 3_597_000_000


@given(st.floats(0, 10**6), st.floats(0, 10**6), st.integers(0, 2 * 10**18))
def test_clock_dates_what_was_before_it_was_set(before_s: float, after_s: float, right_ns: int) -> None:
    board = Machine()
    clock = board.clock()
    board.wait(before_s)
    moment_us, true_ns = clock.uptime_us(), right_ns
    board.wait(after_s)
    board.wall_ns = true_ns + int(after_s * S)  # a time server answers
    assert abs(clock.at(moment_us) - true_ns // 1000) <= 1


def test_clock_dates_nothing_before_1970() -> None:
    board = Machine(wall_s=1)
    assert board.clock().at(0) == 0


def test_machine_tells_what_a_clock_needs() -> None:
    assert isinstance(kernel_synced(), bool)
    assert kernel_id() == kernel_id()
    first, second = uptime_ns(), uptime_ns()
    assert 0 < first <= second
    clock = WallClock(trusted=False)
    assert clock.is_synced() in {True, False}
    assert clock.kernel == kernel_id()


def test_clock_may_be_asked_by_any_thread() -> None:
    board = Machine()
    clock = board.clock()
    answers: list[bool] = []

    def ask() -> None:
        answers.extend(clock.is_known() for _ in range(2_000))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    board.synced = True
    board.wait(2)
    for thread in threads:
        thread.join()
    assert clock.is_known()
    assert len(answers) == 8_000
