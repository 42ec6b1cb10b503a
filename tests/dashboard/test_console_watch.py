"""Readings are shared by all visitors, and are not taken more often than they should be."""

import asyncio
import threading
import time

import pytest

from broker.contract.errors import StoreError
from dashboard.console.watch import Paced


class Counted:
    """A reading that counts how often it is taken."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.count = 0
        self.threads: set[str] = set()
        self._takes_s = takes_s

    def __call__(self) -> int:
        self.count += 1
        self.threads.add(threading.current_thread().name)
        time.sleep(self._takes_s)  # what a slow store does
        return self.count


def test_visitors_share_one_reading() -> None:
    read = Counted(takes_s=0.02)
    paced = Paced(read, every_s=60)

    async def many() -> list[int]:
        return await asyncio.gather(*(paced.get() for _ in range(20)))

    assert asyncio.run(many()) == [1] * 20
    assert read.threads == {"sottovoce-reading"}


def test_a_reading_that_is_due_is_taken_again() -> None:
    read = Counted()
    paced = Paced(read, every_s=0)

    async def twice() -> tuple[int, int]:
        first = await paced.get()
        deadline = time.monotonic() + 5
        while (second := await paced.get()) == first:
            assert time.monotonic() < deadline
        return first, second

    assert asyncio.run(twice()) == (1, 2)


def test_a_slow_reading_is_taken_less_often() -> None:
    read = Counted(takes_s=0.1)
    paced = Paced(read, every_s=0)

    async def for_a_while() -> None:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            await paced.get()
            await asyncio.sleep(0.01)  # visitors ask every now and then

    asyncio.run(for_a_while())
    assert read.count == 1


@pytest.mark.parametrize("error", [StoreError("the disk is gone"), ZeroDivisionError("a defect")])
def test_a_failed_reading_is_raised_and_the_next_one_succeeds(error: Exception) -> None:
    failures = [error]

    def read() -> int:
        if failures:
            raise failures.pop()
        return 7

    paced = Paced(read, every_s=0)

    async def ask() -> int:
        with pytest.raises(type(error), match=str(error)):
            await paced.get()
        deadline = time.monotonic() + 5
        while True:
            try:
                return await paced.get()
            except StoreError:
                assert time.monotonic() < deadline

    assert asyncio.run(ask()) == 7
