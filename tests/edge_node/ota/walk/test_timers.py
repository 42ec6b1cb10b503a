"""What is to be done later."""

from typing import Any

from edge_node.ota.timers import Pause, Timers


def test_timers_do_what_is_due_once(world: Any) -> None:
    done: list[str] = []
    timers = Timers(world.watch.monotonic_s)
    assert timers.due_s is None
    first, second = (lambda: done.append("first")), (lambda: done.append("second"))
    timers.after(3, first)
    timers.after(2, second)
    assert timers.due_s == world.watch.mono_s + 2
    world.watch.go(2)
    timers.turn()
    assert done == ["second"]
    world.watch.go(1)
    timers.turn()
    timers.turn()
    assert done == ["second", "first"]
    assert timers.due_s is None


def test_timers_take_the_last_word_or_the_earliest(world: Any) -> None:
    timers, now_s = Timers(world.watch.monotonic_s), world.watch.mono_s

    def action() -> None:
        """Do nothing."""

    timers.within(5, action)
    timers.within(9, action)
    assert timers.due_s == now_s + 5
    timers.after(9, action)
    assert timers.due_s == now_s + 9
    timers.within(5, action)
    assert timers.due_s == now_s + 5
    timers.drop_all()
    assert timers.due_s is None


def test_timers_do_not_what_another_action_has_taken_back(world: Any) -> None:
    done: list[str] = []
    timers = Timers(world.watch.monotonic_s)

    def second() -> None:
        done.append("second")

    def first() -> None:
        done.append("first")
        timers.drop(second)
        timers.after(0, first)

    timers.after(0, first)
    timers.after(0, second)
    timers.turn()
    assert done == ["first"], "and what becomes due by it waits for the next turn"


def test_pause_doubles_up_to_a_quarter_of_an_hour() -> None:
    pause = Pause()
    assert [pause.next_s() for _ in range(8)] == [15, 30, 60, 120, 240, 480, 900, 900]
    pause.reset()
    assert pause.next_s() == 15
