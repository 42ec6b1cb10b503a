"""`sottovoce-console`: shows nodes, emotions and latency in a browser, and tells nodes what an operator wants."""

import argparse
import logging
import signal
import sys
import webbrowser
from contextlib import closing
from pathlib import Path
from types import FrameType

from broker.contract.errors import SettingsError, exit_with_one_line
from broker.program import configure_logging, has_desktop
from broker.settings import read_settings, secret
from dashboard.console.orders import add_commands
from dashboard.console.readings import NoStoreYetError, Reader
from dashboard.console.settings import ConsoleSettings
from dashboard.console.sqlite_reader import SqliteReader
from dashboard.console.watch import now_us

_log = logging.getLogger(__name__)


def main() -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="sottovoce-console", description=__doc__.split(": ", 1)[1])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="serve the console until told to stop")
    run.add_argument("--config", type=Path, help="settings file, TOML; docs/console.md has an example")
    run.add_argument("--store", type=Path, help="the collector's SQLite file, instead of what the settings name")
    run.add_argument("--host", help="address to serve on; 127.0.0.1 unless the settings name another")
    run.add_argument("--port", type=int, help="port to serve on, 0: any free one; 8080 unless the settings say else")
    run.add_argument("--no-browser", action="store_true", help="do not open a browser")
    run.add_argument("--verbose", action="store_true", help="log more")
    run.set_defaults(run=_run)
    add_commands(commands)
    arguments = parser.parse_args()
    configure_logging(verbose=arguments.verbose)
    signal.signal(signal.SIGTERM, _leave)
    return exit_with_one_line("sottovoce-console", lambda: int(arguments.run(arguments)))


def _run(arguments: argparse.Namespace) -> int:
    settings = ConsoleSettings() if arguments.config is None else read_settings(arguments.config, ConsoleSettings)
    host = settings.host if arguments.host is None else arguments.host
    port = settings.port if arguments.port is None else arguments.port
    if not 0 <= port <= 65_535:  # noqa: PLR2004 -- the range of ports
        msg = f"--port {port}: 0 to 65535"
        raise SettingsError(msg)
    with closing(_reader(settings, arguments.store)) as reader:
        names = frozenset((host.lower(), *(name.lower() for name in settings.names)))
        return _serve(reader, host, port, names, opens_browser=not arguments.no_browser and has_desktop())


def _serve(reader: Reader, host: str, port: int, names: frozenset[str], *, opens_browser: bool) -> int:
    try:
        reader.live(now_us())
    except NoStoreYetError as error:
        _log.warning("%s; the console waits for it", error)
    from dashboard.console.server import listen, serve  # noqa: PLC0415 -- 1 s of imports, after mistakes are told

    listener = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}/"

    def ready() -> None:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        if opens_browser:
            webbrowser.open(url)

    serve(reader, listener, names, ready)
    return 0


def _reader(settings: ConsoleSettings, store: Path | None) -> Reader:
    if store is not None or settings.influxdb is None:
        return SqliteReader(store or Path(settings.sqlite.path))
    from dashboard.console.influx_reader import InfluxReader  # noqa: PLC0415 -- only one store is needed

    return InfluxReader(settings.influxdb.url, settings.influxdb.bucket, secret(settings.influxdb.token_env))


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Exit with 0 on SIGTERM; while the server runs it takes the signal itself first, and ends in order."""
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
