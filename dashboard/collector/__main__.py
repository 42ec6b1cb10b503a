"""`sottovoce-collector`: reads its settings, builds the parts, and runs until told to stop."""

import argparse
import contextlib
import logging
import sys
from pathlib import Path

from broker.contract.errors import SettingsError, exit_with_one_line
from broker.program import configure_logging, stop_on_signals
from broker.settings import read_settings, secret
from dashboard.collector.consumer import Consumer
from dashboard.collector.records import Store
from dashboard.collector.settings import CollectorSettings, SqliteSettings

_log = logging.getLogger(__name__)


def main() -> int:
    """Run the program and return its exit code (docs/node.md lists them)."""
    parser = argparse.ArgumentParser(prog="sottovoce-collector", description=__doc__.split(": ", 1)[1])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="collect until told to stop")
    run.add_argument("--config", type=Path, required=True, help="settings file, TOML")
    run.add_argument("--verbose", action="store_true", help="log more")
    arguments = parser.parse_args()
    configure_logging(verbose=arguments.verbose)
    return exit_with_one_line("sottovoce-collector", lambda: _run(arguments.config))


def _run(config: Path) -> int:
    settings = read_settings(config, CollectorSettings)
    store = _open_store(settings)
    try:
        group = settings.group if settings.shared else None
        consumer = Consumer(settings.broker, settings.name, group, store, ready=_say_ready)
        consumer.run(stop_on_signals())
    finally:
        store.close()
    totals = consumer.totals
    _log.info("stored %d, redelivered %d, dead letters %d", totals.stored, totals.redelivered, totals.dead_letters)
    return 0


def _say_ready() -> None:
    """Tell whoever started this program, on stdout, that no message is without a subscriber any more."""
    with contextlib.suppress(OSError, AttributeError):  # whoever started us may have gone, or never listened
        sys.stdout.write("ready\n")
        sys.stdout.flush()


def _open_store(settings: CollectorSettings) -> Store:
    if settings.influxdb is not None:
        if settings.sqlite is not None:
            msg = "name one store: [sqlite] or [influxdb], not both"
            raise SettingsError(msg)
        token = secret(settings.influxdb.token_env)
        if token is None:
            msg = f"influxdb: set {settings.influxdb.token_env} (or {settings.influxdb.token_env}_FILE) to a token"
            raise SettingsError(msg)
        from dashboard.collector.influx_store import InfluxStore  # noqa: PLC0415 -- 1 s and 50 MiB of imports

        return InfluxStore(settings.influxdb, token)
    from dashboard.collector.sqlite_store import SqliteStore  # noqa: PLC0415 -- only one store is needed

    return SqliteStore(Path((settings.sqlite or SqliteSettings()).path))


if __name__ == "__main__":
    sys.exit(main())
