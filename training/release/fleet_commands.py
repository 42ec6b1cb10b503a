"""What the commands that look at the fleet do: a rollout that is controlled, `watch` and `rollback`."""

import argparse
import sys
import threading

from broker.contract.errors import SettingsError
from broker.program import stop_on_signals
from broker.settings import BrokerSettings
from training.release.controller import Controller, Outcome
from training.release.document import Document
from training.release.repository import Repository
from training.release.rollback import send_back
from training.release.screen import open_screen
from training.release.show import after_abort, open_console, say
from training.release.watch import open_watch

__all__ = ["attend", "rollback", "watch"]

_EXIT_CODES = {Outcome.DONE: 0, Outcome.ABORTED: 1, Outcome.REPLACED: 1, Outcome.DETACHED: 130}


def attend(args: argparse.Namespace, repository: Repository) -> int:
    """Stay with a rollout whose first phase is signed, unless nobody is to."""
    broker = repository.settings.watch
    go_on = f"sottovoce-release watch --control --channel {args.channel}"
    if args.detach:
        say(open_console(), f"nobody steps through the phases or aborts, until: {go_on}")
        return 0
    if broker is None:
        say(open_console(), f"nobody steps through the phases or aborts: {repository.files.settings} names no [watch]")
        return 0
    return _control(Document(repository.files.folder, repository.ring, args.channel), broker, args.release)


def watch(args: argparse.Namespace, repository: Repository) -> int:
    """Show a rollout; control it, if that is asked for.

    Raises:
        SettingsError: the settings do not say where to watch, or the options do not go together.
    """
    broker = repository.settings.watch
    if broker is None:
        msg = f"{repository.files.settings}: names no [watch], the broker to watch at as the user `watcher`"
        raise SettingsError(msg)
    if args.once and args.control:
        msg = "--once looks, and --control stays; choose one of them"
        raise SettingsError(msg)
    document = Document(repository.files.folder, repository.ring, args.channel)
    if args.control:
        release = document.read().release
        document.unlock()
        return _control(document, broker, release, as_json=args.json)
    stop = threading.Event() if args.once else stop_on_signals()
    with open_watch(broker) as watching, open_screen(as_json=args.json) as screen:
        controller = Controller(watching, document, screen, acts=False)
        if args.once:
            controller.look(stop)
        else:
            controller.run(stop)
    return 0


def rollback(args: argparse.Namespace, repository: Repository) -> int:
    """Tell one node to go back, and print what it answers.

    Raises:
        LinkError: the broker cannot be reached, or refuses.
        SettingsError: the settings name no broker.
    """
    if repository.settings.broker is None:
        msg = f"{repository.files.settings}: names no [broker] to send the command by"
        raise SettingsError(msg)
    answer = send_back(repository.settings.broker, args.node)
    if isinstance(answer, str):
        sys.stderr.write(f"sottovoce-release: {answer}\n")
        return 1
    if not answer.done:
        sys.stderr.write(f"sottovoce-release: {args.node} refuses: {answer.words}\n")
        return 1
    say(open_console(), f"{args.node}: {answer.words}")
    return 0


def _control(document: Document, broker: BrokerSettings, release: str, *, as_json: bool = False) -> int:
    stop = stop_on_signals()
    with open_watch(broker) as watching, open_screen(as_json=as_json) as screen:
        end = Controller(watching, document, screen, release=release).run(stop)
    screen.say(end.words)
    if end.outcome is Outcome.ABORTED:
        screen.say(after_abort(document.channel))
    return _EXIT_CODES[end.outcome]
