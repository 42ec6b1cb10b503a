"""Appointments of a fleet: kept in order, and late ones are told."""

from edge_node.simulate.timetable import Timetable


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_timetable_does_what_is_due_in_order() -> None:
    clock, done = Clock(), list[str]()
    times = Timetable(clock)
    times.after(3, lambda: done.append("third"))
    times.after(1, lambda: done.append("first"))
    times.after(2, lambda: done.append("second")).cancel()
    times.after(9, lambda: done.append("later"))
    clock.now_s += 5
    times.turn()
    assert done == ["first", "third"]
    assert times.wait_s == 4.0


def test_timetable_leaves_what_becomes_due_to_the_next_turn() -> None:
    clock, done = Clock(), list[int]()
    times = Timetable(clock)

    def again() -> None:
        done.append(len(done))
        times.after(0, again)

    times.after(0, again)
    times.turn()
    assert done == list(range(500))  # the bound of a turn: appointments without end would keep the sockets waiting
    assert times.wait_s == 0.0


def test_timetable_tells_how_late_it_was() -> None:
    clock = Clock()
    times = Timetable(clock)
    assert times.late_ms(0.95) == 0.0
    for number in range(100):
        times.at(100.0 + number, lambda: None)
        clock.now_s = 100.0 + number + (0.25 if number >= 90 else 0.001)
        times.turn()
    assert times.late_ms(0.5) < 2
    assert 249 <= times.late_ms(0.95) <= 251


def test_timetable_without_appointments_waits_for_none() -> None:
    times = Timetable(Clock())
    times.after(1, lambda: None).cancel()
    assert times.wait_s is None
