"""`sottovoce-demo`: broker, collector, console and nodes on this machine, from sound to a label on the screen."""

import argparse
import sys
import tempfile
import threading
import time
import webbrowser
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.live import Live
from rich.markup import escape

from broker.contract.errors import LinkError, SottovoceError, exit_with_one_line
from broker.local import LocalBroker
from broker.program import has_desktop, stop_on_signals
from deploy.demo.programs import COLLECTOR, Programs, places
from deploy.demo.report import Figures, figures, live_table

_SETTLE_S: Final = 3.0
_say = Console(stderr=True, highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo and return its exit code: 0 when nothing was lost and every program ran to the end."""
    arguments = _parser().parse_args()
    return exit_with_one_line("sottovoce-demo", lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sottovoce-demo", description="The whole of Sottovoce on this machine.")
    parser.add_argument("--seconds", type=_positive, help="stop by itself after this long (default: at Ctrl-C)")
    parser.add_argument("--nodes", type=_positive, default=3, help="nodes that replay recordings (default: 3)")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="replay these recordings, not the synthetic speech")
    parser.add_argument("--mic", action="store_true", help="add a node that listens to this machine's microphone")
    parser.add_argument("--port", type=_port, help="port of the web console (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the console in a browser")
    parser.add_argument("--broker", choices=("mosquitto", "iotcore"), help="default: Mosquitto where it is installed")
    parser.add_argument("--json", action="store_true", help="print one line of figures at the end")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        msg = f"{text!r} is not a positive whole number"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _port(text: str) -> int:
    port = _positive(text)
    if port > 65_535:  # noqa: PLR2004 -- the range of ports
        msg = f"{text} is not a port: 1 to 65535"
        raise argparse.ArgumentTypeError(msg)
    return port


def _run(arguments: argparse.Namespace) -> int:
    stop = stop_on_signals(insist=True)
    where = places(arguments.nodes, arguments.clips, microphone=arguments.mic)
    with tempfile.TemporaryDirectory(prefix="sottovoce-demo-") as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = LocalBroker(folder / "broker", [COLLECTOR, *(str(each.node) for each in where)], arguments.broker)
        programs = Programs(folder, broker)
        try:
            broker.start()
            _say.print(f"broker: {_in_words(broker, asked_for=arguments.broker)}")
            programs.start_collector()
            console = programs.start_console(arguments.port or 0)
            _say.print(f"console: {console}   (Ctrl-C stops everything)")
            for place in where:
                programs.start_node(place)
            if has_desktop() and not arguments.no_browser:
                webbrowser.open(console)
            complaints = _watch(programs, stop, arguments.seconds, quiet=arguments.json)
            programs.stop_nodes()
            _settle(programs, broker.kind)
            for words in programs.warnings():
                _say.print(f"[yellow]{escape(words)}[/]")
        finally:
            programs.stop()
            broker.stop()
        result = figures(programs.store, broker.kind)
    _print(result, as_json=arguments.json)
    is_silent = not result.stored and not stop.is_set()  # who interrupts at once has heard nothing yet
    if is_silent:
        _say.print("no event: a label needs some seconds of speech; give --seconds 10 or more, or louder recordings")
    return 1 if complaints or result.lost or result.duplicates or is_silent else 0


def _in_words(broker: LocalBroker, asked_for: str | None) -> str:
    if broker.kind == "mosquitto":
        return f"Mosquitto on 127.0.0.1:{broker.port}, with passwords and the production ACL"
    why = "" if asked_for else "Mosquitto is not installed, so "
    return f"{why}iotcore on 127.0.0.1:{broker.port}: enough for a look, but it has no ACL and forgets when it stops"


def _watch(programs: Programs, stop: threading.Event, seconds: int | None, *, quiet: bool) -> list[str]:
    """Show the nodes until told to stop or the time is over; return what went wrong."""
    complaints: list[str] = []
    began = time.monotonic()
    with Live(console=_say, refresh_per_second=2, transient=True) as live:
        while not stop.wait(0.5):
            for words in programs.ended():
                _say.print(f"[red]{escape(words)}[/]")
                complaints.append(words)
            if not programs.running_nodes:
                msg = "no node is left"
                raise LinkError(msg)
            elapsed = time.monotonic() - began
            if seconds is not None and elapsed >= seconds:
                break
            if not quiet:
                left = "" if seconds is None else f" of {seconds}"
                live.update(live_table(programs.store, f"{elapsed:.0f}{left} s"))
    return complaints


def _settle(programs: Programs, broker: str) -> None:
    """Wait until the collector has stored what the nodes delivered."""
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline:
        try:
            if figures(programs.store, broker).lost == 0:
                return
        except SottovoceError:
            pass
        time.sleep(0.1)


def _print(result: Figures, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
        return
    labels = ", ".join(f"{name} {count}" for name, count in result.labels.items())
    sys.stdout.write(
        f"published {result.published} events, stored {result.stored}, lost {result.lost}, "
        f"stored twice {result.duplicates}, delivered again {result.redelivered}, dead letters {result.dead_letters}\n"
        f"labels: {labels}\n"
        f"from sound to label: median {result.latency_ms['p50']} ms, 95 % within {result.latency_ms['p95']} ms\n"
    )


if __name__ == "__main__":
    sys.exit(main())
