"""What a run takes from the grid, as codecarbon estimates it: offline, without a file, and never at the run's expense.

codecarbon reads the processor's own energy counters where the system lets it (RAPL). Elsewhere it reckons with the
processor's rated power and the share of it that this process used; memory counts by its size. What its configuration
says of the machine's power is kept; what would ask a server or write a file is overruled.
"""

import logging
import tempfile
from functools import cache
from typing import Any, Final, Self

from broker.contract.errors import SettingsError
from training.fitting.results import Energy

__all__ = ["WORLD", "Meter", "check_country"]

log = logging.getLogger(__name__)

WORLD: Final = "world"
"""Stands for a country where none is named: codecarbon's average over all."""


class Meter:
    """Counts the energy used inside a `with`; whatever happens to the counting, what is inside goes on.

    `energy` is None until the end, and after it where nothing could be counted; one line is logged then.
    """

    energy: Energy | None = None

    def __init__(self, country: str | None) -> None:
        """Count for a country.

        Args:
            country: ISO 3166 alpha-3, whose mix of sources says how much CO2 a kilowatt-hour is; None: the world's.
        """
        self._country = country
        self._tracker: Any = None

    def __enter__(self) -> Self:
        """Begin to count. The first time in a process takes some seconds, to find out what the hardware is."""
        try:
            self._tracker = _tracker(self._country)
            self._tracker.start()
        except ModuleNotFoundError as error:
            _say(f"the package {error.name} is missing: pip install 'sottovoce[training]'")
        except Exception as error:  # noqa: BLE001 -- whatever the library meets, training does not depend on it
            _say(f"codecarbon failed ({error})")
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and leave the count in `energy`."""
        if self._tracker is None:
            return
        try:
            self._tracker.stop()
            counted = getattr(self._tracker, "final_emissions_data", None)
        except Exception as error:  # noqa: BLE001 -- as above
            _say(f"codecarbon failed ({error})")
            return
        if counted is None or not counted.energy_consumed > 0:  # codecarbon swallows its exceptions
            _say("codecarbon has no figure; --verbose shows what it met")
            return
        self.energy = Energy(
            kilowatt_hours=float(counted.energy_consumed),
            co2_kg=float(counted.emissions),
            country=self._country or WORLD,
            seconds=round(float(counted.duration), 1),
        )


def check_country(country: str) -> None:
    """Refuse a country whose mix of sources codecarbon does not know.

    Raises:
        SettingsError: it is unknown, or codecarbon is not installed.
    """
    try:
        from codecarbon.input import DataSource  # noqa: PLC0415 -- only who names a country waits for it
    except ModuleNotFoundError as error:
        msg = f"--country {country}: the package {error.name} is missing: pip install 'sottovoce[training]'"
        raise SettingsError(msg) from error
    known = DataSource().get_global_energy_mix_data()  # type: ignore[no-untyped-call]  # its types are incomplete
    if country in known:
        return
    meant = [
        code for code, mix in known.items() if country.casefold() in (code.casefold(), mix["country_name"].casefold())
    ]
    advice = f"did you mean {meant[0]}?" if meant else "give an ISO 3166 alpha-3 code such as DEU, or leave it out"
    msg = f"--country {country}: not among the {len(known)} whose electricity codecarbon knows; {advice}"
    raise SettingsError(msg)


def _tracker(country: str | None) -> Any:  # noqa: ANN401 -- codecarbon may be missing
    """Return codecarbon's tracker, which reads tables of its own package alone.

    Raises:
        Exception: whatever codecarbon meets.
    """
    logging.getLogger("codecarbon").disabled = not log.isEnabledFor(logging.DEBUG)  # it has a handler of its own
    from codecarbon import OfflineEmissionsTracker  # noqa: PLC0415 -- takes a second

    return OfflineEmissionsTracker(
        country_iso_code=country,
        country_2letter_iso_code=None,
        region=None,
        cloud_provider=None,
        cloud_region=None,
        electricitymaps_api_token=None,  # or it would ask that service
        emissions_endpoint=None,
        output_methods=[],
        output_handlers=[],
        output_dir=tempfile.gettempdir(),  # where a gadget of old Macs writes its log
        tracking_mode="process",
        allow_multiple_runs=True,  # its lock would take over Ctrl-C
        log_level="warning",
    )


@cache
def _say(reason: str) -> None:
    """Log a reason once, not for every fold and seed."""
    log.warning("energy is not counted: %s", reason)
