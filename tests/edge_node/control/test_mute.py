"""Who keeps a node from listening, and that none of them undoes another.

The contact and the light are gpiozero's own simulated pins: there is no board here with real ones.
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from broker.contract.condition import MuteSource
from broker.contract.errors import SettingsError
from edge_node.clock import WallClock
from edge_node.control.mute import Mute, MuteSettings
from edge_node.control.state import State, StateFile

BUTTON, COMMAND, QUIET, UNREADABLE = (
    MuteSource.BUTTON,
    MuteSource.COMMAND,
    MuteSource.QUIET_HOURS,
    MuteSource.UNREADABLE,
)
NIGHT = MuteSettings(quiet_hours=("22:00-06:30",), time_zone="Europe/Berlin")
Start = Callable[..., Mute]


class Wall:
    """What the clock shows, and whether the kernel believes it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
        self.synced = True
        self.up_ns = 0

    def clock(self) -> WallClock:
        return WallClock(
            trusted=False,
            ask_kernel=lambda: self.synced,
            wall_ns=lambda: int(self.now.timestamp() * 1e9),
            uptime_ns=self._later,
            kernel="one",
        )

    def _later(self) -> int:
        self.up_ns += 2_000_000_000  # the clock asks the kernel once a second
        return self.up_ns


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk" / "state.json"


@pytest.fixture
def start(path: Path, wall: Wall, request: pytest.FixtureRequest) -> Start:
    """Start a node's muting; the one before ends as if it was killed."""
    files: list[StateFile] = []

    def begin(settings: MuteSettings = MuteSettings()) -> Mute:  # noqa: B008 -- frozen
        for each in files:
            each.close()
        files.append(StateFile(path))
        request.addfinalizer(files[-1].close)
        mute = Mute(settings, files[-1], wall.clock())
        request.addfinalizer(mute.close)
        return mute

    return begin


def test_node_listens_unless_something_mutes_it(start: Start) -> None:
    mute = start()
    assert not mute.is_muted()
    assert mute.by() == ()


def test_mute_by_command_outlasts_the_program_and_ends_by_command(start: Start) -> None:
    mute = start()
    assert mute.set(muted=True) == "muted"
    assert (mute.is_muted(), mute.by()) == (True, (COMMAND,))
    mute = start()
    assert mute.by() == (COMMAND,)
    assert mute.set(muted=False) == "no longer muted"
    assert not mute.is_muted()
    assert not start().is_muted()


def test_mute_that_the_disk_does_not_take_holds_at_once_and_says_so(start: Start, path: Path) -> None:
    mute = start()
    path.parent.rename(path.parent.with_name("away"))
    words = mute.set(muted=True)
    assert mute.is_muted()
    assert words.startswith(f"muted, but only until this program ends: state_file {path}: No such file or directory")
    words = mute.set(muted=False)
    assert not mute.is_muted()
    assert words.startswith("no longer muted, but only until this program ends: ")


def test_node_that_cannot_tell_whether_it_was_muted_is_muted_until_it_is_told(start: Start, path: Path) -> None:
    path.write_bytes(b"damaged")
    mute = start()
    assert mute.by() == (UNREADABLE,)
    assert mute.set(muted=False) == "no longer muted"
    assert not mute.is_muted()
    assert not start().is_muted()
    path.write_bytes(b"damaged")
    mute = start()
    assert mute.set(muted=True) == "muted"
    assert mute.by() == (COMMAND,)
    assert start().by() == (COMMAND,)


def test_command_does_not_end_quiet_hours_and_says_until_when(start: Start, wall: Wall) -> None:
    mute = start(NIGHT)
    assert not mute.is_muted()
    wall.now = datetime(2026, 1, 5, 21, 0, tzinfo=UTC)  # 22:00 in Berlin
    assert mute.by() == (QUIET,)
    mute.set(muted=True)
    assert mute.by() == (COMMAND, QUIET)
    assert mute.set(muted=False) == "still muted by quiet hours until 06:30"
    assert mute.is_muted()
    wall.now = datetime(2026, 1, 6, 5, 30, tzinfo=UTC)
    assert not mute.is_muted()


def test_quiet_hours_are_muted_until_somebody_knows_the_hour_and_not_again(start: Start, wall: Wall) -> None:
    """A clock that was right once stays good enough for the hour, when the time server is lost."""
    wall.synced = False
    mute = start(NIGHT)
    assert mute.by() == (QUIET,)
    assert mute.set(muted=False) == (
        "still muted by quiet hours (nobody knows the hour before the clock is synchronised)"
    )
    assert not start().is_muted(), "the hour matters to quiet hours alone"
    mute = start(NIGHT)
    wall.synced = True
    assert not mute.is_muted()
    wall.synced = False
    assert not mute.is_muted()


def test_what_mutes_is_logged_when_it_changes(start: Start, wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    mute = start(NIGHT)
    with caplog.at_level(logging.INFO, "edge_node.control.mute"):
        for hour in (12, 20, 21, 22, 23):
            wall.now = wall.now.replace(hour=hour)
            mute.is_muted()
        mute.set(muted=True)
        wall.now = datetime(2026, 1, 6, 12, 0, tzinfo=UTC)
        mute.is_muted()
        mute.set(muted=False)
    assert [record.message for record in caplog.records] == [
        "muted by quiet hours until 06:30",
        "muted by command and quiet hours until 06:30",
        "muted by command",
        "no longer muted",
    ]


class Between(StateFile):
    """A state that another thread changes right after it was looked at: a command to mute comes."""

    @property
    def state(self) -> State:
        before = super().state
        if not self.is_known:
            self.change(lambda state: replace(state, muted=True), decides=True)
        return before


def test_node_is_muted_in_every_moment_between_unreadable_and_muted_by_command(path: Path, wall: Wall) -> None:
    path.write_bytes(b"damaged")
    file = Between(path)
    mute = Mute(MuteSettings(), file, wall.clock())
    assert mute.by() == (UNREADABLE,)
    assert mute.by() == (COMMAND,)
    file.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quiet_hours": ("22-6",)}, "mute.quiet_hours '22-6': write '22:00-06:30'"),
        ({"time_zone": "Europe/Nowhere"}, "mute.time_zone 'Europe/Nowhere': no such time zone here"),
        ({"time_zone": "../etc/passwd"}, "mute.time_zone '../etc/passwd': no such time zone here"),
        ({"time_zone": ""}, "mute.time_zone '': no such time zone here"),
        ({"gpio_led_pin": 4}, "mute.gpio_led_pin: goes with mute.gpio_pin"),
    ],
)
def test_mistake_in_the_settings_names_the_key(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        MuteSettings(**settings)
    assert str(caught.value).startswith(words)


@pytest.fixture
def pins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A board's pins, simulated by gpiozero."""
    gpiozero = pytest.importorskip("gpiozero", reason="gpiozero is not installed: pip install 'sottovoce[gpio]'")
    mock = pytest.importorskip("gpiozero.pins.mock")
    board = mock.MockFactory()
    monkeypatch.setattr(gpiozero.Device, "pin_factory", board)
    yield board
    board.reset()


@pytest.mark.parametrize(("when", "closed"), [("open", False), ("closed", True)])
def test_switch_mutes_by_its_position_and_no_command_undoes_it(
    pins: Any, start: Start, when: Any, *, closed: bool
) -> None:
    mute = start(MuteSettings(gpio_pin=17, gpio_mutes_when=when, gpio_led_pin=27))
    contact, light = pins.pin(17), pins.pin(27)

    def turn(*, to_closed: bool) -> None:
        (contact.drive_low if to_closed else contact.drive_high)()

    for _ in range(2):
        turn(to_closed=closed)
        assert mute.by() == (BUTTON,)
        assert light.state == 1
        assert mute.set(muted=False) == "still muted by button"
        turn(to_closed=not closed)
        assert not mute.is_muted()
        assert light.state == 0
    mute.set(muted=True)
    assert light.state == 1
    mute.close()


def test_switch_that_is_torn_off_mutes(pins: Any, start: Start) -> None:
    assert start(MuteSettings(gpio_pin=17)).by() == (BUTTON,), "the pull-up shows an open contact"
    assert pins.pin(17).pull == "up"


def test_switch_that_can_no_longer_be_read_mutes_and_is_said_once(
    pins: Any, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    mute = start(MuteSettings(gpio_pin=17))
    pins.pin(17).drive_low()
    assert not mute.is_muted()
    assert mute._button is not None
    mute._button._contact.close()
    for _ in range(3):
        assert mute.by() == (BUTTON,)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the switch cannot be read, so this node is muted until it can" in record.message


def test_push_button_mutes_and_ends_it_and_outlasts_the_program(
    pins: Any, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = MuteSettings(gpio_pin=17, gpio_kind="push")
    pushed = threading.Event()
    push = Mute.push

    def told(mute: Mute) -> None:
        push(mute)
        pushed.set()

    monkeypatch.setattr(Mute, "push", told)

    def press() -> None:
        pushed.clear()
        pins.pin(17).drive_low()
        assert pushed.wait(5)
        pins.pin(17).drive_high()

    mute = start(settings)
    assert not mute.is_muted()
    press()
    assert mute.by() == (BUTTON,)
    assert mute.set(muted=False) == "still muted by button"
    mute.close()
    mute = start(settings)
    assert mute.by() == (BUTTON,)
    press()
    assert not mute.is_muted()
    mute.close()
    assert not start(settings).is_muted()


def test_contact_without_a_board_is_an_error_at_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    gpiozero = pytest.importorskip("gpiozero", reason="gpiozero is not installed: pip install 'sottovoce[gpio]'")
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    if Path("/proc/device-tree/model").exists():
        pytest.skip("this may be a Raspberry Pi, which has pins")
    with pytest.raises(SettingsError, match=r"^mute\.gpio_pin 17: .*name a free pin of this board"):
        start(MuteSettings(gpio_pin=17))


def test_contact_and_light_on_one_pin_are_an_error_and_let_the_pin_go(pins: Any, start: Start) -> None:
    with pytest.raises(SettingsError, match=r"^mute\.gpio_led_pin 17: "):
        start(MuteSettings(gpio_pin=17, gpio_led_pin=17))
    assert start(MuteSettings(gpio_pin=17)).is_muted()
    assert pins.pin(17).pull == "up"


def test_contact_without_the_package_is_an_error_at_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    with pytest.raises(SettingsError, match=r"^mute\.gpio_pin 17 needs the package gpiozero: pip install"):
        start(MuteSettings(gpio_pin=17))
