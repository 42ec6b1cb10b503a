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

from broker.contract.errors import LinkError, SottovoceError, exit_with_one_line
from broker.local import LocalBroker, free_port
from broker.program import stop_on_signals
from deploy.demo.programs import COLLECTOR, Programs, places
from deploy.demo.report import Figures, figures, live_table

_SETTLE_S: Final = 3.0
_say = Console(stderr=True, highlight=False)


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
    parser.add_argument("--port", type=_positive, help="port of the web console (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the console in a browser")
    parser.add_argument("--broker", choices=("mosquitto", "iotcore"), help="default: Mosquitto where it is installed")
    parser.add_argument("--json", action="store_true", help="print one line of figures at the end, and nothing else")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        msg = f"{text!r} is not a positive whole number"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    stop = stop_on_signals()
    where = places(arguments.nodes, arguments.clips, microphone=arguments.mic)
    with tempfile.TemporaryDirectory(prefix="sottovoce-demo-") as name:
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = LocalBroker(folder / "broker", [COLLECTOR, *(str(each.node) for each in where)], arguments.broker)
        programs = Programs(folder, broker)
        try:
            broker.start()
            _say.print(f"broker: {_in_words(broker)}")
            programs.start_collector()
            port = arguments.port or free_port()
            programs.start_console(port)
            for place in where:
                programs.start_node(place)
            _say.print(f"console: http://127.0.0.1:{port}/   (Ctrl-C stops everything)")
            if not arguments.no_browser:
                threading.Timer(2.0, webbrowser.open, [f"http://127.0.0.1:{port}/"]).start()
            complaints = _watch(programs, stop, arguments.seconds, quiet=arguments.json)
            programs.stop_nodes()
            _settle(programs, broker.kind)
        finally:
            programs.stop()
            broker.stop()
        result = figures(programs.store, broker.kind)
    _print(result, as_json=arguments.json)
    is_silent = not result.stored and not stop.is_set()  # who interrupts at once has heard nothing yet
    return 1 if complaints or result.lost or result.duplicates or is_silent else 0


def _in_words(broker: LocalBroker) -> str:
    if broker.kind == "mosquitto":
        return f"Mosquitto on 127.0.0.1:{broker.port}, with passwords and the production ACL"
    return (
        f"iotcore on 127.0.0.1:{broker.port}, for Mosquitto is not installed: enough for a look, "
        "but it keeps nothing when it stops and has no ACL"
    )


def _watch(programs: Programs, stop: threading.Event, seconds: int | None, *, quiet: bool) -> list[str]:
    """Show the nodes until told to stop or the time is over; return what went wrong."""
    complaints: list[str] = []
    began = time.monotonic()
    with Live(console=_say, refresh_per_second=2, transient=True) as live:
        while not stop.wait(0.5):
            for words in programs.ended():
                _say.print(f"[red]{words}[/]")
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
