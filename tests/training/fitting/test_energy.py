import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.contract.errors import SettingsError
from training.fitting.energy import WORLD, Meter, _say, check_country

Watch = Callable[[], list[str]]


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    """What is looked up, connected to or written, but by threads that other tests left behind.

    A hook cannot be taken out again, so it is idled.
    """
    seen: list[str] = []
    active = [True]
    others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}

    def hook(event: str, args: tuple[object, ...]) -> None:
        if not active[0] or threading.get_ident() in others:
            return
        if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}:
            seen.append(f"{event} {args}")
        if event == "open" and isinstance(args[0], str) and isinstance(args[1], str) and set(args[1]) & set("wax+"):
            seen.append(f"{event} {args}")

    sys.addaudithook(hook)
    yield lambda: seen
    active[0] = False


@pytest.fixture(autouse=True)
def told_anew() -> None:
    _say.cache_clear()


def _work(seconds: float = 0.3) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sum(range(1000))


def test_energy_is_counted_without_network_file_or_word(
    watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".codecarbon.config").write_text(
        "[codecarbon]\nelectricitymaps_api_token = x\nemissions_endpoint = http://127.0.0.1:9\nsave_to_file = true\n"
        "save_to_api = true\ncountry_iso_code = FRA\n"
    )
    monkeypatch.setenv("CODECARBON_LOG_LEVEL", "debug")
    watch().clear()
    with Meter("DEU") as meter:
        _work()
    assert watch() == []
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == [".codecarbon.config"]
    assert meter.energy is not None
    assert meter.energy.country == "DEU"
    assert 0.3 <= meter.energy.seconds < 5
    watts = meter.energy.kilowatt_hours * 3.6e6 / meter.energy.seconds
    assert 0.5 < watts < 2000
    assert 0.2 < meter.energy.co2_kg / meter.energy.kilowatt_hours < 0.6  # Germany's mix, kg per kWh


def test_energy_without_a_country_has_the_worlds_mix(watch: Watch) -> None:
    watch().clear()
    with Meter(None) as meter:
        _work(0.1)
    assert watch() == []
    assert meter.energy is not None
    assert meter.energy.country == WORLD
    assert meter.energy.co2_kg / meter.energy.kilowatt_hours == pytest.approx(0.475)


def test_energy_of_work_that_fails_is_counted_and_the_failure_passes() -> None:
    meter = Meter(None)

    def fail() -> None:
        with meter:
            _work(0.1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert meter.energy is not None


def test_energy_without_codecarbon_is_none_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    meters = [Meter("DEU"), Meter(None)]
    for meter in meters:
        with meter:
            pass
    assert [meter.energy for meter in meters] == [None, None]
    assert [record.getMessage() for record in caplog.records] == [
        "energy is not counted: the package codecarbon is missing: pip install 'sottovoce[training]'"
    ]


def test_energy_that_cannot_be_measured_is_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODECARBON_MEASURE_POWER_SECS", "now and then")
    with Meter(None) as meter:
        done = True
    assert done
    assert meter.energy is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "energy is not counted" in caplog.text
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("country", "said"),
    [
        ("deu", "did you mean DEU?"),
        ("Germany", "did you mean DEU?"),
        ("DE", "give an ISO 3166 alpha-3 code such as DEU"),
        ("", "give an ISO 3166 alpha-3 code such as DEU"),
    ],
)
def test_country_that_is_unknown_is_refused(country: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_country(country)
    assert f"--country {country}: not among the" in str(refused.value)
    assert said in str(refused.value)


def test_country_that_is_known_is_taken() -> None:
    check_country("DEU")


def test_country_without_codecarbon_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon.input", None)
    with pytest.raises(SettingsError, match=r"--country DEU: the package codecarbon.* is missing: pip install"):
        check_country("DEU")
